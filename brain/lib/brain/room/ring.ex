defmodule Brain.Room.Ring do
  @moduledoc """
  The newest entries of a room, kept for replays and to compare a Shield's cursor with: bounded in entries and bytes.
  """

  alias Brain.Proto.Internal.LogEntry
  alias Brain.Room.Saturating

  # The most entries kept, and the most bytes of their events.
  @entries_max 256
  @bytes_max 1_048_576

  defstruct kept: {[], []}, count: 0, bytes: 0

  @typep kept :: %{
           pos: non_neg_integer(),
           chain: non_neg_integer(),
           epoch: non_neg_integer(),
           first_seq: non_neg_integer(),
           events: [binary()],
           bytes: non_neg_integer()
         }

  @typedoc "Two lists make the queue: the oldest entries, and the newest in reverse."
  @type t :: %__MODULE__{
          kept: {[kept()], [kept()]},
          count: non_neg_integer(),
          bytes: non_neg_integer()
        }

  @doc "Takes a valid entry."
  @spec push(t(), non_neg_integer(), non_neg_integer(), LogEntry.t()) :: t()
  def push(ring, pos, chain, entry) do
    bytes = bytes_of(entry.envelopes, 0)

    kept = %{
      pos: pos,
      chain: chain,
      epoch: entry.epoch,
      first_seq: entry.first_seq,
      events: entry.envelopes,
      bytes: bytes
    }

    {old, new} = ring.kept

    shrink(%__MODULE__{
      kept: {old, [kept | new]},
      count: ring.count + 1,
      bytes: ring.bytes + bytes
    })
  end

  @doc "Forgets everything."
  @spec clear(t()) :: t()
  def clear(_ring), do: %__MODULE__{}

  @doc """
  The chain of the entry at `pos`: `:older` if that is older than the ring, `:none` if no valid entry is there.
  """
  @spec chain_at(t(), non_neg_integer()) :: :older | :none | {:ok, non_neg_integer()}
  def chain_at(ring, pos) do
    case to_list(ring) do
      [oldest | _] = kept when oldest.pos <= pos ->
        case Enum.find(kept, &(&1.pos == pos)) do
          nil -> :none
          found -> {:ok, found.chain}
        end

      _ ->
        :older
    end
  end

  @doc "Every event of `epoch` after `seq`, ascending; `nil` if the ring does not reach back so far."
  @spec after_seq(t(), non_neg_integer(), non_neg_integer()) :: nil | [binary()]
  def after_seq(ring, epoch, seq) do
    next = Saturating.u64(seq + 1)

    case Enum.drop_while(to_list(ring), &(&1.epoch < epoch)) do
      [] -> nil
      [first | _] when first.first_seq > next -> nil
      kept -> Enum.flat_map(kept, &Enum.drop(&1.events, max(next - &1.first_seq, 0)))
    end
  end

  @doc "The last events of `epoch`, at most `count` and `bytes_max` of them, ascending."
  @spec newest(t(), non_neg_integer(), non_neg_integer(), non_neg_integer()) :: [binary()]
  def newest(ring, epoch, count, bytes_max) do
    ring
    |> to_list()
    |> Enum.reverse()
    |> Enum.take_while(&(&1.epoch == epoch))
    |> backwards(count, bytes_max, [])
  end

  defp backwards([kept | older], count, left, events) do
    case take(Enum.reverse(kept.events), count, left, events) do
      {:more, count, left, events} -> backwards(older, count, left, events)
      {:done, events} -> events
    end
  end

  defp backwards([], _count, _left, events), do: events

  defp take([event | older], count, left, events)
       when count > 0 and byte_size(event) <= left,
       do: take(older, count - 1, left - byte_size(event), [event | events])

  defp take([], count, left, events), do: {:more, count, left, events}
  defp take(_, _count, _left, events), do: {:done, events}

  defp shrink(%{count: count, bytes: bytes} = ring)
       when count > @entries_max or bytes > @bytes_max do
    case ring.kept do
      {[oldest | old], new} ->
        shrink(%{ring | kept: {old, new}, count: count - 1, bytes: bytes - oldest.bytes})

      {[], new} ->
        shrink(%{ring | kept: {Enum.reverse(new), []}})
    end
  end

  defp shrink(ring), do: ring

  defp to_list(%{kept: {old, new}}), do: old ++ Enum.reverse(new)

  defp bytes_of([], sum), do: sum
  defp bytes_of([event | rest], sum), do: bytes_of(rest, sum + byte_size(event))
end
