defmodule Brain.Room.EdgesTest do
  @moduledoc "The rarer stories of a room: lost predecessors, refuted snapshots, a full queue, numbers at their end."
  use ExUnit.Case, async: true

  import Brain.RoomWorld

  alias Brain.{Codec, RoomWorld}
  alias Brain.Proto.{Internal, V1}
  alias Brain.Room.{Core, Decide, State}

  @u64_max 0xFFFF_FFFF_FFFF_FFFF
  @i64_min -0x8000_0000_0000_0000
  @i64_max 0x7FFF_FFFF_FFFF_FFFF

  test "what waited before the last own commit is lost for sure" do
    {world, a} = served()
    # More than one entry takes: the rest was here before the first entry was sent, so no other owner can have it.
    world = send_to(world, a, 1, command("ann", 1, say("sent at once")))
    world = Enum.reduce(2..300, world, &send_to(&2, a, 1, command("ann", &1, say("waits"))))
    world = call(world, a)
    assert length(acks(world, a)) == 1
    world = call(world, a)
    assert length(acks(world, a)) == 257, "the second entry is stored"
    on_its_way = owner(world, a).calls
    {world, b} = world |> update_owner(a, &%{&1 | calls: []}) |> add()
    world = world |> open(b) |> update_owner(a, &%{&1 | calls: on_its_way}) |> settle()
    assert owner(world, a).gone == :fenced
    codes = for ack <- Enum.drop(acks(world, a), 257), do: ack.code
    assert codes == List.duplicate(6002, 43)
  end

  test "an entry in flight whose predecessor is lost does not hold the room for ever" do
    {world, a} = served()
    {world, %{epoch: epoch}} = ask(world, a, command("ann", 1, say("lost with the tail")))
    world = send_to(world, a, 1, command("ann", 2, say("in flight")))
    {world, {:append, token, _, _}} = take_call(world, a)
    world = %{world | streams: lose_tail(world.streams, 1)}
    world = world |> input(a, {:appended, token, :unresolved}) |> input(a, :reconnected) |> run(3000)
    assert [_, %{code: 0, seq: 1} = ack] = acks(world, a)
    assert ack.epoch > epoch
  end

  test "an entry in flight with void in its place is built anew" do
    {world, a} = served()
    world = send_to(world, a, 1, command("ann", 1, say("again")))
    {world, {:append, token, expect, _}} = take_call(world, a)
    world = %{world | streams: append_any(world.streams, <<1>>)}
    world = settle(input(world, a, {:appended, token, :wrong_last}))
    assert [%{code: 0, seq: 1}] = acks(world, a)
    assert {:void, expect + 1} in owner(world, a).notes
  end

  test "a take-over with void in its place loads again" do
    {world, a} = add(RoomWorld.new())
    world = input(world, a, {:open, slot(9000), true})
    world = Enum.reduce(1..4, world, fn _, world -> call(world, a) end)
    assert [{:append, _, 0, _}] = owner(world, a).calls
    world = settle(%{world | streams: append_any(world.streams, <<1>>)})
    assert %{code: 0, term: 1} = opened(world, a)
    assert kinds(world) == [:unknown, :owned]
  end

  test "a snapshot that the log no longer holds proves a loss" do
    rules = %{Core.rules() | idle_ms: 500}

    {world, epoch} =
      for n <- 1..2, reduce: {RoomWorld.new(), 0} do
        {world, _} ->
          {world, a} = add(world, rules)
          {world, ack} = world |> open(a) |> ask(a, command("ann", n, say("said")))
          world = run(world, 1000)
          assert owner(world, a).gone == :idle
          {world, ack.epoch}
      end

    kept = world.streams.gen_id
    {world, b} = add(%{world | streams: %{lose_tail(world.streams, 1) | gen_id: kept}}, rules)
    world = open(world, b)
    assert opened(world, b).epoch > epoch, "though the generation is the same"
  end

  test "a snapshot that begins an epoch and is not stored is tried again" do
    rules = %{Core.rules() | idle_ms: 500}
    {world, a} = served(rules)
    {world, _} = ask(world, a, command("ann", 1, set("k", "v")))
    world = run(world, 1000)
    {world, b} = add(%{world | streams: lose_tail(world.streams, 100)}, rules)
    world = world |> input(b, {:open, slot(9000), true}) |> until_snapshot(b)
    {world, {:write_snapshot, token, _, _}} = take_call(world, b)
    world = input(world, b, {:snapshot_written, token, :unresolved})
    assert opened(world, b) == nil
    world = run(world, 100)
    assert opened(world, b).code == 0
  end

  defp until_snapshot(world, a) do
    case owner(world, a).calls do
      [{:write_snapshot, _, _, _} | _] -> world
      [_ | _] -> until_snapshot(call(world, a), a)
    end
  end

  test "a cursor beyond every epoch drives no room there" do
    {world, a} = served()
    epoch = opened(world, a).epoch

    for far <- [@u64_max, @u64_max - 1] do
      shield = %V1.Cursor{epoch: far, term: @u64_max, pos: @u64_max, chain: 1}
      {_, reply} = sync(world, a, "ann", %V1.Sync{shield: shield})
      assert {reply.code, reply.epoch} == {0, epoch}
    end
  end

  test "a client that saw the entry in flight is not rewound" do
    {world, a} = served()
    {world, %{epoch: epoch}} = ask(world, a, command("ann", 1, say("stored")))
    # Stored and republished, perhaps; its owner has not heard of it yet.
    world = send_to(world, a, 1, command("ann", 2, say("in flight")))
    since = fn seq -> %V1.Sync{since: %V1.Head{epoch: epoch, seq: seq}} end
    before = length(owner(world, a).replies)
    world = send_to(world, a, 2, signal("bob", all_rights(), {:sync, since.(2)}))
    assert length(owner(world, a).replies) == before, "it would be put back to 1"
    world = settle(world)
    assert %{code: 0, seq: 2, recovered: true} = last_sync(world, a)
    # A client that claims more than there is: looked into, and then it gets the state; no epoch begins on its word.
    {_, reply} = sync(world, a, "bob", since.(9))
    assert %{code: 0, epoch: ^epoch, seq: 2, recovered: false} = reply
    assert reply.snapshot != []
  end

  # A length beyond every clock ends at the last moment that a clock can say, for each owner anew.
  test "a ttl beyond every clock ends at the clock's end" do
    for at <- [@i64_min, -5, 0] do
      {world, _} = served()
      tail = elem(fold(world.streams), 0).tail
      key = {:key_set, %V1.KeySet{key: "k", ver: 1, expires_at: @i64_max}}
      lock = {:locked, %V1.Locked{mode: :write, until: @i64_max}}

      envelopes =
        for {body, seq} <- [{key, 1}, {lock, 2}] do
          event = %V1.Event{epoch: tail.epoch, seq: seq, at: at, body: body}
          Codec.encode(%V1.Envelope{payload: {:event, event}})
        end

      entry = %Internal.LogEntry{
        epoch: tail.epoch,
        term: tail.term,
        prev: tail.fence,
        prev_chain: tail.chain,
        gen: tail.gen_id,
        at: tail.at,
        kind: :events,
        envelopes: envelopes
      }

      world = %{world | streams: append_any(world.streams, Codec.encode(entry))}

      for _ <- 1..2, reduce: world do
        world ->
          {world, b} = add(world, %{Core.rules() | idle_ms: @u64_max})
          world = open(world, b)
          assert opened(world, b).code == 0
          core = owner(world, b).core
          state = Core.committed(core).state
          assert {State.get(state, "k").expires_at, State.lock(state).until} == {@i64_max, @i64_max}
          {wall_ms, mono_ms} = world.now
          assert Core.wake_at(core) == mono_ms + @i64_max - wall_ms
          world
      end
    end
  end

  test "a stored entry with numbers at their end stops nobody" do
    {world, a} = served()
    tail = elem(fold(world.streams), 0).tail
    event = %V1.Event{epoch: tail.epoch, seq: @u64_max, body: {:key_set, %V1.KeySet{key: "k", expires_at: @i64_max}}}
    envelope = %V1.Envelope{timestamp: @i64_min, payload: {:event, event}}

    entry = %Internal.LogEntry{
      epoch: tail.epoch,
      term: @u64_max,
      first_seq: @u64_max,
      prev: tail.fence,
      prev_chain: tail.chain,
      gen: tail.gen_id,
      at: @i64_min,
      kind: :events,
      envelopes: [Codec.encode(envelope)]
    }

    world = run(%{world | streams: append_any(world.streams, Codec.encode(entry))}, 3000)
    assert acks(world, a) == []
    {world, b} = add(world)
    world = open(world, b)
    assert opened(world, b).code == 0
    {world, ack} = ask(world, b, command("ann", 1, {:set, %V1.Set{key: "k", ttl_ms: @u64_max}}))
    assert ack.code == 5014
    {world, ack} = ask(world, b, command("ann", 2, {:set, %V1.Set{key: "k", ttl_ms: Decide.ttl_max_ms()}}))
    assert ack.code == 0
    since = %V1.Head{epoch: @u64_max, seq: @u64_max}
    {world, reply} = sync(world, b, "ann", %V1.Sync{since: since})
    assert reply.code == 0
    run(world, 1000)
  end

  test "an answer of another kind is none, whatever its token" do
    {world, a} = add(RoomWorld.new())
    world = world |> input(a, {:open, slot(9000), true}) |> contrary(a)
    world = world |> send_to(a, 1, command("ann", 1, say("said"))) |> contrary(a)
    assert [%{code: 0}] = acks(world, a)
  end

  # Before each call is done, every other kind of answer comes with its token.
  defp contrary(world, a) do
    case owner(world, a).calls do
      [] ->
        world

      [call | _] = calls ->
        token = elem(call, 1)
        read = {:read, token, 9, nil}
        all = [read: read, write_gen: {:gen_written, token}, append: {:appended, token, {:stored, 9}}]
        all = [{:subscribe, {:subscribed, token, true}} | all]
        world = all |> Keyword.delete(elem(call, 0)) |> Keyword.values() |> Enum.reduce(world, &input(&2, a, &1))
        assert owner(world, a).calls == calls, "nothing else is asked"
        world |> call(a) |> contrary(a)
    end
  end

  test "a full queue turns away but never what is stored" do
    {world, a} = served()
    {world, ack} = ask(world, a, command("ann", 1, say("stored")))
    assert ack.code == 0
    before = length(acks(world, a))
    world = Enum.reduce(2..1026, world, &send_to(&2, a, 1, command("bob", &1, say("waits"))))
    refute Core.has_room?(owner(world, a).core)
    world = send_to(world, a, 1, command("ann", 1, say("stored")))
    world = send_to(world, a, 1, command("bob", 1000, say("waits")))
    world = send_to(world, a, 1, command("bob", 2, say("waits")))
    assert length(acks(world, a)) == before, "not called unapplied"
    world = send_to(world, a, 1, command("cid", 2000, say("one too many")))
    assert {last_ack(world, a).code, last_ack(world, a).retry_after_ms} == {4501, 200}

    # The id of what is stored, in flight or waiting, and other bytes: no repeat of it.
    world =
      for {user, id} <- [{"ann", 1}, {"bob", 2}, {"bob", 1000}], reduce: world do
        world ->
          count = length(acks(world, a))
          world = send_to(world, a, 1, command(user, id, say("something else")))
          assert {length(acks(world, a)), last_ack(world, a).code} == {count + 1, 5013}
          world
      end

    world = send_to(world, a, 2, signal("cid", all_rights(), {:get, %V1.Get{}}))
    assert last_sync(world, a).code == 4501
    world = pass(world, 3000)
    world = send_to(world, a, 1, command("cid", 2001, say("without proof")))
    assert length(acks(world, a)) == before + 4
  end

  test "an entry takes half a MiB and the rest waits for the next" do
    {world, a} = served()
    world = send_to(world, a, 1, command("ann", 1, say("first")))
    large = String.duplicate("x", 200_000)
    world = Enum.reduce(2..5, world, &send_to(&2, a, 1, command("ann", &1, say(large))))
    world = settle(world)
    assert Enum.map(acks(world, a), & &1.seq) == [1, 2, 3, 4, 5]
    assert Enum.all?(world.streams.log, fn {_, body} -> byte_size(body) <= 512 * 1024 end)
    {_, ack} = ask(world, a, command("ann", 6, say(String.duplicate("x", 300_000))))
    assert ack.code == Brain.Code.number(:message_too_big), "its event would be twice as long"
  end

  test "only so many wait for one room to open" do
    {world, a} = add(RoomWorld.new())
    world = Enum.reduce(1..256, world, &input(&2, a, {:open, slot(&1), true}))
    assert owner(world, a).replies == []
    world = input(world, a, {:open, "_INBOX.b.brain-9.1", true})
    assert [{"_INBOX.b.brain-9.1", body}] = owner(world, a).replies
    assert {:ok, %{code: 4501}} = Codec.decode(Internal.Opened, body)
    world = settle(world)
    assert length(owner(world, a).replies) == 257
  end

  test "what waits is told when the owner is deposed, and a late answer changes nothing" do
    {world, a} = served()
    world = send_to(world, a, 1, command("ann", 1, say("in flight")))
    world = send_to(world, a, 2, signal("bob", all_rights(), {:get, %V1.Get{}}))
    {world, late} = take_call(world, a)
    {world, b} = add(world)
    world = open(world, b)
    {world, outcome} = perform(world, late)
    world = world |> input(a, {:read, 999, 1, nil}) |> input(a, outcome) |> settle()
    assert owner(world, a).gone == :fenced
    assert last_sync(world, a).code == 6000
    assert acks(world, a) == []
  end

  test "whatever call fails is made again after a pause" do
    {world, a} = add(RoomWorld.new())
    world = input(world, a, {:open, slot(9000), true})
    world = stubborn(world, a, %{})
    assert opened(world, a).code == 0
    {world, ack} = ask(world, a, command("ann", 1, say("served")))
    assert ack.code == 0
    world = world |> pass(3000) |> send_to(a, 1, command("ann", 2, say("confirmed")))
    {world, {:read, token, true, false, _}} = take_call(world, a)
    world = input(world, a, {:read, token, 1, nil})
    world = run(world, 1000)
    assert last_ack(world, a).code == 0
    # A generation that vanished while the room is served is written again.
    world = %{world | streams: %{world.streams | gen_id: nil}}
    world = world |> pass(3000) |> send_to(a, 1, command("ann", 3, say("anew"))) |> settle()
    assert last_ack(world, a).code == 0
    assert world.streams.gen_id
  end

  # Every kind of call fails twice before it is done.
  defp stubborn(world, a, seen) do
    case take_call(world, a) do
      {world, nil} ->
        if opened(world, a), do: world, else: world |> pass(500) |> input(a, :wake) |> stubborn(a, seen)

      {world, call} ->
        tries = Map.get(seen, kind(call), 0)
        {world, outcome} = if tries < 2, do: {world, failed(call)}, else: perform(world, call)
        world |> input(a, outcome) |> stubborn(a, Map.put(seen, kind(call), tries + 1))
    end
  end

  defp kind({:read, _token, gen_id?, snapshots?, _from}), do: {:read, gen_id?, snapshots?}
  defp kind(call), do: elem(call, 0)

  defp failed({:read, token, _, _, _}), do: {:read, token, 1, nil}
  defp failed({:append, token, _, _}), do: {:appended, token, :unresolved}
  defp failed({:subscribe, token}), do: {:subscribed, token, false}
  # Whether a generation was written is told by the next read alone.
  defp failed({:write_gen, token, _}), do: {:gen_written, token}
end
