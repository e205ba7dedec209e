defmodule Brain.Room.Core.RefusedTest do
  @moduledoc "Stories of a log that refuses, answers slowly, or begins with a tombstone."
  use ExUnit.Case, async: true

  import Brain.RoomWorld

  alias Brain.Codec
  alias Brain.Proto.Internal
  alias Brain.Room.{Core, State}

  test "a log that is not to be had now is tried again, and clients are told to repeat" do
    {world, a} = served()
    {world, ack} = ask(refusing(world, :unavailable), a, command("ann", 1, set("k", "v")))
    assert ack.code == 6000
    world = run(refusing(world, nil), 1000)
    {world, ack} = ask(world, a, command("ann", 1, set("k", "v")))
    assert {ack.code, ack.seq, ack.duplicate} == {0, 1, false}
    # A take-over waits for the leader: nobody is told anything, and the room opens in the end.
    {world, b} = add(refusing(world, :unavailable))
    world = world |> open(b) |> run(3000)
    assert {owner(world, b).gone, opened(world, b)} == {nil, nil}
    # No attempt is open meanwhile: a log that is full then is told as such.
    world = run(refusing(world, :full), 1000)
    assert {opened(world, b).code, owner(world, b).gone} == {6003, :refused}
    {world, c} = add(refusing(world, :unavailable))
    world = world |> open(c) |> run(3000)
    world = run(refusing(world, nil), 1000)
    assert {opened(world, c).code, owner(world, c).gone} == {0, nil}
  end

  test "one message a read is enough to open and to resolve" do
    {world, a} = served()
    world = Enum.reduce(1..40, world, fn n, world -> world |> ask(a, command("ann", n, say("hi"))) |> elem(0) end)
    {world, b} = add(%{world | streams: %{world.streams | page: 1}})
    world = open(world, b)
    assert {opened(world, b).code, opened(world, b).seq} == {0, 40}
    # Found behind its predecessor, which alone is in the first read.
    world = send_to(world, b, 2, command("ann", 42, say("mine")))
    {world, {:append, token, _, _} = append} = take_call(world, b)
    {world, {:appended, ^token, {:stored, _}}} = perform(world, append)
    world = settle(input(world, b, {:appended, token, :unresolved}))
    assert [%{code: 0, seq: 41}] = acks(world, b)
    # Behind a void message it can never be stored: judged again.
    world = send_to(world, b, 3, command("ann", 43, say("late")))
    {world, {:append, token, _, _}} = take_call(world, b)
    world = %{world | streams: append_any(world.streams, <<1>>)}
    world = run(settle(input(world, b, {:appended, token, :unresolved})), 1000)
    assert last_ack(world, b).seq == 42
  end

  test "a tombstone wins over snapshots that came back" do
    {world, a} = served(%{Core.rules() | snapshot_entries: 2})
    world = Enum.reduce(1..6, world, fn n, world -> world |> ask(a, command("ann", n, set("k", "v"))) |> elem(0) end)
    assert length(world.streams.snaps) == 2
    tail = Core.committed(owner(world, a).core).tail

    tombstone = %Internal.LogEntry{
      epoch: tail.epoch,
      term: tail.term + 1,
      first_seq: tail.seq + 1,
      prev: tail.fence,
      prev_chain: tail.chain,
      gen: tail.gen_id,
      at: tail.at,
      kind: :deleted,
      deleted: %Internal.Deleted{}
    }

    streams = append_any(world.streams, Codec.encode(tombstone))
    world = %{world | streams: %{streams | log: Enum.take(streams.log, 1)}}
    {world, b} = add(world)
    world = world |> input(b, {:open, slot(9000), false}) |> settle()
    assert {opened(world, b).code, owner(world, b).gone} == {5001, :absent}
    old = world.streams.snaps
    {world, c} = add(%{world | streams: %{world.streams | snaps: []}})
    world = open(world, c)
    made = opened(world, c)
    assert {made.code, made.seq} == {0, 0}
    assert made.epoch > tail.epoch
    assert State.get(Core.committed(owner(world, c).core).state, "k") == nil
    {world, ack} = ask(world, c, command("ann", 7, set("new", "v")))
    assert ack.code == 0
    # Back only now. Nothing was lost since the tombstone: the next owner goes on in the same epoch.
    {world, d} = add(%{world | streams: %{world.streams | snaps: old}})
    world = open(world, d)
    opened = opened(world, d)
    assert {opened.code, opened.epoch, opened.seq} == {0, made.epoch, 1}
    state = Core.committed(owner(world, d).core).state
    assert State.get(state, "new") != nil and State.get(state, "k") == nil
  end

  test "who waits for a log that is not to be had can be stopped" do
    {world, _a} = served()
    {world, b} = add(refusing(world, :unavailable))
    world = world |> open(b) |> run(1000) |> input(b, :stop) |> settle()
    assert {opened(world, b).code, owner(world, b).gone} == {6000, :stopped}
  end

  test "an entry that is larger than is taken" do
    {world, a} = served()
    {world, ack} = ask(refusing(world, :too_big), a, command("ann", 1, set("k", "v")))
    assert ack.code == 4504
    {_world, ack} = ask(run(refusing(world, nil), 1000), a, command("ann", 2, set("k", "v")))
    assert {ack.code, ack.seq} == {0, 1}
  end

  defp refusing(world, refusal), do: %{world | streams: %{world.streams | refuse: refusal}}
end
