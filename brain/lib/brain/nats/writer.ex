defmodule Brain.Nats.Writer do
  @moduledoc """
  The one process that writes to a connection's socket. Publishers send it their frames; it takes all that wait and
  writes them with one call, which decides the rate (see the figures in `Brain.Nats`).

  The queue is its mailbox. Publishers count what they put there before they send, in an `:atomics` of two, and are
  refused over the bound; so the mailbox is bounded although nobody waits. A connection's writer and its counters end
  with that connection: what was queued is lost with it.
  """

  alias Brain.Nats.Socket

  @bytes 1
  @messages 2

  # So much goes into one write; larger ones gain nothing, and let the socket's buffer grow.
  @batch_bytes 262_144

  @doc "Counters of an empty queue."
  @spec counters() :: :atomics.atomics_ref()
  def counters, do: :atomics.new(2, signed: true)

  @doc "Starts it, linked. Write errors end it with `{:shutdown, {:write, reason}}`."
  @spec start_link(Socket.t(), :atomics.atomics_ref()) :: pid
  def start_link(socket, counters) do
    spawn_link(fn ->
      Process.flag(:message_queue_data, :off_heap)
      loop(socket, counters)
    end)
  end

  @doc "Queues a frame if it has room within the bounds."
  @spec push(pid, :atomics.atomics_ref(), iodata, {pos_integer, pos_integer}) :: :ok | {:error, :full}
  def push(writer, counters, frame, {bytes_max, messages_max}) do
    size = IO.iodata_length(frame)

    if :atomics.add_get(counters, @bytes, size) <= bytes_max do
      if :atomics.add_get(counters, @messages, 1) <= messages_max do
        queue(writer, frame, size)
      else
        :atomics.sub(counters, @messages, 1)
        :atomics.sub(counters, @bytes, size)
        {:error, :full}
      end
    else
      :atomics.sub(counters, @bytes, size)
      {:error, :full}
    end
  end

  @doc "Queues a frame that must go out whatever waits: the connection's own, bounded by what they answer."
  @spec force(pid, :atomics.atomics_ref(), iodata) :: :ok
  def force(writer, counters, frame) do
    size = IO.iodata_length(frame)
    :atomics.add(counters, @bytes, size)
    :atomics.add(counters, @messages, 1)
    queue(writer, frame, size)
  end

  @doc "What waits: bytes and messages."
  @spec queued(:atomics.atomics_ref()) :: {integer, integer}
  def queued(counters), do: {:atomics.get(counters, @bytes), :atomics.get(counters, @messages)}

  defp queue(writer, frame, size) do
    send(writer, {:frame, frame, size})
    :ok
  end

  defp loop(socket, counters) do
    receive do
      {:frame, frame, size} -> collect([frame], size, 1, socket, counters)
    end
  end

  defp collect(frames, bytes, messages, socket, counters) when bytes < @batch_bytes do
    receive do
      {:frame, frame, size} -> collect([frames, frame], bytes + size, messages + 1, socket, counters)
    after
      0 -> write(frames, bytes, messages, socket, counters)
    end
  end

  defp collect(frames, bytes, messages, socket, counters), do: write(frames, bytes, messages, socket, counters)

  defp write(frames, bytes, messages, socket, counters) do
    case Socket.send(socket, frames) do
      :ok ->
        :atomics.sub(counters, @bytes, bytes)
        :atomics.sub(counters, @messages, messages)
        loop(socket, counters)

      {:error, reason} ->
        exit({:shutdown, {:write, reason}})
    end
  end
end
