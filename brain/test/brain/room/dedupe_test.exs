defmodule Brain.Room.DedupeTest do
  use ExUnit.Case, async: true

  import Brain.Prop
  import :proper_types, only: [integer: 2, list: 1, oneof: 1]

  alias Brain.Codec
  alias Brain.Proto.Internal.{DedupeEntry, DedupeUser, RoomState}
  alias Brain.Room.Dedupe
  alias Brain.Room.Dedupe.Seen

  @i64_min -0x8000_0000_0000_0000

  defp user(n), do: "user-#{n}"
  defp id(n), do: <<n::128>>
  defp seen(n, timestamp), do: %Seen{id: id(n), epoch: 1_760_000_000_000, seq: n, timestamp: timestamp}

  defp encoded(window), do: Codec.encode(%RoomState{dedupe: Dedupe.encode(window)})

  test "a repeat gets its place, and an evicted one is refused for good" do
    evicted = 3 * Dedupe.user_entries_max() + 10
    count = Dedupe.user_entries_max() + evicted

    window =
      Enum.reduce(1..count, %Dedupe{}, fn n, window ->
        assert Dedupe.judge(window, user(1), id(n), n, 0) == :new
        Dedupe.record(window, user(1), seen(n, n))
      end)

    assert Dedupe.len(window) == Dedupe.user_entries_max()
    for n <- 1..evicted, do: assert(Dedupe.judge(window, user(1), id(n), n, 0) == :expired, "below the floor")
    for n <- (evicted + 1)..count, do: assert(Dedupe.judge(window, user(1), id(n), n, 0) == {:repeat, seen(n, n)})
    assert Dedupe.judge(window, user(2), id(5), 5, 0) == :new, "ids are a user's own"
    assert Dedupe.knows?(window, user(1), id(evicted + 1)) and not Dedupe.knows?(window, user(1), id(evicted))
    refute Dedupe.knows?(window, user(2), id(evicted + 1))
  end

  test "the lowest timestamp goes first, whatever came first" do
    window = Enum.reduce(1..256, %Dedupe{}, &Dedupe.record(&2, user(1), seen(&1, 1000 - &1)))
    window = Dedupe.record(window, user(1), seen(500, 5000))
    assert Dedupe.judge(window, user(1), id(256), 744, 0) == :expired
    assert Dedupe.judge(window, user(1), id(1), 999, 0) == {:repeat, seen(1, 999)}
    assert Dedupe.judge(window, user(1), id(900), 745, 0) == :new, "the floor is as low as it can be"
  end

  test "an id that is made of others' bytes is none of them" do
    timestamp = 0x0102_0304_0506_0708
    id = fn n -> <<n::64, 0xAA::64>> end
    records = for n <- 1..200, do: %Seen{id: id.(n), epoch: 1, seq: n, timestamp: timestamp}
    window = Enum.reduce(records, %Dedupe{}, &Dedupe.record(&2, user(1), &1))
    across = <<0xAA::64, timestamp::64>>
    refute Dedupe.knows?(window, user(1), across)
    assert Dedupe.judge(window, user(1), across, timestamp, 0) == :new
    mine = %Seen{id: across, epoch: 1, seq: 201, timestamp: timestamp}
    window = Dedupe.record(window, user(1), mine)
    assert Dedupe.judge(window, user(1), across, timestamp, 0) == {:repeat, mine}
    assert Dedupe.judge(window, user(1), id.(200), timestamp, 0) == {:repeat, List.last(records)}
  end

  test "too old is refused, and silent users leave" do
    at = 10_000_000
    assert Dedupe.judge(%Dedupe{}, user(1), id(1), at - Dedupe.window_ms(), at) == :new
    assert Dedupe.judge(%Dedupe{}, user(1), id(1), at - Dedupe.window_ms() - 1, at) == :expired
    window = %Dedupe{} |> Dedupe.record(user(1), seen(1, at)) |> Dedupe.record(user(2), seen(2, at + 5))
    window = Dedupe.sweep(window, at + Dedupe.forget_ms())
    assert Dedupe.len(window) == 2
    window = Dedupe.sweep(window, at + Dedupe.forget_ms() + 1)
    assert Dedupe.len(window) == 1
    again = Dedupe.judge(window, user(1), id(1), at, at + Dedupe.forget_ms() + 1)
    assert again == :expired, "refused, not forgotten"
    window = Dedupe.sweep(window, at + Dedupe.forget_ms() + 6)
    assert {Dedupe.len(window), Dedupe.bytes(window), Dedupe.empty?(window)} == {0, 0, true}
  end

  test "a clock at its end keeps its user" do
    window = Dedupe.record(%Dedupe{}, user(1), seen(1, @i64_min))
    assert Dedupe.len(Dedupe.sweep(window, 10_000_000)) == 1
    window = window |> Dedupe.record(user(1), seen(2, 5)) |> Dedupe.sweep(6 + Dedupe.forget_ms())
    assert Dedupe.empty?(window)
  end

  test "a full window says busy and never outgrows its bound" do
    {window, full} = fill(%Dedupe{}, 1)
    assert full == :full
    assert Dedupe.len(window) > 5000
    assert Dedupe.bytes(window) <= Dedupe.room_bytes_max()
    assert Dedupe.len(window) <= Dedupe.room_entries_max()
  end

  test "a user at its own limit makes room for itself in a room that has none for others" do
    # 32 users of 256 short entries each: as many as a room remembers, and fewer bytes than it may.
    small = fn n -> %Seen{id: id(n), epoch: 1, seq: 1, timestamp: 100} end

    window =
      for name <- 1..32, n <- 1..256, reduce: %Dedupe{} do
        window -> Dedupe.record(window, user(name), small.(n))
      end

    assert Dedupe.len(window) == Dedupe.room_entries_max()
    assert Dedupe.judge(window, user(40), id(1), 200, 0) == :full
    assert Dedupe.judge(window, user(1), id(1000), 200, 0) == :new
  end

  defp fill(window, n) do
    timestamp = 1_760_000_000_000 + n

    case Dedupe.judge(window, user(div(n, 100)), id(n), timestamp, 0) do
      :new -> window |> Dedupe.record(user(div(n, 100)), seen(n, timestamp)) |> fill(n + 1)
      other -> {window, other}
    end
  end

  test "a nearly full window stays within its bounds, whatever comes next" do
    {full, :full} = fill(%Dedupe{}, 1)
    now = 1_760_000_000_000
    name = oneof([user(1), user(900), String.duplicate("u", 128), "x", integer(1, 400)])

    check(
      list({name, integer(0, 9_000_000), integer(0, 200_000)}),
      fn commands ->
        Enum.reduce(commands, {full, now}, fn {name, n, ms}, {window, at} ->
          name = if is_integer(name), do: "new-#{name}", else: name
          window = Dedupe.sweep(window, at)
          timestamp = at + rem(ms, 30_000)
          new = Dedupe.judge(window, name, id(n), timestamp, at) == :new
          window = if new, do: Dedupe.record(window, name, seen(n, timestamp)), else: window
          assert Dedupe.bytes(window) <= Dedupe.room_bytes_max()
          assert Dedupe.len(window) <= Dedupe.room_entries_max()
          {window, at + div(ms, 20)}
        end)
      end,
      size: 200
    )
  end

  test "an entry costs what its numbers take, and more than it takes encoded" do
    for bits <- 1..64, n <- [Bitwise.bsl(1, bits) - 1, Bitwise.bsl(1, bits - 1)] do
      len = byte_size(IO.iodata_to_binary([Codec.Wire.put_varint(n)]))
      window = Dedupe.record(%Dedupe{}, "ann", %Seen{id: id(1), epoch: n, seq: n, timestamp: -1})
      assert Dedupe.bytes(window) == 18 + 3 + 23 + 2 * len + 10
      assert byte_size(encoded(window)) <= Dedupe.bytes(window)
    end
  end

  test "users are told in their order, whatever theirs was" do
    commands = for n <- 1..200, do: {user(rem(n, 70)), seen(n, n)}

    window = fn commands ->
      Enum.reduce(commands, %Dedupe{}, fn {name, seen}, it -> Dedupe.record(it, name, seen) end)
    end

    {even, odd} = Enum.split_with(commands, fn {name, _} -> :erlang.phash2(name, 2) == 0 end)
    assert encoded(window.(odd ++ even)) == encoded(window.(commands))
    names = for user <- Dedupe.encode(window.(commands)), do: user.user
    assert names == Enum.sort(names)
  end

  test "what no writer of ours could have written is left out" do
    entry = %DedupeEntry{message_id: id(1), seq: 1, timestamp: 5, epoch: 9}

    users = [
      %DedupeUser{user: "not a user", entries: [entry]},
      %DedupeUser{user: "ann", floor: 3, entries: [%{entry | message_id: "short"}, entry]},
      %DedupeUser{user: "bob", floor: 3, entries: []}
    ]

    window = Dedupe.decode(users)
    assert Dedupe.encode(window) == [%DedupeUser{user: "ann", floor: 3, entries: [entry]}]
    window = Dedupe.decode([%DedupeUser{user: "ann", floor: @i64_min, entries: List.duplicate(entry, 300)}])
    assert Dedupe.len(window) == 256
  end

  test "the window survives its encoding, and its size is an upper bound" do
    commands = list({integer(0, 3), integer(0, 5000), integer(-5, 2_000_000_000_000)})

    check(
      commands,
      fn commands ->
        window =
          Enum.reduce(commands, %Dedupe{}, fn {name, n, timestamp}, window ->
            case Dedupe.judge(window, user(name), id(n), timestamp, @i64_min) do
              :new -> Dedupe.record(window, user(name), seen(n, timestamp))
              _ -> window
            end
          end)

        again = Dedupe.decode(Dedupe.encode(window))

        assert encoded(again) == encoded(window)
        assert {Dedupe.bytes(again), Dedupe.len(again)} == {Dedupe.bytes(window), Dedupe.len(window)}
        assert byte_size(encoded(window)) <= Dedupe.bytes(window)
      end,
      size: 1200
    )
  end

  # The window as the page says it: lists that are searched. Whatever a log holds, ids stored twice included.
  defmodule Plain do
    def record(users, name, seen) do
      user = Map.get(users, name, %{floor: nil, seen: []})
      user = if length(user.seen) >= 256, do: evict(user), else: user
      Map.put(users, name, %{user | seen: user.seen ++ [seen]})
    end

    defp evict(user) do
      lowest = Enum.min_by(user.seen, & &1.timestamp)
      floor = Enum.max([lowest.timestamp | List.wrap(user.floor)])
      %{floor: floor, seen: List.delete(user.seen, lowest)}
    end

    def sweep(users, limit) do
      for {name, user} <- users, Enum.max(Enum.map(user.seen, & &1.timestamp)) >= limit, into: %{}, do: {name, user}
    end
  end

  test "it is what a plain list of the same history would be" do
    check(
      {list(step()), integer(200, 280)},
      fn {steps, crowd} ->
        before = for n <- 1..crowd, do: {:record, 1, rem(n * 7, 90), 10_000 + rem(n * 31, 100)}
        {window, plain, _} = Enum.reduce(before ++ steps, {%Dedupe{}, %{}, 0}, &both/2)
        users = for {name, user} <- Enum.sort(plain), do: {name, user.floor || @i64_min, Enum.map(user.seen, & &1.seq)}

        assert users ==
                 for(user <- Dedupe.encode(window), do: {user.user, user.floor, Enum.map(user.entries, & &1.seq)})

        assert Dedupe.len(window) == Enum.sum(for {_, user} <- plain, do: length(user.seen))

        for name <- 0..3, n <- 0..89 do
          first = Enum.find(Map.get(plain, user(name), %{seen: []}).seen, &(&1.id == id(n)))
          assert Dedupe.knows?(window, user(name), id(n)) == (first != nil)
          if first, do: assert(Dedupe.judge(window, user(name), id(n), 20_000, 0) == {:repeat, first})
        end
      end,
      size: 120
    )
  end

  defp step do
    oneof([
      {:record, integer(0, 3), integer(0, 89), integer(9_900, 10_200)},
      {:record, 1, integer(0, 89), integer(9_900, 10_200)},
      {:sweep, integer(9_900, 10_100)}
    ])
  end

  defp both({:record, name, n, timestamp}, {window, plain, seq}) do
    seen = %Seen{id: id(n), epoch: 1, seq: seq, timestamp: timestamp}
    {Dedupe.record(window, user(name), seen), Plain.record(plain, user(name), seen), seq + 1}
  end

  defp both({:sweep, limit}, {window, plain, seq}),
    do: {Dedupe.sweep(window, limit + Dedupe.forget_ms()), Plain.sweep(plain, limit), seq}
end
