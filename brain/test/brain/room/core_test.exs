defmodule Brain.Room.CoreTest do
  @moduledoc "Scripted stories of one room, told with plain values: each rule of the log protocol and the scenario behind it."
  use ExUnit.Case, async: true

  import Brain.RoomWorld

  alias Brain.{Codec, RoomWorld}
  alias Brain.Proto.{Internal, V1}
  alias Brain.Room.{Core, State}

  doctest Core

  @sub 1
  @pub 2
  @state 4
  @mod 16
  @user @pub + @state

  test "a room opens and an acked command is in the log" do
    {world, a} = served()
    opened = opened(world, a)
    assert {opened.code, opened.term, opened.seq, opened.epoch} == {0, 1, 0, start_ms()}
    body = command("ann", 1, say("hi"))
    {world, ack} = ask(world, a, body)
    assert {ack.code, ack.epoch, ack.seq, ack.duplicate} == {0, opened.epoch, 1, false}
    assert [{_, event}] = events(world.streams)
    assert event.user == "ann"
    {:ok, sent} = Codec.decode(V1.Envelope, body)
    {:cmd, command} = sent.payload
    assert event.cmd == Codec.encode(command), "the event carries what was sent, for who verifies it"
    {world, again} = ask(world, a, body)
    assert {again.code, again.epoch, again.seq, again.duplicate} == {0, opened.epoch, 1, true}
    assert kinds(world) == [:owned, :events, :tick], "an answer rides on a commit"
  end

  test "nothing is answered before its commit and waiting commands share one" do
    {world, a} = served()
    world = send_to(world, a, 1, command("ann", 1, say("1")))
    world = Enum.reduce(2..50, world, &send_to(&2, a, 1, command("ann", &1, say("more"))))
    world = send_to(world, a, 1, command("ann", 1, say("1")))
    assert acks(world, a) == []
    world = call(world, a)
    assert length(acks(world, a)) == 1, "the first one's entry is stored"
    world = settle(world)
    assert kinds(world) == [:owned, :events, :events]
    last = last_ack(world, a)

    assert {length(acks(world, a)), last.seq, last.duplicate} == {51, 1, true},
           "known from what was in flight"
  end

  test "an answer goes to Shields only" do
    {world, a} = served()
    replies = ["log.1.t.acme.r.lobby", "out.t.acme.r.lobby", "_INBOX.b.brain-1.1", nil]
    body = command("ann", 1, say("trap"))
    world = Enum.reduce(replies, world, &input(&2, a, {:message, &1, body}))
    world = input(world, a, {:open, "log.1.t.acme.r.lobby", true})
    world = settle(world)
    assert kinds(world) == [:owned], "refused before it is applied"
    assert [{_, _}] = owner(world, a).replies, "the open's alone"
    assert Enum.count(owner(world, a).notes, &(&1 == {:refused, :not_a_command})) == 4
  end

  test "what is no envelope is refused with its code, and its id if it was read" do
    {world, a} = served()
    world = send_to(world, a, 1, <<0xFF>>)
    assert [{:refused, code} | _] = owner(world, a).notes
    [{_, body} | _] = owner(world, a).replies
    {:ok, ack} = Codec.decode(V1.Ack, body)
    assert {ack.code, ack.message_id} == {Brain.Code.number(code), ""}
    bare = Codec.encode(%V1.Envelope{message_id: mid(7), timestamp: 1, payload: {:cmd, %V1.Command{}}})
    world = send_to(world, a, 1, bare)
    assert {last_ack(world, a).code, last_ack(world, a).message_id} == {1006, mid(7)}
  end

  test "absence decides nothing" do
    {world, a} = served()
    world = send_to(world, a, 1, command("ann", 1, say("late")))
    {world, {:append, token, expect, body}} = take_call(world, a)
    world = input(world, a, {:appended, token, :unresolved})
    # The read finds nothing.
    world = call(world, a)
    assert acks(world, a) == [] and owner(world, a).calls == []
    assert :unresolved in owner(world, a).notes
    world = world |> pass(10) |> input(a, :wake)
    {world, {:append, token, ^expect, ^body}} = take_call(world, a)
    # The first attempt is stored after all; the second one finds its place taken.
    {streams, {:stored, 2}} = append(world.streams, expect, body)
    world = settle(input(%{world | streams: streams}, a, {:appended, token, :wrong_last}))
    assert last_ack(world, a).seq == 1
    assert [_] = events(world.streams)
  end

  test "a second attempt that is refused settles nothing" do
    {world, a} = served()
    world = send_to(world, a, 1, command("ann", 1, say("late")))
    {world, {:append, token, expect, body}} = take_call(world, a)
    world = world |> input(a, {:appended, token, :unresolved}) |> call(a) |> pass(10) |> input(a, :wake)
    {world, {:append, token, _, _}} = take_call(world, a)
    {streams, {:stored, _}} = append(world.streams, expect, body)
    world = settle(input(%{world | streams: streams}, a, {:appended, token, :full}))
    assert [%{code: 0, seq: 1}] = acks(world, a)
  end

  test "the void behind an own entry is stepped over once that is found" do
    {world, a} = served()
    world = send_to(world, a, 1, command("ann", 1, say("found")))
    {world, {:append, token, _, _} = append} = take_call(world, a)
    {world, {:appended, ^token, {:stored, _}}} = perform(world, append)
    world = %{world | streams: append_any(world.streams, <<1>>)}
    world = settle(input(world, a, {:appended, token, :unresolved}))
    assert [%{code: 0, seq: 1}] = acks(world, a)
    assert {:void, 3} in owner(world, a).notes
    {_, ack} = ask(world, a, command("ann", 2, say("on")))
    assert {ack.code, ack.seq} == {0, 2}
  end

  test "a deposed owner calls nothing lost that the next one may store" do
    {world, a} = served()
    {world, first} = ask(world, a, command("ann", 1, say("kept")))
    {world, b} = add(world)
    world = open(world, b)
    taken = opened(world, b)
    assert {taken.epoch, taken.term} == {first.epoch, 2}
    # Published now, both get it: the new owner stores it, so the old one must not call it lost.
    world = Enum.reduce([2, 1], world, &send_to(&2, a, 1, command("ann", &1, say("both"))))
    world = settle(world)
    assert owner(world, a).gone == :fenced and Core.gone?(owner(world, a).core)
    assert [_] = acks(world, a), "silent about what the next owner may have got as well"
    {_, again} = ask(world, b, command("ann", 2, say("both")))
    assert {again.code, again.seq, again.duplicate} == {0, 2, false}
  end

  test "an idle owner confirms before it speaks" do
    {world, a} = served()
    world = world |> pass(3000) |> send_to(a, 1, command("ann", 1, say("hi")))
    assert [{:read, _, true, false, _}] = owner(world, a).calls
    world = settle(world)
    assert [%{code: 0}] = acks(world, a)
  end

  test "after a reconnect nothing is written or said before a confirmation" do
    {world, a} = served()
    world = world |> input(a, :reconnected) |> send_to(a, 1, command("ann", 1, say("hi")))
    assert [{:read, _, true, false, _}] = owner(world, a).calls
    world = settle(world)
    command = %V1.Command{ephemeral: true, op: say("typing")}
    world = input(world, a, :reconnected)
    world = send_to(world, a, 1, command_at("ann", all_rights(), 2, start_ms(), command))
    assert {owner(world, a).live, length(acks(world, a))} == {[], 1}
    assert {_, %{code: 0}} = ask(world, a, command("ann", 3, say("on")))
  end

  test "a head of another chain in the own place is no confirmation" do
    {world, a} = served()
    {world, _} = ask(world, a, command("ann", 1, say("lost")))
    # The position is handed out again, to the next owner's first entry.
    {world, b} = add(%{world | streams: lose_tail(world.streams, 1)})
    world = open(world, b)
    assert head(world.streams) == Core.committed(owner(world, a).core).tail.pos
    world = world |> input(a, :reconnected) |> send_to(a, 1, command("ann", 2, say("stale"))) |> settle()
    assert owner(world, a).gone == :fenced
    assert [%{seq: 1}] = acks(world, a)
  end

  test "an owner that was overtaken while idle learns it from the log" do
    {world, a} = served()
    {world, b} = add(world)
    world = open(world, b)
    world = world |> pass(3000) |> send_to(a, 1, command("ann", 1, say("hi"))) |> settle()
    assert owner(world, a).gone == :fenced
    assert acks(world, a) == []
  end

  test "a served room outlives its generation and a loaded one does not" do
    {world, a} = served()
    {world, %{epoch: epoch}} = ask(world, a, command("ann", 1, say("1")))
    world = input(%{world | streams: lose_tail(world.streams, 0)}, a, :reconnected)
    {world, ack} = ask(world, a, command("ann", 2, say("2")))
    assert ack.epoch == epoch, "its last entry is where it was"
    world = %{world | streams: lose_tail(world.streams, 0)}
    {world, b} = add(world)
    world = open(world, b)
    assert opened(world, b).epoch > epoch, "nobody can tell what was lost"
  end

  test "a generation that changes during the take-over is noticed" do
    {world, a} = add(RoomWorld.new())
    world = input(world, a, {:open, slot(9000), true})
    world = until_append(world, a) |> call(a)
    [%{epoch: epoch}] = entries(world.streams)
    world = settle(%{world | streams: %{world.streams | gen_id: nil}})
    assert opened(world, a).epoch > epoch
    assert kinds(world) == [:owned, :owned]
  end

  defp until_append(world, a) do
    case owner(world, a).calls do
      [{:append, _, _, _} | _] -> world
      _ -> until_append(call(world, a), a)
    end
  end

  test "a lost tail is not continued in silence even with the generation intact" do
    {world, a} = served()
    {world, ack} = ask(world, a, command("ann", 1, say("1")))
    kept = world.streams.gen_id
    streams = %{lose_tail(world.streams, 1) | gen_id: kept}
    world = input(%{world | streams: streams}, a, :reconnected)
    {_, next} = ask(world, a, command("ann", 2, say("2")))
    assert next.epoch > ack.epoch and next.seq == 1
  end

  test "a Shield that knows more makes a new epoch and a client does not" do
    {world, a} = served()
    {world, ack} = ask(world, a, command("ann", 1, say("1")))
    {world, reply} = sync(world, a, "ann", %V1.Sync{since: %V1.Head{epoch: ack.epoch, seq: 77}})
    assert {reply.epoch, reply.recovered, length(reply.snapshot)} == {ack.epoch, false, 1}
    fits = %V1.Cursor{epoch: ack.epoch, term: 1, pos: reply.pos, chain: reply.chain}

    for cursor <- [fits, %{fits | epoch: 1, chain: 9}, %{fits | pos: 0, chain: 9}] do
      {_, reply} = sync(world, a, "ann", %V1.Sync{shield: cursor})
      assert reply.epoch == ack.epoch
    end

    for cursor <- [%{fits | pos: fits.pos + 1}, %{fits | chain: 9}, %{fits | term: 2}] do
      {world, renewed} = sync(world, a, "ann", %V1.Sync{shield: cursor})
      assert renewed.epoch > ack.epoch and renewed.term == 2
      {_, next} = ask(world, a, command("ann", 2, say("2")))
      assert next.seq == 1
    end
  end

  test "a cursor that may come from the entry in flight waits for that one" do
    {world, a} = served()
    tail = Core.committed(owner(world, a).core).tail
    world = send_to(world, a, 1, command("ann", 1, say("1")))
    cursor = %V1.Cursor{epoch: tail.epoch, term: tail.term, pos: tail.pos + 1, chain: 5}
    {world, calls} = {world, owner(world, a).calls}
    world = send_to(world, a, 2, signal("bob", all_rights(), {:sync, %V1.Sync{shield: cursor}}))
    assert owner(world, a).calls == calls, "nothing is asked meanwhile"
    # Its chain is another one: only a confirmation, then a new epoch, can tell.
    world = settle(world)
    assert last_sync(world, a).epoch > tail.epoch
  end

  test "a sync replays or gives the state and asks leave" do
    {world, a} = served()
    world = Enum.reduce(1..5, world, &elem(ask(&2, a, command("ann", &1, set("k#{&1}", "v"))), 0))
    epoch = elem(fold(world.streams), 0).tail.epoch
    {world, reply} = sync(world, a, "bob", %V1.Sync{since: %V1.Head{epoch: epoch, seq: 3}})
    assert {reply.code, reply.recovered, length(reply.events), reply.snapshot} == {0, true, 2, []}
    {world, reply} = sync(world, a, "bob", %V1.Sync{since: %V1.Head{epoch: epoch, seq: 5}})
    assert {reply.recovered, reply.events, reply.snapshot} == {true, [], []}
    {world, reply} = sync(world, a, "bob", %V1.Sync{since: %V1.Head{epoch: epoch + 1, seq: 1}})
    assert {reply.recovered, reply.events, length(reply.snapshot)} == {false, [], 1}
    {world, reply} = sync(world, a, "bob", %V1.Sync{history: 2})
    assert {length(reply.events), length(reply.snapshot)} == {2, 1}
    {world, reply} = sync(world, a, "bob", %V1.Sync{})
    {:ok, part} = Codec.decode(V1.Envelope, hd(reply.snapshot))
    assert {:event, %{seq: 5, body: {:snapshot, part}}} = part.payload
    assert {length(part.entries), part.last} == {5, true}
    {world, _} = ask(world, a, command("ann", 9, {:lock, %V1.Lock{mode: :join}}))

    for {rights, code} <- [{@sub, 5003}, {@pub, 2004}, {@sub + @mod, 0}] do
      world = send_to(world, a, 2, signal("bob", rights, {:sync, %V1.Sync{leave_only: true}}))
      reply = last_sync(settle(world), a)
      assert {reply.code, reply.events, reply.snapshot} == {code, [], []}
    end
  end

  test "a get waits for a commit of its own" do
    {world, a} = served()
    world = send_to(world, a, 1, command("ann", 1, set("k", "v")))
    world = send_to(world, a, 2, signal("bob", all_rights(), {:get, %V1.Get{}}))
    world = call(world, a)
    assert List.keyfind(owner(world, a).replies, slot(2), 0) == nil, "what was in flight proves nothing"
    world = settle(world)
    got = last_sync(world, a)
    assert {got.code, got.seq, length(got.snapshot)} == {0, 1, 1}
    assert List.last(kinds(world)) == :tick
  end

  test "rights, locks, versions and quotas are refused with their codes" do
    {world, a} = served()
    expect = fn expect -> {:set, %V1.Set{key: "k", value: "v", expect: expect}} end
    lock = {:lock, %V1.Lock{mode: :write}}
    delete = fn key -> {:delete, %V1.Delete{key: key}} end

    cases = [
      {@state, say("no"), 2004},
      {@pub, set("k", "v"), 2004},
      {@user, lock, 2004},
      {@user, expect.(5), 5005},
      {@user, expect.(0), 0},
      {@user, expect.(0), 5005},
      {@user, expect.(1), 0},
      {@user, delete.("absent"), 5009},
      {@user, set("", "v"), 5008},
      {@user, set("big", String.duplicate("x", 16 * 1024 + 1)), 5008},
      {@user, {:kick, %V1.Kick{}}, 1014},
      {all_rights(), lock, 0},
      {@user, say("barred"), 5003},
      {@user, set("k", "barred"), 5003},
      {all_rights(), say("a moderator"), 0},
      {all_rights(), {:unlock, %V1.Unlock{}}, 0},
      {all_rights(), {:unlock, %V1.Unlock{}}, 5009},
      {@user, delete.("k"), 0}
    ]

    world =
      for {{rights, op, code}, n} <- Enum.with_index(cases, 1), reduce: world do
        world ->
          {world, ack} = ask(world, a, with_rights("bob", rights, n, op))
          assert ack.code == code, "case #{n}: #{inspect(op)}"
          world
      end

    value = String.duplicate("x", 16 * 1024)

    world =
      for n <- 0..30, reduce: world do
        world ->
          {world, ack} = ask(world, a, with_rights("bob", @user, 100 + n, set("k#{n}", value)))
          assert ack.code == 0
          world
      end

    {world, ack} = ask(world, a, with_rights("bob", @user, 200, set("one-more", value)))
    assert ack.code == 5006
    head = %V1.Command{op: say("if"), if_head: %V1.Head{epoch: 1, seq: 1}}
    {world, ack} = ask(world, a, command_at("bob", @user, 201, start_ms(), head))
    assert ack.code == 5005
    old = %V1.Command{op: say("old")}
    {_, ack} = ask(world, a, command_at("eve", @user, 202, start_ms() - 120_001, old))
    assert ack.code == 5010
  end

  test "a ttl ends as an event before any command that could see it" do
    {world, a} = served()
    {world, _} = ask(world, a, command("ann", 1, {:set, %V1.Set{key: "k", ttl_ms: 500}}))
    world = run(world, 499)
    assert [_] = events(world.streams)
    world = run(world, 2)
    {envelope, event} = List.last(events(world.streams))
    assert {:key_deleted, %{expired: true}} = event.body
    assert event.user == "" and envelope.message_id == "", "the room's own"
    {world, _} = ask(world, a, command("ann", 2, {:lock, %V1.Lock{mode: :all, ttl_ms: 300}}))
    world = run(world, 301)
    {_, event} = List.last(events(world.streams))
    assert {:unlocked, %{expired: true}} = event.body
    assert State.lock(Core.committed(owner(world, a).core).state) == nil
  end

  test "a take-over begins every ttl anew" do
    {world, a} = served()
    {world, _} = ask(world, a, command("ann", 1, {:set, %V1.Set{key: "k", ttl_ms: 500}}))
    {world, b} = world |> RoomWorld.run(400) |> add()
    world = world |> open(b) |> RoomWorld.run(400)
    assert [_] = events(world.streams)
    assert [_, _] = world |> RoomWorld.run(200) |> Map.get(:streams) |> events()
  end

  test "an ephemeral say is heard and not stored" do
    {world, a} = served()
    command = %V1.Command{ephemeral: true, op: say("typing")}
    {world, ack} = ask(world, a, command_at("ann", all_rights(), 1, start_ms(), command))
    assert {ack.code, ack.seq, length(owner(world, a).live)} == {0, 0, 1}
    assert kinds(world) == [:owned]
    world = pass(world, 6000)
    world = send_to(world, a, 1, command_at("ann", all_rights(), 2, start_ms(), command))
    assert [_] = owner(world, a).live, "not without proof"
    world = settle(world)
    assert [live, _] = owner(world, a).live
    {:ok, live} = Codec.decode(Internal.Live, live)
    assert {live.term, live.n, live.kind} == {1, 2, 1}
  end

  test "a full log refuses and forgets nothing" do
    {world, a} = served()
    {world, ack} = ask(refusing(world, :full), a, command("ann", 1, set("k", "v")))
    assert ack.code == 6003
    assert State.get(Core.committed(owner(world, a).core).state, "k") == nil
    world = run(refusing(world, nil), 1000)
    {world, ack} = ask(world, a, command("ann", 1, set("k", "v")))
    assert {ack.code, ack.seq, ack.duplicate} == {0, 1, false}
    {world, b} = add(refusing(world, :full))
    world = open(world, b)
    assert {opened(world, b).code, owner(world, b).gone} == {6003, :refused}
  end

  defp refusing(world, refusal), do: %{world | streams: %{world.streams | refuse: refusal}}

  test "void entries are stepped over" do
    {world, a} = served()
    world = %{world | streams: append_any(world.streams, <<1>>)}
    {world, ack} = ask(world, a, command("ann", 1, say("1")))
    assert ack.code == 0
    world = %{world | streams: append_any(world.streams, <<2>>)}
    {world, b} = add(world)
    world = open(world, b)
    assert {opened(world, b).term, opened(world, b).seq} == {2, 1}
    world = %{world | streams: append_any(world.streams, <<3>>)}
    world = world |> pass(3000) |> send_to(b, 1, command("ann", 2, say("2"))) |> settle()
    assert {last_ack(world, b).code, last_ack(world, b).seq} == {0, 2}, "a confirmation steps over it, too"
  end

  test "an absent room is not made for a reader and a slow clock takes no room" do
    {world, a} = add(RoomWorld.new())
    world = world |> input(a, {:open, slot(9000), false}) |> settle()
    assert {opened(world, a).code, owner(world, a).gone} == {5001, :absent}
    assert world.streams.log == []
    {world, b} = add(world)
    %{now: {wall_ms, mono_ms}} = world = open(world, b)
    {world, c} = add(%{world | now: {wall_ms - 10_001, mono_ms}})
    world = open(world, c)
    assert {opened(world, c).code, owner(world, c).gone} == {6000, :clock_behind}
  end

  test "a stop finishes what waits" do
    {world, a} = served()
    world = send_to(world, a, 1, command("ann", 1, say("1")))
    world = send_to(world, a, 1, command("ann", 2, say("2")))
    world = world |> input(a, :stop) |> settle()
    assert Enum.map(acks(world, a), & &1.code) == [0, 0]
    assert owner(world, a).gone == :stopped
    assert {_, []} = Core.step(owner(world, a).core, world.now, :wake)
    {world, b} = add(world)
    world = world |> input(b, {:open, slot(9000), true}) |> input(b, :stop)
    assert {opened(world, b).code, owner(world, b).gone} == {6000, :stopped}
  end
end
