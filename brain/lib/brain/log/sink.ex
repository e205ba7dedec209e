defmodule Brain.Log.Sink do
  @moduledoc """
  The one writer of standard error. Lines wait here, at most 4 MiB of them: if whoever reads standard error is slower
  than that, lines are dropped and counted, and a line says so; the rooms never wait.

  Every line that is not written is counted in `brain_log_lines_dropped`, wherever it is lost: no room in the queue, no
  sink, a sink that died with lines in its mailbox, a device that takes no more.
  """

  use GenServer

  alias Brain.Metrics

  # The most bytes of lines that wait.
  @pending_max 4 * 1024 * 1024
  # The most bytes of one write.
  @batch_bytes 64 * 1024

  # The counters of a handle: bytes that wait, lines that were dropped since the last word about it, lines that wait.
  @waiting 1
  @dropped 2
  @lines 3

  @opaque handle :: {atom, :counters.counters_ref(), nil | Metrics.t()}

  @doc "A handle for a sink that is started under this name. Lines that are dropped are counted in `metrics`."
  @spec handle(atom, nil | Metrics.t()) :: handle
  def handle(name, metrics \\ nil), do: {name, :counters.new(3, []), metrics}

  @doc "Starts it. `device`: where to write, standard error if left out."
  @spec start_link(handle, keyword) :: GenServer.on_start()
  def start_link({name, _, _} = handle, options \\ []) do
    GenServer.start_link(__MODULE__, {handle, Keyword.get(options, :device, :standard_error)}, name: name)
  end

  @doc false
  def child_spec(handle) do
    # Half a second to write out what waits at a stop.
    %{id: __MODULE__, start: {__MODULE__, :start_link, [handle]}, shutdown: 500}
  end

  @doc "Hands lines over; returns how many were dropped because too many wait."
  @spec write(handle, [iodata]) :: non_neg_integer
  def write({name, pending, _} = handle, lines) do
    bytes = IO.iodata_length(lines)

    if :counters.get(pending, @waiting) + bytes > @pending_max or Process.whereis(name) == nil do
      # Counted, not sent: a mailbox that nobody reads would grow with every line that is dropped.
      dropped(handle, length(lines))
      length(lines)
    else
      :counters.add(pending, @waiting, bytes)
      :counters.add(pending, @lines, length(lines))
      GenServer.cast(name, {:lines, lines, bytes})
      0
    end
  end

  defp dropped({_, pending, metrics}, count) do
    :counters.add(pending, @dropped, count)
    if metrics, do: Metrics.add(metrics, :log_dropped, count)
    :ok
  end

  @impl true
  def init({{_, pending, _} = handle, device}) do
    Process.flag(:trap_exit, true)
    # A sink that died took what waited along.
    case :counters.get(pending, @lines) do
      0 -> :ok
      lost -> dropped(handle, lost)
    end

    :counters.put(pending, @waiting, 0)
    :counters.put(pending, @lines, 0)
    {:ok, %{handle: handle, pending: pending, device: device}}
  end

  @impl true
  def handle_cast(message, state) do
    {lines, bytes, count} = drain(add(message, {[], 0, 0}))
    put(state, lines, count, take_dropped(state))
    :counters.sub(state.pending, @waiting, bytes)
    :counters.sub(state.pending, @lines, count)
    {:noreply, state}
  end

  @impl true
  def handle_info(_, state), do: {:noreply, state}

  @impl true
  def terminate(_, state) do
    case {drain({[], 0, 0}), take_dropped(state)} do
      {{[], _, _}, 0} ->
        :ok

      {{lines, bytes, count}, dropped} ->
        put(state, lines, count, dropped)
        :counters.sub(state.pending, @waiting, bytes)
        :counters.sub(state.pending, @lines, count)
        terminate(:again, state)
    end
  end

  # How many were dropped since the last time.
  defp take_dropped(state) do
    count = :counters.get(state.pending, @dropped)
    :counters.sub(state.pending, @dropped, count)
    count
  end

  # Everything that waits, up to one batch.
  defp drain({_, bytes, _} = batch) when bytes >= @batch_bytes, do: batch

  defp drain(batch) do
    receive do
      {:"$gen_cast", message} -> drain(add(message, batch))
    after
      0 -> batch
    end
  end

  defp add({:lines, lines, more}, {batch, bytes, count}), do: {[batch | lines], bytes + more, count + length(lines)}

  defp put(state, lines, count, dropped) do
    note = if dropped > 0, do: ["WARN #{dropped} log lines dropped: standard error is read too slowly\n"], else: []

    case IO.binwrite(state.device, [lines | note]) do
      :ok -> :ok
      {:error, _} -> unwritten(state, count)
    end
  catch
    _, _ -> unwritten(state, count)
  end

  # Nobody can be told that standard error is closed; the metric shows it.
  defp unwritten(%{handle: {_, _, metrics}}, count) do
    if metrics, do: Metrics.add(metrics, :log_dropped, count)
    :ok
  end
end
