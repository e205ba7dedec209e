defmodule Brain.Room.Core.Queue do
  @moduledoc """
  What waits in a room, in order. `:queue` walks its lists to tell its length, so length, bytes and the number of waiting
  syncs are counted beside it: a message costs the same however many wait.
  """

  alias Brain.Room.Core.Parts

  # The most requests that wait in a room, and the most bytes of them.
  @queue_max 1024
  @queue_bytes_max 4 * 1024 * 1024

  defstruct items: {[], []}, len: 0, bytes: 0, syncs: 0

  @type t :: %__MODULE__{
          items: :queue.queue(Parts.waiting()),
          len: non_neg_integer,
          bytes: non_neg_integer,
          syncs: non_neg_integer
        }

  @doc "An empty one."
  @spec new() :: t
  def new, do: %__MODULE__{items: :queue.new()}

  @doc "True if more may wait."
  @spec has_room?(t) :: boolean
  def has_room?(queue), do: queue.len < @queue_max and queue.bytes < @queue_bytes_max

  @doc "True if nothing waits."
  @spec empty?(t) :: boolean
  def empty?(queue), do: queue.len == 0

  @doc "Waits behind everything else."
  @spec push(t, Parts.waiting()) :: t
  def push(queue, waiting) do
    count(%{queue | items: :queue.in(waiting, queue.items)}, waiting, 1)
  end

  @doc "Waits before everything else."
  @spec push_front(t, Parts.waiting()) :: t
  def push_front(queue, waiting) do
    count(%{queue | items: :queue.in_r(waiting, queue.items)}, waiting, 1)
  end

  @doc "Takes the first one out."
  @spec pop(t) :: {Parts.waiting(), t} | nil
  def pop(queue) do
    case :queue.out(queue.items) do
      {{:value, waiting}, items} -> {waiting, count(%{queue | items: items}, waiting, -1)}
      {:empty, _} -> nil
    end
  end

  @doc "Everything that waits, in order."
  @spec to_list(t) :: [Parts.waiting()]
  def to_list(queue), do: :queue.to_list(queue.items)

  @doc "True if something like that waits."
  @spec any?(t, (Parts.waiting() -> boolean)) :: boolean
  def any?(queue, fun), do: :queue.any(fun, queue.items)

  defp count(queue, waiting, sign) do
    syncs = if elem(waiting, 0) == :sync, do: queue.syncs + sign, else: queue.syncs
    %{queue | len: queue.len + sign, bytes: queue.bytes + sign * bytes(waiting), syncs: syncs}
  end

  defp bytes({:command, _reply, _command, bytes, _arrived}), do: bytes
  defp bytes(_get_or_sync), do: 64
end
