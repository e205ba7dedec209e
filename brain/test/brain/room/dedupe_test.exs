defmodule Brain.Room.DedupeTest do
  use ExUnit.Case, async: true

  import Brain.Prop
  import :proper_types, only: [integer: 2, list: 1, oneof: 1, weighted_union: 1]

  alias Brain.Codec
  alias Brain.Proto.Internal.{DedupeEntry, DedupeRange, DedupeUser, RoomState}
  alias Brain.Room.Dedupe
  alias Brain.Room.Dedupe.{Ranges, Seen}

  @i64_min -0x8000_0000_0000_0000
  @i64_max 0x7FFF_FFFF_FFFF_FFFF

  defp user(n), do: "user-#{n}"
  defp id(n), do: <<n::128>>

  defp seen(n, timestamp),
    do: %Seen{id: id(n), epoch: 1_760_000_000_000, seq: n, timestamp: timestamp, fingerprint: n + 1}

  defp record(window, user, seen, at \\ 0), do: Dedupe.record(window, user, seen, at)

  defp encoded(window), do: Codec.encode(%RoomState{dedupe: Dedupe.encode(window)})

  test "a repeat gets its place, and an evicted one is refused for good" do
    evicted = 3 * Dedupe.user_entries() + 10
    count = Dedupe.user_entries() + evicted

    window =
      Enum.reduce(1..count, %Dedupe{}, fn n, window ->
        assert Dedupe.judge(window, user(1), id(n), n, 0) == :new
        record(window, user(1), seen(n, n))
      end)

    assert Dedupe.len(window) == Dedupe.user_entries()
    for n <- 1..evicted, do: assert(Dedupe.judge(window, user(1), id(n), n, 0) == :expired, "in a forgotten range")
    for n <- (evicted + 1)..count, do: assert(Dedupe.judge(window, user(1), id(n), n, 0) == {:repeat, seen(n, n)})
    assert Dedupe.judge(window, user(2), id(5), 5, 0) == :new, "ids are a user's own"
    assert Dedupe.knows?(window, user(1), id(evicted + 1)) and not Dedupe.knows?(window, user(1), id(evicted))
    refute Dedupe.knows?(window, user(2), id(evicted + 1))
  end

  test "the oldest arrival is evicted, and a clock behind all evicted ones is judged" do
    at = 1_000_000
    sent = [{1, at}, {2, at + 10}, {3, at - 50}, {4, at + 11}, {5, at + 12}]

    window =
      Enum.reduce(sent, Dedupe.new(3), fn {n, timestamp}, window ->
        assert Dedupe.judge(window, user(1), id(n), timestamp, at) == :new
        record(window, user(1), seen(n, timestamp), at)
      end)

    for {n, timestamp} <- [{1, at}, {2, at + 10}],
        do: assert(Dedupe.judge(window, user(1), id(n), timestamp, at) == :expired)

    lowest = Dedupe.judge(window, user(1), id(3), at - 50, at)
    assert lowest == {:repeat, seen(3, at - 50)}, "lowest, but not oldest"

    for timestamp <- [at - 20_000, at - 1, at + 1, at + 9, at + 11],
        do: assert(Dedupe.judge(window, user(1), id(9), timestamp, at) == :new)
  end

  test "the ninth range closes the smallest gap, of several the lowest" do
    ranges = Enum.reduce([0, 100, 200, 280, 400, 480, 600, 700], [], &Ranges.add(&2, &1, &1))
    ranges = Ranges.add(ranges, 1, 1)
    assert hd(ranges) == {0, 1}, "neighbours are one without a loss"
    ranges = Ranges.add(ranges, 900, 900)

    assert ranges ==
             [{0, 1}, {100, 100}, {200, 280}, {400, 400}, {480, 480}, {600, 600}, {700, 700}, {900, 900}]

    ranges = Ranges.add(ranges, 90, 500)
    assert ranges == [{0, 1}, {90, 500}, {600, 600}, {700, 700}, {900, 900}]
    assert Ranges.drop_below(ranges, 601) == {600, [{700, 700}, {900, 900}]}
    ends = ranges |> Ranges.add(@i64_min, @i64_min) |> Ranges.add(@i64_max, @i64_max)
    assert Ranges.add(ends, @i64_min, @i64_max) == [{@i64_min, @i64_max}]
  end

  test "a range that the room's clock refuses anyway is dropped, and its user leaves in time" do
    at = 10_000_000
    window = Dedupe.new(1) |> record(user(1), seen(1, at + 30_000), at) |> record(user(1), seen(2, at), at)
    assert [%{ranges: [%DedupeRange{lo: lo, hi: lo}]}] = Dedupe.encode(window)
    assert lo == at + 30_000
    window = Dedupe.sweep(window, at + Dedupe.forget_ms() + 1)
    assert Dedupe.len(window) == 1, "its newest command is remembered by its range alone"
    later = at + 30_000 + Dedupe.window_ms() + 1
    assert Dedupe.judge(window, user(1), id(1), at + 30_000, later - 1) == :expired
    window = record(window, user(1), seen(3, at + 31_000), later)
    assert [%{ranges: []}] = Dedupe.encode(window), "both are too old for every judge to come"
    again = Dedupe.decode(Dedupe.encode(window), 1, later)
    assert {encoded(again), Map.new(again.users, &newest/1)} == {encoded(window), Map.new(window.users, &newest/1)}
  end

  test "a floor from before there were ranges refuses everything up to it" do
    at = 10_000_000
    entry = %DedupeEntry{message_id: id(1), seq: 1, timestamp: at, epoch: 9}
    old = &%DedupeUser{user: user(1), floor: &1, entries: [entry]}
    window = Dedupe.decode([old.(at - 5)], 256, at)
    for ms <- [5, Dedupe.window_ms()], do: assert(Dedupe.judge(window, user(1), id(7), at - ms, at) == :expired)
    assert Dedupe.judge(window, user(1), id(7), at - 4, at) == :new
    lo = at - 5
    assert [%{floor: ^lo, ranges: [%DedupeRange{lo: @i64_min, hi: ^lo}]}] = Dedupe.encode(window)
    window = Dedupe.decode([old.(@i64_min)], 256, at)
    assert Dedupe.judge(window, user(1), id(7), at - Dedupe.window_ms(), at) == :new
  end

  test "a snapshot that remembers more than the limit is cut to it safely" do
    at = 10_000_000
    window = Enum.reduce(0..19, %Dedupe{}, &record(&2, user(1), seen(&1, at + &1 * 10), at))
    smaller = Dedupe.decode(Dedupe.encode(window), 4, at)
    assert {Dedupe.len(smaller), smaller.limit} == {4, 4}
    for n <- 0..15, do: assert(Dedupe.judge(smaller, user(1), id(n), at + n * 10, at) == :expired)
    assert Dedupe.judge(smaller, user(1), id(99), at - 1, at) == :new
    assert encoded(Dedupe.decode(Dedupe.encode(window), 1000, at)) == encoded(window)
  end

  test "an id that is made of others' bytes is none of them" do
    timestamp = 0x0102_0304_0506_0708
    id = fn n -> <<n::64, 0xAA::64>> end
    records = for n <- 1..200, do: %Seen{id: id.(n), epoch: 1, seq: n, timestamp: timestamp}
    window = Enum.reduce(records, %Dedupe{}, &record(&2, user(1), &1))
    across = <<0xAA::64, timestamp::64>>
    refute Dedupe.knows?(window, user(1), across)
    assert Dedupe.judge(window, user(1), across, timestamp, 0) == :new
    mine = %Seen{id: across, epoch: 1, seq: 201, timestamp: timestamp}
    window = record(window, user(1), mine)
    assert Dedupe.judge(window, user(1), across, timestamp, 0) == {:repeat, mine}
    assert Dedupe.judge(window, user(1), id.(200), timestamp, 0) == {:repeat, List.last(records)}
  end

  test "too old is refused, and silent users leave" do
    at = 10_000_000
    assert Dedupe.judge(%Dedupe{}, user(1), id(1), at - Dedupe.window_ms(), at) == :new
    assert Dedupe.judge(%Dedupe{}, user(1), id(1), at - Dedupe.window_ms() - 1, at) == :expired
    window = %Dedupe{} |> record(user(1), seen(1, at)) |> record(user(2), seen(2, at + 5))
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
    window = record(%Dedupe{}, user(1), seen(1, @i64_min))
    assert Dedupe.len(Dedupe.sweep(window, 10_000_000)) == 1
    window = window |> record(user(1), seen(2, 5)) |> Dedupe.sweep(6 + Dedupe.forget_ms())
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
        window -> record(window, user(name), small.(n))
      end

    assert Dedupe.len(window) == Dedupe.room_entries_max()
    assert Dedupe.judge(window, user(40), id(1), 200, 0) == :full
    assert Dedupe.judge(window, user(1), id(1000), 200, 0) == :new
  end

  defp fill(window, n) do
    timestamp = 1_760_000_000_000 + n

    case Dedupe.judge(window, user(div(n, 100)), id(n), timestamp, 0) do
      :new -> window |> record(user(div(n, 100)), seen(n, timestamp)) |> fill(n + 1)
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
          window = if new, do: record(window, name, seen(n, timestamp)), else: window
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
      window = record(%Dedupe{}, "ann", %Seen{id: id(1), epoch: n, seq: n, timestamp: -1})
      assert Dedupe.bytes(window) == 18 + 3 + 23 + 2 * len + 10
      assert byte_size(encoded(window)) <= Dedupe.bytes(window)
    end
  end

  test "users are told in their order, whatever theirs was" do
    commands = for n <- 1..200, do: {user(rem(n, 70)), seen(n, n)}

    window = fn commands ->
      Enum.reduce(commands, %Dedupe{}, fn {name, seen}, it -> record(it, name, seen) end)
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
    forgotten = [%DedupeRange{lo: @i64_min, hi: 3}]
    assert Dedupe.encode(window) == [%DedupeUser{user: "ann", floor: 3, entries: [entry], ranges: forgotten}]
    window = Dedupe.decode([%DedupeUser{user: "ann", floor: @i64_min, entries: List.duplicate(entry, 300)}], 256, 0)
    assert Dedupe.len(window) == 256
    crossed = %DedupeUser{user: "ann", entries: [entry], ranges: [%DedupeRange{lo: 9, hi: 8}]}
    assert [%{ranges: []}] = Dedupe.encode(Dedupe.decode([crossed]))
  end

  test "the window survives its encoding, and its size is an upper bound" do
    commands = list({integer(0, 3), integer(0, 5000), integer(-5, 2_000_000_000_000)})

    check(
      commands,
      fn commands ->
        window =
          Enum.reduce(commands, %Dedupe{}, fn {name, n, timestamp}, window ->
            case Dedupe.judge(window, user(name), id(n), timestamp, @i64_min) do
              :new -> record(window, user(name), seen(n, timestamp), @i64_min)
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

  # The window as its rule says it: lists that are searched, and everything that was ever forgotten. Whatever a log holds,
  # ids stored twice included.
  defmodule Plain do
    def record(users, name, seen, limit) do
      user = Map.get(users, name, %{gone: [], seen: []})
      {gone, kept} = Enum.split(user.seen ++ [seen], -limit)
      Map.put(users, name, %{gone: user.gone ++ Enum.map(gone, & &1.timestamp), seen: kept})
    end

    def sweep(users, limit) do
      for {name, user} <- users, Enum.max(Enum.map(user.seen, & &1.timestamp) ++ user.gone) >= limit, into: %{} do
        {name, user}
      end
    end
  end

  test "it is what a plain list of the same history would be" do
    check(
      {list(step()), integer(200, 280), oneof([256, 40, 3])},
      fn {steps, crowd, limit} ->
        before = for n <- 1..crowd, do: {:record, 1, rem(n * 7, 90), 10_000 + rem(n * 31, 100)}
        {window, plain, _} = Enum.reduce(before ++ steps, {Dedupe.new(limit), %{}, 0}, &both/2)
        users = for {name, user} <- Enum.sort(plain), do: {name, Enum.map(user.seen, & &1.seq)}
        assert users == for(user <- Dedupe.encode(window), do: {user.user, Enum.map(user.entries, & &1.seq)})

        for user <- Dedupe.encode(window), timestamp <- 9_900..10_200 do
          gone = Map.fetch!(plain, user.user).gone
          held = Enum.any?(user.ranges, &(timestamp in &1.lo..&1.hi))
          assert held or timestamp not in gone
          assert not held or (Enum.min(gone) <= timestamp and timestamp <= Enum.max(gone))
          assert length(gone) > 8 or held == timestamp in gone
          assert length(user.ranges) <= 8
        end

        assert Dedupe.len(window) == Enum.sum(for {_, user} <- plain, do: length(user.seen))

        for name <- 0..3, n <- 0..89 do
          first = Enum.find(Map.get(plain, user(name), %{seen: []}).seen, &(&1.id == id(n)))
          assert Dedupe.knows?(window, user(name), id(n)) == (first != nil)
          assert Dedupe.seen(window, user(name), id(n)) == first
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
    {record(window, user(name), seen), Plain.record(plain, user(name), seen, window.limit), seq + 1}
  end

  defp both({:sweep, limit}, {window, plain, seq}),
    do: {Dedupe.sweep(window, limit + Dedupe.forget_ms()), Plain.sweep(plain, limit), seq}

  # Remembers everything: what was applied, in the order of arrival. A command is the same bytes whenever it is sent, its
  # timestamp among them.
  test "nothing is applied twice, and nothing is refused outside the rule" do
    skew = weighted_union([{4, integer(-50, 50)}, {2, integer(-20_100, -19_900)}, {1, integer(-125_000, 30_000)}])
    pass = weighted_union([{6, integer(0, 40)}, {1, integer(0, 3_000)}, {1, 130_000}])
    sent = list({integer(0, 2), integer(0, 900), skew, pass})

    check(
      {oneof([2, 7, 64, 256]), sent},
      fn {limit, sent} ->
        start = %{window: Dedupe.new(limit), at: 1_760_000_000_000, sent: %{}, applied: %{}}
        last = Enum.reduce(sent, start, &send_one/2)
        again = Dedupe.decode(Dedupe.encode(last.window), limit, last.at)
        assert {encoded(again), again.bytes} == {encoded(last.window), last.window.bytes}
        assert Map.new(again.users, &newest/1) == Map.new(last.window.users, &newest/1)
      end,
      size: 1000
    )
  end

  defp newest({name, user}), do: {name, user.newest}

  defp send_one({who, n, skew, pass}, world) do
    at = world.at + pass
    window = Dedupe.sweep(world.window, at)
    sent = Map.put_new(world.sent, {who, n}, at + skew)
    timestamp = sent[{who, n}]
    applied = Map.get(world.applied, who, [])
    {forgotten, last} = Enum.split(applied, -window.limit)
    old? = timestamp < at - Dedupe.window_ms()
    world = %{world | at: at, window: window, sent: sent}

    case Dedupe.judge(window, user(who), id(n), timestamp, at) do
      :new ->
        refute List.keymember?(applied, n, 0), "applied twice"
        window = record(window, user(who), seen(n, timestamp), at)
        assert Dedupe.bytes(window) <= Dedupe.room_bytes_max()
        %{world | window: window, applied: Map.put(world.applied, who, applied ++ [{n, timestamp}])}

      {:repeat, seen} ->
        assert List.keymember?(applied, n, 0) and seen == seen(n, timestamp)
        world

      :expired ->
        gone = for {_, timestamp} <- forgotten, do: timestamp
        assert old? or (Enum.min(gone) <= timestamp and timestamp <= Enum.max(gone))
        assert old? or not List.keymember?(last, n, 0), "one of the last was forgotten"
        assert old? or length(gone) > 8 or timestamp in gone
        world
    end
  end
end
