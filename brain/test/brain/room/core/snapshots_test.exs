defmodule Brain.Room.Core.SnapshotsTest do
  @moduledoc "Scripted stories of a room and its snapshots: dormancy, trimming, and a log that lost what they stand on."
  use ExUnit.Case, async: true

  import Brain.RoomWorld

  alias Brain.{Codec, RoomWorld}
  alias Brain.Proto.Internal
  alias Brain.Room.{Core, State}

  test "a dormant room comes back from its snapshot and the log is trimmed below the older one" do
    rules = %{Core.rules() | idle_ms: 500, trim_age_ms: 1000}

    {world, _} =
      for round <- 0..3, reduce: {RoomWorld.new(), nil} do
        {world, state} ->
          {world, a} = add(world, rules)
          world = open(world, a)
          opened = opened(world, a)
          assert {opened.term, opened.epoch} == {round + 1, start_ms()}
          assert state == nil or bytes(state) == bytes(Core.committed(owner(world, a).core).state)
          {world, ack} = ask(world, a, command("ann", round + 1, set("k#{round}", "v")))
          assert ack.seq == round + 1
          state = Core.committed(owner(world, a).core).state
          world = run(world, 2000)
          assert owner(world, a).gone == :idle
          {world, state}
      end

    {:ok, older} = Codec.decode(Internal.RoomSnapshot, elem(hd(world.streams.snaps), 1))

    assert elem(List.last(world.streams.log), 0) == older.pos,
           "the older snapshot's entry is the oldest that stays"

    {world, a} = add(world, rules)
    world = open(world, a)
    {_, ack} = ask(world, a, command("ann", 1, set("k0", "v")))
    assert {ack.seq, ack.duplicate} == {1, true}, "the window survives in the snapshot"
  end

  defp bytes(state), do: Codec.encode(State.encode(state, 0))

  test "a long log is shortened by a snapshot while the room is served" do
    {world, a} = served(%{Core.rules() | snapshot_entries: 3})
    world = Enum.reduce(1..4, world, &elem(ask(&2, a, command("ann", &1, say("#{&1}"))), 0))
    assert [{1, _}] = world.streams.snaps
    {world, b} = add(world)
    world = world |> input(b, {:open, slot(9000), true}) |> call(b)
    assert [{:read, _, false, false, from}] = owner(world, b).calls
    assert from > 1, "the load begins where the snapshot stands"
    world = settle(world)
    assert {opened(world, b).term, opened(world, b).seq} == {2, 4}
  end

  test "a snapshot whose fate is unknown is no harm" do
    {world, a} = served(%{Core.rules() | idle_ms: 500})
    world = world |> pass(600) |> input(a, :wake)
    {world, {:write_snapshot, token, 0, _}} = take_call(world, a)
    assert Core.wake_at(owner(world, a).core) == nil, "nothing else is waited for"
    world = input(world, a, {:snapshot_written, token + 1, {:stored, 1}})
    world = input(world, a, {:snapshot_written, token, :unresolved})
    assert owner(world, a).gone == :idle
  end

  test "a log lost below its snapshots begins a new epoch from the newest state" do
    rules = %{Core.rules() | idle_ms: 500}
    {world, a} = served(rules)
    {world, %{epoch: epoch}} = ask(world, a, command("ann", 1, set("k", "v")))
    world = run(world, 1000)
    world = %{world | streams: lose_tail(world.streams, 100)}
    {world, b} = add(world, rules)
    world = open(world, b)
    opened = opened(world, b)
    assert opened.epoch > epoch and opened.term == 2
    assert State.get(Core.committed(owner(world, b).core).state, "k")
    # The snapshot that the new epoch begins with was stored before anybody was served.
    {world, c} = add(world, rules)
    world = open(world, c)
    assert {opened(world, c).epoch, opened(world, c).term} == {opened.epoch, 3}
    assert State.get(Core.committed(owner(world, c).core).state, "k")
  end
end
