defmodule Brain.Room.StateTest do
  use ExUnit.Case, async: true

  import Brain.Prop
  import Brain.RoomGen, only: [map: 2]
  import :proper_types, only: [integer: 2, list: 1, oneof: 1, weighted_union: 1]

  alias Brain.Codec
  alias Brain.Proto.Internal.{RoomState, Ttl}
  alias Brain.Proto.V1
  alias Brain.Room.State
  alias Brain.Room.State.{LockState, Slot}

  @start_ms 1_760_000_000_000
  @i64_max 0x7FFF_FFFF_FFFF_FFFF

  defp event(seq, at, body), do: %V1.Event{epoch: 9, seq: seq, at: at, body: body}
  defp apply_event(state, event), do: State.apply(state, %V1.Envelope{}, event)
  defp key_set(key, more), do: {:key_set, struct!(%V1.KeySet{key: key}, more)}

  defp fill(bodies, at) do
    bodies
    |> Enum.with_index(1)
    |> Enum.reduce(%State{}, fn {body, seq}, state -> apply_event(state, event(seq, at, body)) end)
  end

  defp reread(state, at) do
    {:ok, message} = Codec.decode(RoomState, Codec.encode(State.encode(state, at)))
    State.decode(message, 256)
  end

  defp body do
    key = oneof(["a", "b", "c", "a-longer-key"])
    ends = map(weighted_union([{1, 0}, {1, integer(1, 100_000)}]), &if(&1 > 0, do: @start_ms + &1, else: 0))

    weighted_union([
      {4,
       map({key, integer(0, 40_000), ends}, fn {key, len, ends} ->
         key_set(key, value: :binary.copy(<<7>>, len), ver: 3, expires_at: ends)
       end)},
      {2, map(key, &{:key_deleted, %V1.KeyDeleted{key: &1}})},
      {1, map(ends, &{:locked, %V1.Locked{mode: :all, reason: "because", until: &1, user: "ann"}})},
      {1, {:unlocked, %V1.Unlocked{}}},
      {1, {:closed, %V1.Closed{reason: "of a later version"}}}
    ])
  end

  test "a state survives its encoding, and its parts hold every key" do
    check(list(body()), fn bodies ->
      state = fill(bodies, @start_ms)
      assert byte_size(Codec.encode(State.encode(state, @start_ms))) <= State.bytes(state) + 32
      assert reread(state, @start_ms) == state

      parts = State.parts(state)
      {last, others} = List.pop_at(parts, -1)
      assert last.last and not Enum.any?(others, & &1.last)
      keys = for part <- parts, set <- part.entries, do: set.key
      assert keys == for({key, _} <- State.keys(state), do: key)
    end)
  end

  test "what has ended is what a search of all keys would find, also after a take-over" do
    check({list(body()), integer(-10, 110_000), oneof([nil, 0, 50_000])}, fn {bodies, ms, renewed} ->
      state = fill(bodies, @start_ms)
      state = if renewed, do: State.renew(state, @start_ms + renewed), else: state
      at = @start_ms + ms + (renewed || 0)
      ends = for {key, %{expires_at: ends}} when ends > 0 <- State.keys(state), do: {key, ends}
      lock = State.lock(state)
      locks = if lock && lock.until > 0, do: [lock.until], else: []
      keys = for {key, ends} <- ends, ends <= at, do: {:key, key}
      assert State.ended(state, at) == Enum.map(Enum.filter(locks, &(&1 <= at)), fn _ -> :lock end) ++ keys
      assert State.next_end(state) == Enum.min(locks ++ Enum.map(ends, &elem(&1, 1)), fn -> nil end)
    end)
  end

  test "the same state has the same bytes, whatever led to it" do
    sets = for n <- 1..100, do: key_set("key-#{n}", value: "v", ver: n, expires_at: @start_ms + rem(n, 3))
    gone = for n <- 101..150, do: key_set("key-#{n}", value: "w", ver: n, expires_at: @start_ms)
    deleted = for n <- 101..150, do: {:key_deleted, %V1.KeyDeleted{key: "key-#{n}"}}
    assert fill(sets, 0) == fill(gone ++ Enum.reverse(sets) ++ deleted, 0)
  end

  test "a take-over begins every ttl anew" do
    state = fill([key_set("k", ver: 1, expires_at: 1500)], 1000)
    assert {State.next_end(state), State.ended(state, 1499), length(State.ended(state, 1500))} == {1500, [], 1}
    state = state |> reread(1000) |> State.renew(4000)
    assert {State.next_end(state), State.ended(state, 4499)} == {4500, []}
    assert State.ended(state, 4500) == [{:key, "k"}]
  end

  test "what ends first after a take-over is what has the shortest ttl" do
    state = fill([key_set("a", expires_at: 1900), key_set("b", expires_at: 1100), key_set("c", expires_at: 1500)], 1000)
    state = State.renew(state, 4000)
    assert State.next_end(state) == 4100
    assert State.ended(state, 4500) == [{:key, "b"}, {:key, "c"}]
    assert State.renew(state, 4000) == state
  end

  test "a lock, too, runs its full length again, and what never ends goes on" do
    locked = {:locked, %V1.Locked{mode: :join, until: 1700, user: "ann"}}
    state = fill([locked, key_set("k", ver: 1)], 1000) |> reread(1000) |> State.renew(4000)
    assert State.lock(state) == %LockState{mode: :join, until: 4700, ttl_ms: 700, user: "ann"}
    assert {State.ended(state, 4700), State.next_end(state)} == {[:lock], 4700}
    assert State.get(state, "k") == %Slot{ver: 1}
    state = apply_event(state, event(3, 4000, {:unlocked, %V1.Unlocked{}}))
    assert {State.lock(state), State.ended(state, @i64_max), State.next_end(state)} == {nil, [], nil}
    state = apply_event(state, event(4, 4000, {:locked, %V1.Locked{mode: :write}}))
    assert {State.renew(state, 9000), State.next_end(state)} == {state, nil}
    both = fill([locked, key_set("k", expires_at: 1600)], 1000)
    assert State.next_end(both) == 1600
    assert State.next_end(fill([locked, key_set("k", expires_at: 1800)], 1000)) == 1700
  end

  test "what modes forbid" do
    barred = for mode <- [:none, :join, :write, :all], do: %LockState{mode: mode}
    assert Enum.map(barred, &LockState.bars_join?/1) == [false, true, false, true]
    assert Enum.map(barred, &LockState.bars_write?/1) == [false, false, true, true]
    state = fill([{:locked, %V1.Locked{mode: 77, until: -5}}], 0)
    assert State.lock(state) == %LockState{}, "a mode of a later version forbids nothing here"
  end

  test "numbers at their end" do
    assert State.after_ttl(5, 10) == 15
    assert State.after_ttl(5, 0xFFFF_FFFF_FFFF_FFFF) == @i64_max
    assert State.after_ttl(-5, 0xFFFF_FFFF_FFFF_FFFF) == @i64_max - 5
    past = fill([key_set("k", expires_at: 10)], 1000)
    assert State.get(past, "k").ttl_ms == 1, "an end in the past has a length all the same"
    far = fill([key_set("k", expires_at: @i64_max)], -@i64_max)
    assert State.get(far, "k").ttl_ms == @i64_max
    assert State.get(fill([key_set("k", expires_at: -1)], 0), "k") == %Slot{}
  end

  test "full values make parts of at most 64 KiB" do
    value = :binary.copy(<<1>>, State.value_bytes_max())
    state = fill(for(n <- 0..30, do: key_set("key-#{1000 + n}", value: value, ver: n)), 1)
    assert State.bytes(state) <= State.state_bytes_max()
    parts = State.parts(state)
    assert length(parts) > 8
    assert Enum.all?(parts, &(byte_size(Codec.encode(&1)) + 512 <= State.part_bytes_max()))
    assert Enum.map(parts, & &1.part) == Enum.to_list(0..(length(parts) - 1))
    assert [%V1.Snapshot{part: 0, last: true, entries: []}] = State.parts(%State{})
  end

  test "what no writer of ours could have written is left out" do
    message = %RoomState{
      state: %V1.Snapshot{entries: [%V1.KeySet{key: "k", expires_at: 5}]},
      ttls: [%Ttl{key: "k", ttl_ms: 9}, %Ttl{key: "absent", ttl_ms: 9}],
      lock_ttl_ms: 7
    }

    state = State.decode(message, 256)
    assert State.keys(state) == [{"k", %Slot{expires_at: 5, ttl_ms: 9}}]
    assert {State.lock(state), State.len(state), State.empty?(state)} == {nil, 1, false}
    assert State.decode(%RoomState{}, 256) == %State{}
    assert State.empty?(%State{})
  end

  test "a command is remembered by its user and id, an event of the room's own is not" do
    at = fn user, id ->
      event = %V1.Event{epoch: 9, seq: 4, user: user, body: {:said, %V1.Said{}}}
      State.apply(%State{}, %V1.Envelope{message_id: id, timestamp: 77}, event).dedupe
    end

    id = <<5::128>>
    assert [%{user: "ann", entries: [entry]}] = Brain.Room.Dedupe.encode(at.("ann", id))
    assert {entry.message_id, entry.epoch, entry.seq, entry.timestamp} == {id, 9, 4, 77}

    for {user, id} <- [{"", id}, {"not a user", id}, {"ann", "short"}],
        do: assert(Brain.Room.Dedupe.empty?(at.(user, id)))
  end

  test "a value does not keep the packet alive that it came in" do
    packet = :binary.copy(<<9>>, 60_000)
    state = fill([key_set(binary_part(packet, 0, 99), value: binary_part(packet, 100, 90))], 0)
    [{key, slot}] = State.keys(state)
    assert {:binary.referenced_byte_size(key), :binary.referenced_byte_size(slot.value)} == {99, 90}
  end
end
