defmodule Brain.Room.State do
  @moduledoc """
  A room's state: what the fold makes of events, and its encoding in snapshots.

  Beside the keys lie the ends of those that end by themselves, ascending, so that asking what has ended costs nothing
  while nothing has.
  """

  alias Brain.Codec
  alias Brain.Id
  alias Brain.Proto.Internal.{RoomState, Ttl}
  alias Brain.Proto.V1.{Envelope, Event, KeySet, Locked, Snapshot}
  alias Brain.Room.{Chain, Dedupe, Saturating}

  defmodule Slot do
    @moduledoc """
    A key's value. `ver` is the seq that last touched it; `expires_at` when it ends by the room's clock, ms, 0: never;
    `ttl_ms` its full length: a take-over begins it anew.
    """
    defstruct value: <<>>, ver: 0, expires_at: 0, ttl_ms: 0

    @type t :: %__MODULE__{
            value: binary(),
            ver: non_neg_integer(),
            expires_at: integer(),
            ttl_ms: non_neg_integer()
          }
  end

  defmodule LockState do
    @moduledoc """
    A lock: what it forbids to everyone but moderators, why, when it ends by the room's clock (ms, 0: never), its full
    length, and who locked.
    """
    defstruct mode: :none, reason: "", until: 0, ttl_ms: 0, user: ""

    @type t :: %__MODULE__{
            mode: :none | :join | :write | :all,
            reason: binary(),
            until: integer(),
            ttl_ms: non_neg_integer(),
            user: binary()
          }

    @doc "True if it keeps new subscribers out."
    @spec bars_join?(t()) :: boolean()
    def bars_join?(lock), do: lock.mode in [:join, :all]

    @doc "True if it keeps commands out."
    @spec bars_write?(t()) :: boolean()
    def bars_write?(lock), do: lock.mode in [:write, :all]
  end

  @keys_max 256
  @key_bytes_max 128
  @value_bytes_max 16 * 1024
  @state_bytes_max 512 * 1024
  @part_bytes_max 64 * 1024
  # Room for the envelope around a part, the lock, and one more key.
  @part_full @part_bytes_max - 2048

  defstruct keys: %{}, ends: [], lock: nil, bytes: 0, dedupe: %Dedupe{}

  @type t :: %__MODULE__{
          keys: %{binary() => Slot.t()},
          ends: [{integer(), binary()}],
          lock: nil | LockState.t(),
          bytes: non_neg_integer(),
          dedupe: Dedupe.t()
        }

  @typedoc "What ends by itself: a key's ttl, the lock's ttl."
  @type ended :: {:key, binary()} | :lock

  @doc "The most keys of a room."
  @spec keys_max() :: pos_integer()
  def keys_max, do: @keys_max

  @doc "The longest key, in bytes."
  @spec key_bytes_max() :: pos_integer()
  def key_bytes_max, do: @key_bytes_max

  @doc "The longest value, in bytes."
  @spec value_bytes_max() :: pos_integer()
  def value_bytes_max, do: @value_bytes_max

  @doc "The most bytes of a room's state, encoded, without the deduplication window."
  @spec state_bytes_max() :: pos_integer()
  def state_bytes_max, do: @state_bytes_max

  @doc "The most bytes of one part of a snapshot."
  @spec part_bytes_max() :: pos_integer()
  def part_bytes_max, do: @part_bytes_max

  @doc "Upper bound of what one key costs encoded, its ttl's record included."
  @spec slot_cost(binary(), non_neg_integer()) :: pos_integer()
  def slot_cost(key, value_len) when is_integer(value_len),
    do: 4 + 3 + byte_size(key) + 4 + value_len + 11 + 11 + (4 + 3 + byte_size(key) + 11)

  @doc "An empty one whose window remembers the last `dedupe` commands of each user."
  @spec new(non_neg_integer()) :: t()
  def new(dedupe), do: %__MODULE__{dedupe: Dedupe.new(dedupe)}

  @doc "A key's value."
  @spec get(t(), binary()) :: nil | Slot.t()
  def get(state, key), do: Map.get(state.keys, key)

  @doc "Every key, ascending."
  @spec keys(t()) :: [{binary(), Slot.t()}]
  def keys(state), do: List.keysort(Map.to_list(state.keys), 0)

  @doc "How many keys there are."
  @spec len(t()) :: non_neg_integer()
  def len(state), do: map_size(state.keys)

  @doc "True if there is no key."
  @spec empty?(t()) :: boolean()
  def empty?(state), do: map_size(state.keys) == 0

  @doc "The lock, if any."
  @spec lock(t()) :: nil | LockState.t()
  def lock(state), do: state.lock

  @doc "Upper bound of the encoded state without the window, in bytes."
  @spec bytes(t()) :: non_neg_integer()
  def bytes(state), do: state.bytes

  @doc "Applies one event. Total: an event of a later version changes nothing here but the window."
  @spec apply(t(), Envelope.t(), Event.t()) :: t()
  def apply(state, envelope, event) do
    state = apply_body(state, event.body, event.at)

    if byte_size(envelope.message_id) == 16 and Id.valid?(:user, event.user) do
      seen = %Dedupe.Seen{
        id: envelope.message_id,
        epoch: event.epoch,
        seq: event.seq,
        timestamp: envelope.timestamp,
        # What a policy rewrote is not what its sender said: it is known by its id alone.
        fingerprint: if(event.redacted_by == "", do: Chain.fingerprint(envelope.timestamp, event.cmd), else: 0)
      }

      %{state | dedupe: Dedupe.record(state.dedupe, event.user, seen, event.at)}
    else
      state
    end
  end

  defp apply_body(state, {:key_set, set}, at) do
    ttl_ms = duration(set.expires_at, at)
    insert(state, set.key, slot(set, ttl_ms))
  end

  defp apply_body(state, {:key_deleted, deleted}, _at), do: remove(state, deleted.key)

  defp apply_body(state, {:locked, locked}, at),
    do: set_lock(state, lock_of(locked, duration(locked.until, at)))

  defp apply_body(state, {:unlocked, _}, _at), do: set_lock(state, nil)
  defp apply_body(state, _body, _at), do: state

  @doc """
  A take-over at the room's time `at`: every ttl runs its full length from here, for the new owner cannot know how much
  of it passed while nobody could renew anything.
  """
  @spec renew(t(), integer()) :: t()
  def renew(state, at) do
    keys = Map.new(state.keys, fn {key, slot} -> {key, renew_slot(slot, at)} end)
    ends = for {key, %{expires_at: ends_at}} when ends_at > 0 <- keys, do: {ends_at, key}
    %{state | keys: keys, ends: Enum.sort(ends), lock: renew_lock(state.lock, at)}
  end

  defp renew_slot(%{ttl_ms: ttl_ms} = slot, at) when ttl_ms > 0,
    do: %{slot | expires_at: after_ttl(at, ttl_ms)}

  defp renew_slot(slot, _at), do: slot

  defp renew_lock(%{ttl_ms: ttl_ms} = lock, at) when ttl_ms > 0,
    do: %{lock | until: after_ttl(at, ttl_ms)}

  defp renew_lock(lock, _at), do: lock

  @doc "What has ended at the room's time `at`: the lock first, then keys, ascending."
  @spec ended(t(), integer()) :: [ended()]
  def ended(state, at) do
    keys = for {_, key} <- Enum.take_while(state.ends, fn {ends_at, _} -> ends_at <= at end), do: key

    keys = for key <- Enum.sort(keys), do: {:key, key}

    case state.lock do
      %{until: until} when until > 0 and until <= at -> [:lock | keys]
      _ -> keys
    end
  end

  @doc "When something ends next, by the room's clock."
  @spec next_end(t()) :: nil | integer()
  def next_end(%{ends: ends, lock: lock}) do
    case {ends, lock} do
      {[{key, _} | _], %{until: until}} when until > 0 -> min(key, until)
      {[{key, _} | _], _} -> key
      {[], %{until: until}} when until > 0 -> until
      _ -> nil
    end
  end

  @doc "As a message, with the room's time `at`: the same bytes for the same state, whatever led to it."
  @spec encode(t(), integer()) :: RoomState.t()
  def encode(state, at) do
    keys = keys(state)

    %RoomState{
      at: at,
      state: %Snapshot{last: true, entries: Enum.map(keys, &key_set/1), lock: locked(state.lock)},
      # The window is most of it. Its messages all at once would be a heap that the room's process needs for nothing else.
      dedupe: Dedupe.encode(state.dedupe, &Codec.encode/1),
      ttls: for({key, %{ttl_ms: ttl_ms}} when ttl_ms > 0 <- keys, do: %Ttl{key: key, ttl_ms: ttl_ms}),
      lock_ttl_ms: if(state.lock, do: state.lock.ttl_ms, else: 0)
    }
  end

  @doc """
  From a message, with a window of the last `dedupe` commands of each user. Total: what no writer of ours could have written
  is left out.
  """
  @spec decode(RoomState.t(), non_neg_integer()) :: t()
  def decode(message, dedupe) do
    state = %__MODULE__{dedupe: Dedupe.decode(message.dedupe, dedupe, message.at)}
    state = decode_snapshot(state, message.state, message.lock_ttl_ms)
    Enum.reduce(message.ttls, state, &decode_ttl/2)
  end

  defp decode_snapshot(state, nil, _lock_ttl_ms), do: state

  defp decode_snapshot(state, snapshot, lock_ttl_ms) do
    state = Enum.reduce(snapshot.entries, state, &insert(&2, &1.key, slot(&1, 0)))
    set_lock(state, snapshot.lock && lock_of(snapshot.lock, lock_ttl_ms))
  end

  defp decode_ttl(ttl, state) do
    case get(state, ttl.key) do
      nil -> state
      slot -> %{state | keys: %{state.keys | ttl.key => %{slot | ttl_ms: ttl.ttl_ms}}}
    end
  end

  @doc "What a subscriber gets: parts of at most `part_bytes_max/0`, at least one, the last one marked."
  @spec parts(t()) :: [Snapshot.t()]
  def parts(state) do
    first = %Snapshot{lock: locked(state.lock)}
    start = {[], first, byte_size(Codec.encode(first))}

    {full, last, _} = state |> keys() |> Enum.map(&key_set/1) |> Enum.reduce(start, &into_parts/2)
    Enum.reverse([%{finish(last) | last: true} | full])
  end

  defp into_parts(set, {full, part, bytes}) do
    cost = byte_size(Codec.encode(set)) + 5

    if bytes + cost > @part_full do
      {[finish(part) | full], %Snapshot{part: part.part + 1, entries: [set]}, cost}
    else
      {full, %{part | entries: [set | part.entries]}, bytes + cost}
    end
  end

  defp finish(part), do: %{part | entries: Enum.reverse(part.entries)}

  defp insert(state, key, slot) do
    key = keep(key)
    old = Map.get(state.keys, key)
    ends = unend(state.ends, key, old)
    ends = if slot.expires_at > 0, do: end_in(ends, {slot.expires_at, key}), else: ends
    bytes = state.bytes - cost_of(key, old) + cost_of(key, slot)
    %{state | keys: Map.put(state.keys, key, slot), ends: ends, bytes: bytes}
  end

  defp remove(state, key) do
    case state.keys do
      %{^key => old} ->
        keys = Map.delete(state.keys, key)
        bytes = state.bytes - cost_of(key, old)
        %{state | keys: keys, ends: unend(state.ends, key, old), bytes: bytes}

      _ ->
        state
    end
  end

  defp unend(ends, key, %{expires_at: ends_at}) when ends_at > 0, do: ends -- [{ends_at, key}]
  defp unend(ends, _key, _old), do: ends

  defp end_in([first | rest], new) when first < new, do: [first | end_in(rest, new)]
  defp end_in(rest, new), do: [new | rest]

  defp cost_of(_key, nil), do: 0
  defp cost_of(key, slot), do: slot_cost(key, byte_size(slot.value))

  defp set_lock(state, lock),
    do: %{state | lock: lock, bytes: state.bytes - lock_cost(state.lock) + lock_cost(lock)}

  defp lock_cost(nil), do: 0
  defp lock_cost(lock), do: byte_size(lock.reason) + byte_size(lock.user) + 48

  @doc "`at + ttl_ms`, never beyond what a clock can say."
  @spec after_ttl(integer(), non_neg_integer()) :: integer()
  def after_ttl(at, ttl_ms), do: Saturating.i64(at + Saturating.i64(ttl_ms))

  defp duration(until, at) when until > 0, do: max(Saturating.i64(until - at), 1)
  defp duration(_until, _at), do: 0

  defp slot(set, ttl_ms) do
    %Slot{
      value: keep(set.value),
      ver: set.ver,
      expires_at: max(set.expires_at, 0),
      ttl_ms: ttl_ms
    }
  end

  defp key_set({key, slot}),
    do: %KeySet{key: key, value: slot.value, ver: slot.ver, expires_at: slot.expires_at}

  defp locked(nil), do: nil

  defp locked(lock),
    do: %Locked{mode: lock.mode, reason: lock.reason, until: lock.until, user: lock.user}

  defp lock_of(locked, ttl_ms) do
    %LockState{
      # A mode of a later version forbids nothing here.
      mode: if(is_atom(locked.mode), do: locked.mode, else: :none),
      reason: keep(locked.reason),
      until: max(locked.until, 0),
      ttl_ms: ttl_ms,
      user: keep(locked.user)
    }
  end

  # A part of a received packet would keep the whole packet alive for as long as it is remembered.
  defp keep(bytes) do
    if :binary.referenced_byte_size(bytes) > byte_size(bytes),
      do: :binary.copy(bytes),
      else: bytes
  end
end
