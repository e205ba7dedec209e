defmodule Brain.Room.Dedupe do
  @moduledoc """
  The deduplication window, part of the folded state, so that it survives failover.

  Per user: message id → (place, timestamp). What was evicted is remembered as a `floor`: a command at or below it can
  no longer be judged, so it is refused for good and never applied. Which is why a repeat is either answered with its
  original place or refused, whatever its age.

  A user's commands are one binary of records in the order of arrival. A full window of terms would be a megabyte that
  every major garbage collection of the room's process copies, and under load those would cost more than all its work;
  binaries of this size lie outside of the heap. Clocks advance, so nearly always it is the first record that is evicted:
  then only the beginning moves, and the bytes before it go when there are some of them.
  """

  alias Brain.Id
  alias Brain.Proto.Internal.{DedupeEntry, DedupeUser}
  alias Brain.Room.Saturating

  defmodule Seen do
    @moduledoc """
    A remembered command: its idempotency key, where it was stored, and its sender's clock, ms.
    """
    defstruct id: <<>>, epoch: 0, seq: 0, timestamp: 0

    @type t :: %__MODULE__{
            id: binary(),
            epoch: non_neg_integer(),
            seq: non_neg_integer(),
            timestamp: integer()
          }
  end

  @user_entries_max 256
  @room_entries_max 8192
  @room_bytes_max 256 * 1024
  @window_ms 120_000
  @forget_ms 150_000

  @i64_min -0x8000_0000_0000_0000
  @i64_max 0x7FFF_FFFF_FFFF_FFFF

  # Upper bounds of what protobuf makes of an entry, so that the sum is an upper bound, too, and can be kept by adding.
  @entry_cost_max 2 + 18 + 11 + 11 + 11

  defstruct users: %{}, oldest: @i64_max, entries: 0, bytes: 0

  # Of a record: the id, then timestamp, epoch and seq.
  @record 40

  # So many bytes before the first record are carried along.
  @evicted_max 64 * @record

  # `first`: where in `seen` the first record that counts begins. `ascending`: no record's timestamp is below that of the
  # one before it.
  @typep user :: %{
           name: binary(),
           floor: nil | integer(),
           newest: integer(),
           seen: binary(),
           first: non_neg_integer(),
           ascending: boolean()
         }

  @typedoc "The window of one room. `oldest`: no user's newest timestamp is below it, but perhaps all are above."
  @type t :: %__MODULE__{
          users: %{binary() => user()},
          oldest: integer(),
          entries: non_neg_integer(),
          bytes: non_neg_integer()
        }

  @typedoc """
  What the window says of a command: never seen, and young enough to be sure of it; stored before, there; too old to
  tell: refuse, never apply; the room's window is full: refuse for now, not applied.
  """
  @type verdict :: :new | {:repeat, Seen.t()} | :expired | :full

  @doc "The most remembered commands of one user."
  @spec user_entries_max() :: pos_integer()
  def user_entries_max, do: @user_entries_max

  @doc "The most remembered commands of a room."
  @spec room_entries_max() :: pos_integer()
  def room_entries_max, do: @room_entries_max

  @doc "The most bytes of a room's window, encoded, users' floors included."
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
      known != nil and known.floor != nil and timestamp <= known.floor -> :expired
      full?(window, user, known) -> :full
      true -> :new
    end
  end

  # A user at its own limit makes room by its own eviction; the bytes then change by a few at most.
  defp full?(window, user, known) do
    evicts = known != nil and count(known) >= @user_entries_max
    fresh = @entry_cost_max + if known == nil, do: user_cost(user), else: 0

    (not evicts and window.entries >= @room_entries_max) or
      window.bytes + fresh > @room_bytes_max
  end

  @doc "True if this command is remembered as stored."
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

  defp find(<<_::96, other::32, _::192, rest::binary>>, id, last, place) when other != last,
    do: find(rest, id, last, place + @record)

  defp find(<<id::binary-size(16), _::192, rest::binary>>, wanted, last, place),
    do: if(id == wanted, do: place, else: find(rest, wanted, last, place + @record))

  defp find(<<>>, _id, _last, _place), do: nil

  defp seen_at(seen, place) do
    <<_::binary-size(place), id::binary-size(16), timestamp::signed-64, epoch::64, seq::64, _::binary>> = seen
    %Seen{id: id, epoch: epoch, seq: seq, timestamp: timestamp}
  end

  defp count(user), do: div(byte_size(user.seen) - user.first, @record)

  @doc "Remembers an applied command."
  @spec record(t(), binary(), Seen.t()) :: t()
  def record(window, user, seen) do
    {window, state} = known(window, user)
    record = <<seen.id::binary-size(16), seen.timestamp::signed-64, seen.epoch::64, seen.seq::64>>

    {window, state} = if count(state) < @user_entries_max, do: {window, state}, else: evict(window, state)

    state = %{
      state
      | newest: max(state.newest, seen.timestamp),
        ascending: state.ascending and seen.timestamp >= state.newest,
        seen: <<state.seen::binary, record::binary>>
    }

    %{
      window
      | users: Map.put(window.users, state.name, state),
        oldest: min(window.oldest, state.newest),
        entries: window.entries + 1,
        bytes: window.bytes + entry_cost(seen)
    }
  end

  defp known(window, user) do
    case window.users do
      %{^user => state} ->
        {window, state}

      _ ->
        # Copied: a part of a received packet would keep the whole packet alive for as long as it is remembered.
        state = %{name: :binary.copy(user), floor: nil, newest: @i64_min, seen: <<>>, first: 0, ascending: true}
        {%{window | bytes: window.bytes + user_cost(user)}, state}
    end
  end

  # The lowest timestamp goes, of several the first to arrive, so that the floor stays as low as it can: a user with two
  # skewed clocks does not lock itself out.
  defp evict(window, state) do
    place = if state.ascending, do: state.first, else: lowest(live(state), state.first, @i64_max, state.first)
    evicted = seen_at(state.seen, place)
    floor = max(state.floor || evicted.timestamp, evicted.timestamp)
    window = %{window | entries: window.entries - 1, bytes: window.bytes - entry_cost(evicted)}
    {window, without(%{state | floor: floor}, place)}
  end

  defp without(%{first: first} = state, first) when first < @evicted_max, do: %{state | first: first + @record}

  defp without(%{first: first} = state, place) do
    <<_::binary-size(first), before::binary-size(place - first), _::binary-size(@record), rest::binary>> = state.seen
    %{state | first: 0, seen: <<before::binary, rest::binary>>}
  end

  defp live(state), do: binary_part(state.seen, state.first, byte_size(state.seen) - state.first)

  defp lowest(<<_::128, timestamp::signed-64, _::128, rest::binary>>, place, least, _found) when timestamp < least,
    do: lowest(rest, place + @record, timestamp, place)

  defp lowest(<<_::binary-size(@record), rest::binary>>, place, least, found),
    do: lowest(rest, place + @record, least, found)

  defp lowest(<<>>, _place, _least, found), do: found

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
    freed = Enum.reduce(all(live(state)), user_cost(name), &(entry_cost(&1) + &2))

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
      make.(%DedupeUser{user: name, floor: state.floor || @i64_min, entries: entries(live(state))})
    end
  end

  defp entries(records) do
    for <<id::binary-size(16), timestamp::signed-64, epoch::64, seq::64 <- records>>,
      do: %DedupeEntry{message_id: id, seq: seq, timestamp: timestamp, epoch: epoch}
  end

  defp all(seen) do
    for <<id::binary-size(16), timestamp::signed-64, epoch::64, seq::64 <- seen>>,
      do: %Seen{id: id, epoch: epoch, seq: seq, timestamp: timestamp}
  end

  @doc "From messages. What no writer of ours could have written is left out."
  @spec decode([DedupeUser.t()]) :: t()
  def decode(users), do: Enum.reduce(users, %__MODULE__{}, &decode_user/2)

  defp decode_user(message, window) do
    if Id.valid?(:user, message.user) do
      message.entries
      |> Enum.take(@user_entries_max)
      |> Enum.reduce(window, &decode_entry(&1, message.user, &2))
      |> put_floor(message.user, if(message.floor != @i64_min, do: message.floor))
    else
      window
    end
  end

  defp decode_entry(%{message_id: id} = entry, user, window) when byte_size(id) == 16 do
    record(window, user, %Seen{
      id: id,
      epoch: entry.epoch,
      seq: entry.seq,
      timestamp: entry.timestamp
    })
  end

  defp decode_entry(_entry, _user, window), do: window

  defp put_floor(window, user, floor) do
    case window.users do
      %{^user => state} ->
        %{window | users: Map.put(window.users, state.name, %{state | floor: floor})}

      _ ->
        window
    end
  end

  defp user_cost(user), do: 4 + 3 + byte_size(user) + 11

  defp entry_cost(seen),
    do: 2 + 18 + 3 + varint_len(seen.epoch) + varint_len(seen.seq) + varint_len(seen.timestamp)

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
