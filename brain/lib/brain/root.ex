defmodule Brain.Root do
  @moduledoc """
  The root of the program's processes. It restarts nothing on which rooms depend.

      Brain.Root
      ├── Brain.Observers    the log's sink and the metrics page; restarted
      ├── Brain.Leash        only with --until-stdin-ends; its end ends the VM
      └── Brain.Node         its end ends the VM

  `Brain.Node` restarts its own processes and gives up after three restarts in 30 s. A restart of the node here would hide
  that: the two budgets multiply. So the node and the leash are *significant* children: when one of them ends by itself, for
  whatever reason, the root ends, and with it the application and the VM (`Brain.Application`).
  """

  @behaviour :supervisor

  alias Brain.{Leash, Node, Observers}

  # `Brain.Observers` ends only if it is killed, and starts without failing; so this bound is never met, and its end never
  # ends the node.
  @restarts_max 1_000_000

  @doc "Starts the observers alone; `start_leash/1` and `start_node/1` add the rest."
  @spec start_link(Observers.options()) :: Supervisor.on_start()
  def start_link(observers), do: :supervisor.start_link({:local, __MODULE__}, __MODULE__, observers)

  @doc "Adds the leash."
  @spec start_leash(map) :: Supervisor.on_start_child()
  def start_leash(options) do
    significant(%{id: Leash, start: {Leash, :start_link, [options]}, type: :worker, shutdown: 500})
  end

  @doc "Adds the node."
  @spec start_node(Node.options()) :: Supervisor.on_start_child()
  def start_node(options) do
    significant(%{id: Node, start: {Node, :start_link, [options]}, type: :supervisor, shutdown: :infinity})
  end

  defp significant(spec) do
    # The specification in an error holds passwords' functions and nothing that helps.
    case :supervisor.start_child(__MODULE__, Map.merge(spec, %{restart: :temporary, significant: true})) do
      {:error, {reason, spec}} when is_tuple(spec) and elem(spec, 0) == :child -> {:error, reason}
      result -> result
    end
  end

  @impl true
  def init(observers) do
    flags = %{strategy: :one_for_one, intensity: @restarts_max, period: 1, auto_shutdown: :any_significant}
    {:ok, {flags, [Observers.child_spec(observers)]}}
  end
end
