defmodule Brain.Room.Dedupe do
  @moduledoc """
  The deduplication window, part of the folded state, so that it survives failover.

  Per user: message id → (place, timestamp, fingerprint), of the last `limit` commands in the order of arrival. The oldest
  arrival is evicted first. Of an evicted command its timestamp is kept, in one of at most 8 ranges: a command that is not
  remembered and whose timestamp lies in a range is refused for good and never applied. Which is why a repeat is either
  answered with its original place or refused, whatever its age, and why a new command is refused only if its timestamp lies
  where commands were forgotten.

  A user's commands are one binary of records in the order of arrival. A full window of terms would be a megabyte that
  every major garbage collection of the room's process copies, and under load those would cost more than all its work;
  binaries of this size lie outside of the heap. It is the first record that is evicted: only the beginning moves, and the
  bytes before it go when there are some of them.
  """

  alias Brain.Id
  alias Brain.Proto.Internal.{DedupeEntry, DedupeRange, DedupeUser}
  alias Brain.Room.Dedupe.Ranges
  alias Brain.Room.Saturating

  defmodule Seen do
    @moduledoc """
    A remembered command: its idempotency key, where it was stored, its sender's clock, ms, and the fingerprint of what the
    sender said (`Brain.Room.Chain.fingerprint/2`); 0: not known, so that nothing differs from it.
    """
    defstruct id: <<>>, epoch: 0, seq: 0, timestamp: 0, fingerprint: 0

    @type t :: %__MODULE__{
            id: binary(),
            epoch: non_neg_integer(),
            seq: non_neg_integer(),
            timestamp: integer(),
            fingerprint: non_neg_integer()
          }
  end

  @user_entries 256
  @room_entries_max 8192
  @room_bytes_max 256 * 1024
  @window_ms 120_000
  @forget_ms 150_000

  @i64_min -0x8000_0000_0000_0000
  @i64_max 0x7FFF_FFFF_FFFF_FFFF

  # Upper bounds of what protobuf makes of it, so that the sum is an upper bound, too, and can be kept by adding. A range
  # costs no more than the smallest entry: an eviction never makes the window larger.
  @entry_cost_max 2 + 18 + 11 + 11 + 11 + 9
  @range_cost 2 + 11 + 11

  defstruct users: %{}, oldest: @i64_max, limit: @user_entries, entries: 0, bytes: 0

  # Of a record: the id, then timestamp, epoch, seq and fingerprint.
  @record 48

  # So many bytes before the first record are carried along.
  @evicted_max 64 * @record

  # `first`: where in `seen` the first record that counts begins. `newest`: the highest timestamp in `seen` and `ranges`.
  @typep user :: %{
           name: binary(),
           ranges: Ranges.t(),
           newest: integer(),
           seen: binary(),
           first: non_neg_integer()
         }

  @typedoc """
  The window of one room. `oldest`: no user's newest timestamp is below it, but perhaps all are above. `limit`: how many
  commands of one user are remembered.
  """
  @type t :: %__MODULE__{
          users: %{binary() => user()},
          oldest: integer(),
          limit: pos_integer(),
          entries: non_neg_integer(),
          bytes: non_neg_integer()
        }

  @typedoc """
  What the window says of a command: never seen, and sure of it; a command with this id was stored before, there;
  impossible to tell: refuse, never apply; the room's window is full: refuse for now, not applied.
  """
  @type verdict :: :new | {:repeat, Seen.t()} | :expired | :full

  @doc "An empty one, for the last `limit` commands of each user."
  @spec new(non_neg_integer()) :: t()
  def new(limit), do: %__MODULE__{limit: max(limit, 1)}

  @doc "How many commands of one user are remembered where the configuration says nothing."
  @spec user_entries() :: pos_integer()
  def user_entries, do: @user_entries

  @doc "The most remembered commands of a room."
  @spec room_entries_max() :: pos_integer()
  def room_entries_max, do: @room_entries_max

  @doc "The most bytes of a room's window, encoded, users' ranges included."
  @spec room_bytes_max() :: pos_integer()
  def room_bytes_max, do: @room_bytes_max

  @doc "A command older than this, by the room's clock, is refused for good."
  @spec window_ms() :: pos_integer()
  def window_ms, do: @window_ms

  @doc "A user whose newest command is older than this leaves the window: everything of that age is refused anyway."
  @spec forget_ms() :: pos_integer()
  def forget_ms, do: @forget_ms

  @doc "Judges a command at the room's time `at`."
  @spec judge(t(), binary(), binary(), integer(), integer()) :: verdict()
  def judge(window, user, id, timestamp, at) do
    case window.users do
      %{^user => known} ->
        case find(known, id) do
          nil -> unseen(window, user, known, timestamp, at)
          place -> {:repeat, seen_at(known.seen, place)}
        end

      _ ->
        unseen(window, user, nil, timestamp, at)
    end
  end

  defp unseen(window, user, known, timestamp, at) do
    cond do
      timestamp < Saturating.i64(at - @window_ms) -> :expired
      known != nil and Ranges.hold?(known.ranges, timestamp) -> :expired
      full?(window, user, known) -> :full
      true -> :new
    end
  end

  # A user at its own limit makes room by its own eviction: what leaves is at least as large as a new range.
  defp full?(window, user, known) do
    evicts = known != nil and count(known) >= window.limit
    fresh = @entry_cost_max + if known == nil, do: user_cost(user), else: 0

    (not evicts and window.entries >= @room_entries_max) or
      window.bytes + fresh > @room_bytes_max
  end

  @doc "The remembered command of this id; `nil`: there is none."
  @spec seen(t(), binary(), binary()) :: nil | Seen.t()
  def seen(window, user, id) do
    with %{^user => known} <- window.users, place when place != nil <- find(known, id) do
      seen_at(known.seen, place)
    else
      _ -> nil
    end
  end

  @doc "True if a command of this id is remembered as stored."
  @spec knows?(t(), binary(), binary()) :: boolean()
  def knows?(window, user, id) do
    case window.users do
      %{^user => known} -> find(known, id) != nil
      _ -> false
    end
  end

  # Where the first record of this id begins. The last bytes of the ids are compared first: a number of 32 bits is read
  # without making anything, and random ids and counted ones differ there.
  defp find(user, <<_::96, last::32>> = id) do
    case user.seen do
      <<_::binary-size(user.first), records::binary>> -> find(records, id, last, user.first)
    end
  end

  defp find(<<_::96, other::32, _::256, rest::binary>>, id, last, place) when other != last,
    do: find(rest, id, last, place + @record)

  defp find(<<id::binary-size(16), _::256, rest::binary>>, wanted, last, place),
    do: if(id == wanted, do: place, else: find(rest, wanted, last, place + @record))

  defp find(<<>>, _id, _last, _place), do: nil

  defp seen_at(seen, place) do
    <<_::binary-size(place), id::binary-size(16), timestamp::signed-64, epoch::64, seq::64, fingerprint::64, _::binary>> =
      seen

    %Seen{id: id, epoch: epoch, seq: seq, timestamp: timestamp, fingerprint: fingerprint}
  end

  defp count(user), do: div(byte_size(user.seen) - user.first, @record)

  @doc "Remembers an applied command, at the room's time `at`."
  @spec record(t(), binary(), Seen.t(), integer()) :: t()
  def record(window, user, seen, at) do
    {window, state} = known(window, user)
    {window, state} = push({window, state}, seen)
    {window, state} = evict_beyond(window, state, at)
    put(window, state)
  end

  defp known(window, user) do
    case window.users do
      %{^user => state} ->
        {window, state}

      _ ->
        # Copied: a part of a received packet would keep the whole packet alive for as long as it is remembered.
        state = %{name: :binary.copy(user), ranges: [], newest: @i64_min, seen: <<>>, first: 0}
        {%{window | bytes: window.bytes + user_cost(user)}, state}
    end
  end

  defp put(window, state),
    do: %{window | users: Map.put(window.users, state.name, state), oldest: min(window.oldest, state.newest)}

  defp push({window, state}, seen) do
    record = <<seen.id::binary-size(16), seen.timestamp::signed-64, seen.epoch::64, seen.seq::64, seen.fingerprint::64>>
    state = %{state | newest: max(state.newest, seen.timestamp), seen: <<state.seen::binary, record::binary>>}
    {%{window | entries: window.entries + 1, bytes: window.bytes + entry_cost(seen)}, state}
  end

  # Commands with these timestamps are remembered no longer.
  defp forget({window, state}, lo, hi) when lo <= hi,
    do: with_ranges(window, %{state | newest: max(state.newest, hi)}, Ranges.add(state.ranges, lo, hi))

  defp forget(both, _lo, _hi), do: both

  defp with_ranges(window, state, ranges) do
    more = length(ranges) - length(state.ranges)
    {%{window | bytes: window.bytes + more * @range_cost}, %{state | ranges: ranges}}
  end

  defp evict_beyond(window, state, at) do
    if count(state) <= window.limit do
      {window, state}
    else
      {window, state} = evict(window, state, Saturating.i64(at - @window_ms))
      evict_beyond(window, state, at)
    end
  end

  # What the room's clock refuses anyway, below `limit`, needs no range.
  defp evict(window, %{first: first} = state, limit) do
    <<_::binary-size(first), _::128, timestamp::signed-64, epoch::64, seq::64, fingerprint::64, _::binary>> = state.seen
    cost = entry_cost(%{timestamp: timestamp, epoch: epoch, seq: seq, fingerprint: fingerprint})
    window = %{window | entries: window.entries - 1, bytes: window.bytes - cost}
    state = without_first(state)
    {gone, ranges} = Ranges.drop_below(state.ranges, limit)
    young? = timestamp >= limit
    {window, state} = with_ranges(window, state, if(young?, do: Ranges.add(ranges, timestamp, timestamp), else: ranges))
    gone = if young?, do: gone, else: max(gone || timestamp, timestamp)
    {window, if(gone != nil and gone >= state.newest, do: %{state | newest: newest(state)}, else: state)}
  end

  defp without_first(%{first: first} = state) when first < @evicted_max, do: %{state | first: first + @record}

  # The next record that is appended makes a binary of its own of the rest.
  defp without_first(%{first: first} = state) do
    <<_::binary-size(first), _::binary-size(@record), rest::binary>> = state.seen
    %{state | first: 0, seen: rest}
  end

  defp newest(state) do
    highest = Ranges.highest(state.ranges) || @i64_min
    for <<_::128, timestamp::signed-64, _::192 <- live(state)>>, reduce: highest, do: (newest -> max(newest, timestamp))
  end

  defp live(state), do: binary_part(state.seen, state.first, byte_size(state.seen) - state.first)

  @doc "Lets users leave whose newest command is out of every window at the room's time `at`."
  @spec sweep(t(), integer()) :: t()
  def sweep(window, at) do
    limit = Saturating.i64(at - @forget_ms)
    if window.oldest < limit, do: sweep_below(window, limit), else: window
  end

  # Looks at every user, but only when somebody may leave: the bound then found holds until the clock passes it.
  defp sweep_below(window, limit) do
    start = %{window | oldest: @i64_max}

    Enum.reduce(window.users, start, fn {name, state}, window ->
      cond do
        # Timestamps begin above it: such a user has none to be judged by, and stays until it has.
        state.newest == @i64_min -> window
        state.newest < limit -> leave(window, name, state)
        true -> %{window | oldest: min(window.oldest, state.newest)}
      end
    end)
  end

  defp leave(window, name, state) do
    fixed = user_cost(name) + length(state.ranges) * @range_cost
    freed = Enum.reduce(all(live(state)), fixed, &(entry_cost(&1) + &2))

    %{
      window
      | users: Map.delete(window.users, name),
        entries: window.entries - count(state),
        bytes: window.bytes - freed
    }
  end

  @doc "Upper bound of the encoded window, in bytes."
  @spec bytes(t()) :: non_neg_integer()
  def bytes(window), do: window.bytes

  @doc "How many commands are remembered."
  @spec len(t()) :: non_neg_integer()
  def len(window), do: window.entries

  @doc "True if nothing is remembered."
  @spec empty?(t()) :: boolean()
  def empty?(window), do: window.entries == 0

  @doc """
  As messages, ascending by user; a user's in the order of arrival. `make` makes something of each at once, so that no more
  than one is there at a time.
  """
  @spec encode(t(), (DedupeUser.t() -> made)) :: [made] when made: term()
  def encode(window, make \\ & &1) do
    for {name, state} <- List.keysort(Map.to_list(window.users), 0) do
      make.(%DedupeUser{
        user: name,
        floor: Ranges.highest(state.ranges) || @i64_min,
        entries: entries(live(state)),
        ranges: for({lo, hi} <- state.ranges, do: %DedupeRange{lo: lo, hi: hi})
      })
    end
  end

  defp entries(records) do
    for <<id::binary-size(16), timestamp::signed-64, epoch::64, seq::64, fingerprint::64 <- records>>,
      do: %DedupeEntry{message_id: id, seq: seq, timestamp: timestamp, epoch: epoch, fingerprint: fingerprint}
  end

  defp all(seen) do
    for <<id::binary-size(16), timestamp::signed-64, epoch::64, seq::64, fingerprint::64 <- seen>>,
      do: %Seen{id: id, epoch: epoch, seq: seq, timestamp: timestamp, fingerprint: fingerprint}
  end

  @doc """
  From messages written at the room's time `at`, for the last `limit` commands of each user. What no writer of ours could
  have written is left out; what is beyond the limit is evicted.
  """
  @spec decode([DedupeUser.t()], non_neg_integer(), integer()) :: t()
  def decode(users, limit \\ @user_entries, at \\ @i64_min),
    do: Enum.reduce(users, new(limit), &decode_user(&1, at, &2))

  defp decode_user(message, at, window) do
    entries = for %{message_id: id} = entry when byte_size(id) == 16 <- message.entries, do: entry

    if entries != [] and Id.valid?(:user, message.user) do
      forgotten = Enum.reduce(ranges(message), known(window, message.user), &forget(&2, &1.lo, &1.hi))
      {window, state} = Enum.reduce(entries, forgotten, &push(&2, seen(&1)))
      {window, state} = evict_beyond(window, state, at)
      put(window, state)
    else
      window
    end
  end

  # From before there were ranges: everything up to the floor.
  defp ranges(%{ranges: [], floor: floor}) when floor != @i64_min, do: [%DedupeRange{lo: @i64_min, hi: floor}]
  defp ranges(%{ranges: ranges}), do: ranges

  defp seen(%DedupeEntry{message_id: id, epoch: epoch, seq: seq, timestamp: timestamp, fingerprint: fingerprint}),
    do: %Seen{id: id, epoch: epoch, seq: seq, timestamp: timestamp, fingerprint: fingerprint}

  defp user_cost(user), do: 4 + 3 + byte_size(user) + 11

  defp entry_cost(seen) do
    fingerprint = if seen.fingerprint == 0, do: 0, else: 9
    2 + 18 + 3 + varint_len(seen.epoch) + varint_len(seen.seq) + varint_len(seen.timestamp) + fingerprint
  end

  # What protobuf takes for it; a negative number is written as its 64-bit complement.
  defp varint_len(n) when n < 0, do: 10
  defp varint_len(n) when n < 0x80, do: 1
  defp varint_len(n) when n < 0x4000, do: 2
  defp varint_len(n) when n < 0x20_0000, do: 3
  defp varint_len(n) when n < 0x1000_0000, do: 4
  defp varint_len(n) when n < 0x8_0000_0000, do: 5
  defp varint_len(n) when n < 0x400_0000_0000, do: 6
  defp varint_len(n), do: 6 + varint_len(Bitwise.bsr(n, 42))
end
