defmodule Brain.Room.Chain do
  @moduledoc """
  The chain of a room's log: an entry's hash, and how an entry is known as mine. Which entry may follow which is
  `Brain.Room.Tail.accepts/2`.
  """

  alias Brain.Proto.Internal.LogEntry

  @doc "The most events of one entry."
  @spec entry_events_max() :: pos_integer()
  def entry_events_max, do: 256

  @doc "The most bytes of one entry."
  @spec entry_bytes_max() :: pos_integer()
  def entry_bytes_max, do: 512 * 1024

  @doc "First 8 bytes of the SHA-256 of an entry's bytes, little-endian."
  @spec chain(binary()) :: non_neg_integer()
  def chain(entry) do
    <<first::64-little, _::binary>> = :crypto.hash(:sha256, entry)
    first
  end

  @doc """
  Tells what a sender said under a message id from anything else: first 8 bytes of the SHA-256 of the sender's timestamp (8
  bytes, little-endian) and of the command's bytes, little-endian. Never 0, which stands for unknown.
  """
  @spec fingerprint(integer(), binary()) :: pos_integer()
  def fingerprint(timestamp, command) do
    <<first::64-little, _::binary>> = :crypto.hash(:sha256, [<<timestamp::signed-64-little>>, command])
    max(first, 1)
  end

  @doc "The 16 bytes of `LogEntry.entry_id`: the writing process, and a number it never uses twice."
  @spec entry_id(non_neg_integer(), non_neg_integer()) :: binary()
  def entry_id(incarnation, counter), do: <<incarnation::64-little, counter::64-little>>

  @doc "Which process wrote an entry; `nil` if the id is malformed."
  @spec writer(LogEntry.t()) :: nil | non_neg_integer()
  def writer(entry) do
    case entry.entry_id do
      <<incarnation::64-little, _counter::64>> -> incarnation
      _ -> nil
    end
  end
end
