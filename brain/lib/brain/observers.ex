defmodule Brain.Observers do
  @moduledoc """
  Supervises the processes that show the node to its operators: the log's sink and the metrics page.

  The rooms do not depend on them, so they have no restart budget. A child that ends is started again after a pause, which
  doubles from 100 ms to 30 s and is short again after the child has lived for 30 s. Every end is counted in
  `brain_observer_restarts` and written to standard error directly, because the sink may be the child that ended.

  The first start is different: a page that cannot bind its port then is a wrong configuration, and `start_link/1` returns
  the reason.
  """

  use GenServer

  alias Brain.Log.Report
  alias Brain.Metrics

  @pause_min_ms 100
  @pause_max_ms 30_000
  # A child that lived for so long starts with the shortest pause again.
  @settled_ms 30_000
  # The longest that one child may take to stop.
  @stop_ms 1000

  @type options :: %{
          required(:children) => [Supervisor.child_spec()],
          required(:metrics) => Metrics.t(),
          required(:begun) => :atomics.atomics_ref(),
          optional(:say) => (iodata -> term)
        }

  @doc """
  Starts the children in order. `begun` is a fresh atomic of one number: it tells the first start from a restart of this
  process, after which a child that cannot be started is tried again.
  """
  @spec start_link(options) :: GenServer.on_start()
  def start_link(options), do: GenServer.start_link(__MODULE__, options, name: __MODULE__)

  @doc false
  def child_spec(options) do
    %{id: __MODULE__, start: {__MODULE__, :start_link, [options]}, type: :supervisor, shutdown: 3 * @stop_ms}
  end

  @impl true
  def init(%{children: children, metrics: metrics, begun: begun} = options) do
    Process.flag(:trap_exit, true)
    state = %{specs: children, metrics: metrics, say: Map.get(options, :say, &say/1), running: %{}, pauses: %{}}

    if :atomics.exchange(begun, 1, 1) == 0 do
      Enum.reduce_while(children, {:ok, state}, fn spec, {:ok, state} ->
        case run(spec) do
          {:ok, pid} -> {:cont, {:ok, running(state, spec, pid)}}
          {:error, reason} -> {:halt, {:stop, {spec.id, reason}}}
        end
      end)
    else
      for spec <- children, do: send(self(), {:start, spec.id})
      {:ok, state}
    end
  end

  @impl true
  def handle_info({:EXIT, pid, reason}, state) do
    case Enum.find(state.running, fn {_, {running, _}} -> running == pid end) do
      {id, {^pid, since}} ->
        state = %{state | running: Map.delete(state.running, id)}
        lived = System.monotonic_time(:millisecond) - since
        state = if lived >= @settled_ms, do: put_in(state.pauses[id], @pause_min_ms), else: state
        {:noreply, again(state, id, reason)}

      nil ->
        {:noreply, state}
    end
  end

  def handle_info({:start, id}, state) when not is_map_key(state.running, id) do
    spec = Enum.find(state.specs, &(&1.id == id))

    case run(spec) do
      {:ok, pid} -> {:noreply, running(state, spec, pid)}
      {:error, reason} -> {:noreply, again(state, id, reason)}
    end
  end

  def handle_info(_, state), do: {:noreply, state}

  # As every supervisor answers, so that a walk over the tree finds the children.
  @impl true
  def handle_call(:which_children, _from, state) do
    children =
      for %{id: id} = spec <- state.specs do
        pid = with {pid, _} <- Map.get(state.running, id, :restarting), do: pid
        {id, pid, :worker, [elem(spec.start, 0)]}
      end

    {:reply, children, state}
  end

  @impl true
  def terminate(_, state) do
    # The sink was started first and is stopped last: the others may still have something to log.
    for %{id: id} <- Enum.reverse(state.specs), {pid, _} <- [state.running[id]], do: stop(pid)
  end

  # The link stays: a child that is stopped twice, by this exit and by its link, is stopped once.
  defp stop(pid) do
    Process.exit(pid, :shutdown)

    receive do
      {:EXIT, ^pid, _} -> :ok
    after
      @stop_ms -> Process.exit(pid, :kill)
    end
  end

  defp run(%{start: {module, function, arguments}}) do
    case apply(module, function, arguments) do
      {:ok, pid} -> {:ok, pid}
      {:error, reason} -> {:error, reason}
    end
  end

  defp running(state, spec, pid) do
    put_in(state.running[spec.id], {pid, System.monotonic_time(:millisecond)})
  end

  defp again(state, id, reason) do
    pause = Map.get(state.pauses, id, @pause_min_ms)
    Process.send_after(self(), {:start, id}, pause)
    Metrics.add(state.metrics, :observer_restarts)
    state.say.(["brain: ", inspect(id), " ended: ", Report.reason(reason), "; it is started again in #{pause} ms\n"])
    put_in(state.pauses[id], min(pause * 2, @pause_max_ms))
  end

  defp say(line) do
    _ = IO.binwrite(:standard_error, line)
    :ok
  catch
    # There is no standard error any more.
    _, _ -> :ok
  end
end
