defmodule Brain.Bus do
  @moduledoc """
  The names of a node's processes: a Registry, started when nothing of an earlier one is left.

  A Registry's supervisor that is killed leaves its partition behind for a moment: that one sees the end, reports it, and
  only then gives its name back. A start in that moment fails with `:already_started`, and the node's supervisor, which
  tries again at once, would spend all its restarts on one death. So a start waits for the end of what stands in its way.
  """

  # The longest wait for the end of an earlier one. It is on its way already.
  @limit_ms 5000

  @doc "For a supervisor."
  @spec child_spec(atom) :: Supervisor.child_spec()
  def child_spec(bus), do: %{id: bus, start: {__MODULE__, :start_link, [bus]}, type: :supervisor}

  @doc "Starts it under this name."
  @spec start_link(atom) :: {:ok, pid} | {:error, term}
  def start_link(bus), do: start_link(bus, System.monotonic_time(:millisecond) + @limit_ms)

  defp start_link(bus, deadline) do
    with {:error, {:shutdown, {:failed_to_start_child, _, {:already_started, left}}}} = error <-
           Registry.start_link(keys: :unique, name: bus) do
      if ended?(left, deadline), do: start_link(bus, deadline), else: error
    end
  end

  defp ended?(process, deadline) do
    monitor = Process.monitor(process)

    receive do
      {:DOWN, ^monitor, :process, _, _} -> true
    after
      max(deadline - System.monotonic_time(:millisecond), 0) ->
        Process.demonitor(monitor, [:flush])
        false
    end
  end
end
