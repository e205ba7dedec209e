defmodule Brain.Log.Sink do
  @moduledoc """
  The one writer of standard error. Lines wait here, at most 4 MiB of them: if whoever reads standard error is slower
  than that, lines are dropped and counted, and a line says so; the rooms never wait.
  """

  use GenServer

  # The most bytes of lines that wait.
  @pending_max 4 * 1024 * 1024
  # The most bytes of one write.
  @batch_bytes 64 * 1024

  # The counters of a handle: bytes that wait, lines that were dropped.
  @waiting 1
  @dropped 2

  @opaque handle :: {GenServer.server(), :counters.counters_ref()}

  @doc "A handle for a sink that is started under this name."
  @spec handle(GenServer.server()) :: handle
  def handle(name), do: {name, :counters.new(2, [])}

  @doc "Starts it. `device`: where to write, standard error if left out."
  @spec start_link(handle, keyword) :: GenServer.on_start()
  def start_link({name, _} = handle, options \\ []) do
    GenServer.start_link(__MODULE__, {handle, Keyword.get(options, :device, :standard_error)}, name: name)
  end

  @doc false
  def child_spec(handle) do
    # Half a second to write out what waits at a stop.
    %{id: __MODULE__, start: {__MODULE__, :start_link, [handle]}, shutdown: 500}
  end

  @doc "Hands lines over; returns how many were dropped because too many wait."
  @spec write(handle, [iodata]) :: non_neg_integer
  def write({name, pending}, lines) do
    bytes = IO.iodata_length(lines)

    if :counters.get(pending, @waiting) + bytes > @pending_max do
      # Counted, not sent: a mailbox that nobody reads would grow with every line that is dropped.
      :counters.add(pending, @dropped, length(lines))
      length(lines)
    else
      :counters.add(pending, @waiting, bytes)
      GenServer.cast(name, {:lines, lines, bytes})
      0
    end
  end

  @impl true
  def init({{_, pending}, device}) do
    Process.flag(:trap_exit, true)
    # A sink that died took what waited along.
    :counters.put(pending, @waiting, 0)
    {:ok, %{pending: pending, device: device}}
  end

  @impl true
  def handle_cast(message, state) do
    {lines, bytes} = drain(add(message, {[], 0}))
    put(state, lines, dropped(state))
    :counters.sub(state.pending, @waiting, bytes)
    {:noreply, state}
  end

  @impl true
  def handle_info(_, state), do: {:noreply, state}

  @impl true
  def terminate(_, state) do
    case {drain({[], 0}), dropped(state)} do
      {{[], _}, 0} ->
        :ok

      {{lines, _}, dropped} ->
        put(state, lines, dropped)
        terminate(:again, state)
    end
  end

  # How many were dropped since the last time.
  defp dropped(state) do
    count = :counters.get(state.pending, @dropped)
    :counters.sub(state.pending, @dropped, count)
    count
  end

  # Everything that waits, up to one batch.
  defp drain({_, bytes} = batch) when bytes >= @batch_bytes, do: batch

  defp drain(batch) do
    receive do
      {:"$gen_cast", message} -> drain(add(message, batch))
    after
      0 -> batch
    end
  end

  defp add({:lines, lines, more}, {batch, bytes}), do: {[batch | lines], bytes + more}

  defp put(state, lines, dropped) do
    note = if dropped > 0, do: ["WARN #{dropped} log lines dropped: standard error is read too slowly\n"], else: []
    # Nobody can be told that standard error is closed.
    _ = IO.binwrite(state.device, [lines | note])
    :ok
  catch
    _, _ -> :ok
  end
end
