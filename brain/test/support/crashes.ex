defmodule Brain.Crashes do
  @moduledoc """
  Ways for a process to crash with a user's text in all that a report could show: mailbox, state, last message, reason,
  exception, arguments on the stack, a child's arguments, a task's closure.
  """

  use GenServer

  # What must never be seen; whoever looks for it looks for its other forms, too.
  @text "THE-USERS-TEXT"

  @doc "The text that no report may show."
  @spec text() :: binary
  def text, do: @text

  @doc "Each kind with what its line must say."
  @spec kinds() :: [{atom, Regex.t()}]
  def kinds do
    [
      raise: ~r/%RuntimeError\{\}/,
      badmatch: ~r/:badmatch.*<<14 bytes>>/,
      case_clause: ~r/:case_clause/,
      function_clause: ~r/Brain\.Crashes\.only_one\/1/,
      exit: ~r/Brain\.Crashes/,
      throw: ~r/:bad_return_value/,
      charlist: ~r/'charlist of 14'/,
      call: ~r/:noproc/,
      init: ~r/supervisor.*Brain\.Crashes/,
      cast: ~r/Brain\.Crashes/,
      task: ~r/Task/,
      spawned: ~r/Error in process/,
      jetstream: ~r/a call to JetStream crashed/
    ]
  end

  @doc "Crashes in one of these ways; returns when it is over."
  @spec crash(atom) :: :ok
  def crash(:init) do
    {:ok, top} = DynamicSupervisor.start_link(strategy: :one_for_one, max_restarts: 0)
    Process.unlink(top)
    child = %{id: :crash, start: {__MODULE__, :start_link, [{:fail, @text}]}, restart: :permanent}
    {:error, _} = DynamicSupervisor.start_child(top, child)
    {:ok, child} = DynamicSupervisor.start_child(top, %{child | start: {__MODULE__, :start_link, [@text]}})
    # It tells of its child, and ends with it.
    gone(top, fn -> send(child, {:raise, @text}) end)
  end

  def crash(:task) do
    text = @text
    task = spawn(fn -> Task.await(Task.async(fn -> only_one(%{text: text}) end)) end)
    gone(task, fn -> :ok end)
  end

  # The VM itself reports this one, by a process of its own, and perhaps after the crashed one is gone.
  def crash(:spawned) do
    :ok = :logger.add_handler(:awaits_the_vm, __MODULE__, %{config: %{pid: self()}})
    gone(spawn(__MODULE__, :only_one, [@text]), fn -> :ok end)

    receive do
      :the_vm_reported -> :ok
    after
      60_000 -> exit(:no_report)
    end

    # That process is through with the report only when it answers.
    _ = :sys.get_state(:logger_proxy)
    :logger.remove_handler(:awaits_the_vm)
  end

  def crash(:jetstream), do: Brain.Spine.Call.wait(:ok, fn -> only_one(@text) end)

  def crash(kind) do
    {:ok, pid} = GenServer.start(__MODULE__, @text)

    gone(pid, fn ->
      :sys.suspend(pid)
      if kind == :cast, do: GenServer.cast(pid, {:cast, @text}), else: send(pid, {kind, @text})
      for n <- 1..5, do: send(pid, {:waits, n, @text})
      :sys.resume(pid)
    end)
  end

  @doc false
  def log(%{meta: %{error_logger: %{emulator: true}}}, %{config: %{pid: pid}}), do: send(pid, :the_vm_reported)
  def log(_event, _config), do: :ok

  defp gone(pid, action) do
    monitor = Process.monitor(pid)
    action.()

    receive do
      {:DOWN, ^monitor, :process, _, _} -> :ok
    end
  end

  @doc false
  def start_link(text), do: GenServer.start_link(__MODULE__, text)

  @impl true
  def init({:fail, text}), do: {:stop, {:cannot, text}}

  def init(text) do
    Process.put(:kept, text)
    {:ok, %{text: text}}
  end

  @impl true
  def handle_cast({:cast, text}, _), do: only_one(text)

  @impl true
  def handle_info({:raise, text}, _), do: raise("it was #{text}")
  def handle_info({:badmatch, text}, _), do: {:ok, _} = text
  def handle_info({:function_clause, text}, _), do: only_one(text)
  def handle_info({:exit, text}, _), do: exit({:because, %{of: text}})
  def handle_info({:throw, text}, _), do: throw({:odd, text})
  def handle_info({:charlist, text}, _), do: exit(String.to_charlist(text))
  def handle_info({:call, text}, _), do: GenServer.call(:nobody_is_here, {:question, text})

  def handle_info({:case_clause, text}, state) do
    case text do
      1 -> {:noreply, state}
    end
  end

  @doc false
  def only_one(1), do: 1
end
