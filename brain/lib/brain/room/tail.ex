defmodule Brain.Room.Tail do
  @moduledoc """
  Where a room's log stands: what the next entry must fit to.

  A stream position alone is no proof: after a lost tail it is handed out again, and an old owner's write passes the
  fence. So every entry names the position *and* the hash of its predecessor; what does not fit is void for everyone
  alike.

    * `epoch`, `term` – of the last valid entry; 0: there is none. The term is a counter: it never falls and is never
      reused, not even across epochs.
    * `seq` – of the last event of this epoch; 0: none yet.
    * `pos`, `chain`, `gen_id` – position, chain and generation of the last valid entry.
    * `fence` – position of the last message, void ones included: what the next append must expect.
    * `at` – the room's clock, ms: never falls.
    * `deleted` – the last valid entry is a tombstone.
  """

  alias Brain.Proto.Internal.LogEntry
  alias Brain.Room.Saturating

  defstruct epoch: 0,
            term: 0,
            seq: 0,
            pos: 0,
            chain: 0,
            fence: 0,
            gen_id: 0,
            at: 0,
            deleted: false

  @type t :: %__MODULE__{
          epoch: non_neg_integer(),
          term: non_neg_integer(),
          seq: non_neg_integer(),
          pos: non_neg_integer(),
          chain: non_neg_integer(),
          fence: non_neg_integer(),
          gen_id: non_neg_integer(),
          at: integer(),
          deleted: boolean()
        }

  @typedoc """
  Why an entry counts for nothing: it cannot be decoded, or says nothing that this version knows; `prev` is not the
  position of the room's preceding message; `prev_chain` is not the chain of the last valid entry; (epoch, term) falls.
  """
  @type void :: :unreadable | :position | :chain | :term

  @doc "Whether `entry`, as the next message of the room, is valid; else why it is void."
  @spec accepts(t(), LogEntry.t()) :: :ok | {:error, void()}
  def accepts(tail, entry) do
    cond do
      entry.prev != tail.fence -> {:error, :position}
      entry.prev_chain != tail.chain -> {:error, :chain}
      {entry.epoch, entry.term} < {tail.epoch, tail.term} -> {:error, :term}
      true -> :ok
    end
  end

  @doc """
  The epoch that begins after this tail: above every known one, near the wall clock so that it also rises when the whole
  log is lost.
  """
  @spec next_epoch(t(), integer()) :: non_neg_integer()
  def next_epoch(tail, now_ms), do: max(Saturating.u64(tail.epoch + 1), max(now_ms, 0))
end
