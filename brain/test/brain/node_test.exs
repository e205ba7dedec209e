defmodule Brain.NodeTest do
  # Whole nodes on the pinned nats-server, with the users and permissions of production.
  use ExUnit.Case, async: true

  import Brain.NodeWorld

  alias Brain.{Code, Codec, Context, Metrics, Nats, NatsServer, Room, Spine, Subject, Trace}
  alias Brain.Nats.Headers
  alias Brain.Proto.{Internal, V1}

  @moduletag :capture_log
  @key {"acme", "lobby"}
  @limit_ms 60_000

  test "a command is acknowledged, stored, republished, and a repeat of it is told as one" do
    world = world(["brain-1"])
    brain = brain(world, "brain-1")
    shield = shield(world)
    {:ok, out} = Nats.subscribe(shield.conn, Subject.output(@key), nil)

    hello = say(@key, "ann", "hello")
    assert %V1.Ack{code: 0, seq: 1, duplicate: false, epoch: epoch} = ask(shield, @key, hello)
    assert %V1.Ack{code: 0, seq: 1, duplicate: true, epoch: ^epoch} = ask(shield, @key, hello)

    assert [%{kind: :owned, owned: %{node: "brain-1"}}, %{kind: :events}, %{kind: :tick}] = entries = log(shield, @key)
    assert [%{seq: 1, user: "ann", body: {:said, %{data: "hello"}}}] = events(entries)
    assert {1, ["hello"]} = heard(out, 1)

    assert Metrics.get(brain.metrics, :rooms) == 1
    assert Metrics.get(brain.metrics, :events) == 1
    assert Metrics.get(brain.metrics, :dedupe_hits) == 1
  end

  test "a node remembers as many commands of a user as its configuration says" do
    world = world(["brain-1"])
    brain(world, "brain-1", %{config: config(NatsServer.url(world), brain: [dedupe: 2])})
    shield = shield(world)
    now = System.system_time(:millisecond)
    # No two at the same time: what was sent at the time of a forgotten command is refused.
    sent = for n <- 1..4, do: command(@key, "ann", %V1.Command{op: {:say, %V1.Say{data: "#{n}"}}}, now + n)
    for body <- sent, do: assert(%{code: 0} = ask(shield, @key, body))

    for {body, n} <- Enum.with_index(sent, 1) do
      ack = ask(shield, @key, body)
      assert {ack.code, ack.duplicate} == if(n <= 2, do: {5010, false}, else: {0, true})
    end
  end

  # Republished entries with events, and what they say.
  defp heard(out, count, said \\ []) when count > 0 do
    assert_receive {:nats, ^out, message}, @limit_ms
    assert Headers.number(message.headers, "Nats-Sequence")
    {:ok, entry} = Codec.decode(Internal.LogEntry, message.body)

    case for(%{body: {:said, %{data: data}}} <- events([entry]), do: data) do
      [] -> heard(out, count, said)
      more when length(said) + length(more) >= count -> {1, said ++ more}
      more -> heard(out, count, said ++ more)
    end
  end

  test "a room whose process died is opened by the next command, and goes on" do
    world = world(["brain-1"])
    brain = brain(world, "brain-1")
    shield = shield(world)
    sent = for n <- 1..5, do: say(@key, "ann", "#{n}")
    for {body, n} <- Enum.with_index(sent, 1), do: assert(%{code: 0, seq: ^n} = ask(shield, @key, body))

    room = room(brain, @key)
    monitor = Process.monitor(room)
    Process.exit(room, :kill)
    assert_receive {:DOWN, ^monitor, :process, _, :killed}, @limit_ms

    assert %{code: 0, seq: 6} = ask(shield, @key, say(@key, "ann", "6"))
    assert %{code: 0, seq: 3, duplicate: true} = ask(shield, @key, Enum.at(sent, 2))
    assert room(brain, @key) != room
    eventually(fn -> Metrics.get(brain.metrics, :rooms_crashed) == 1 && :ok end)
    assert for(event <- events(log(shield, @key)), do: event.seq) == Enum.to_list(1..6)
  end

  test "a room that ends does not take the one along that stands in its place already" do
    world = world(["brain-1"])
    brain = brain(world, "brain-1")
    shield = shield(world)
    assert %{code: 0} = open(shield, @key)
    [old, mesh] = [room(brain, @key), GenServer.whereis(Context.via(brain.bus, :mesh))]

    # An open is on its way to the Mesh when the room gives its name back.
    :sys.suspend(mesh)
    send(mesh, {:unanswered, @key, [{shield.inbox <> ".1", true}]})
    Room.stop(old)
    eventually(fn -> room(brain, @key) == nil && :ok end)
    monitor = Process.monitor(old)
    :sys.resume(mesh)
    assert_receive {:DOWN, ^monitor, :process, ^old, _}, @limit_ms

    assert answer(shield, shield.inbox <> ".1", @limit_ms)
    new = room(brain, @key)
    assert new != nil and new != old
    assert Metrics.get(brain.metrics, :rooms) == 1
    # The Mesh knows it: a node that goes lets it finish.
    monitor = Process.monitor(new)
    assert Brain.Node.drain(brain.bus) == :ok
    assert_receive {:DOWN, ^monitor, :process, ^new, :normal}, @limit_ms
  end

  test "a deadline that has passed is not put off by a mailbox that is never empty" do
    world = world(["brain-1"])
    brain = brain(world, "brain-1")
    shield = shield(world)
    assert %{code: 0} = ask(shield, @key, say(@key, "ann", "hello"))
    state = :sys.get_state(room(brain, @key))

    # An hour later, and there is always another message: the room is idle all the same, and writes its snapshot.
    later = put_in(state.context.started, state.context.started - 3_600_000)
    stepped = elem(Room.handle_info(:another_message, later), 1)
    assert Map.values(stepped.tasks) == [:write_snapshot]
  end

  test "what is stored as generation and is none keeps no room shut" do
    world = world(["brain-1"])
    _brain = brain(world, "brain-1")
    shield = shield(world)
    operator = operator(world, "_INBOX.o")
    assert %{code: 0, epoch: first} = ask(shield, @key, say(@key, "ann", "hello"))
    {:ok, %{seq: seq, body: <<_::64>>}} = Spine.last(operator.spine, Subject.generation(0), :leader)
    assert {:stored, _} = Spine.append(operator.spine, Subject.generation(0), seq, "none")

    other = {"acme", "other"}
    assert %{code: 0, seq: 1} = ask(shield, other, say(other, "ann", "hello"))
    assert {:ok, %{body: <<_::64>>}} = Spine.last(operator.spine, Subject.generation(0), :leader)
    # And the room that served through goes on.
    assert %{code: 0, seq: 2, epoch: ^first} = ask(shield, @key, say(@key, "ann", "again"))
  end

  test "only a Brain's own subject says that a Brain lives, or goes" do
    world = world(["brain-1"])
    brain = brain(world, "brain-1")
    shield = shield(world)

    for {node, draining} <- [{"brain-1", true}, {"brain-7", false}, {"shield-1", false}] do
      beat = %Internal.Heartbeat{node: node, kind: 2, incarnation: 7, draining: draining}
      :ok = Nats.publish(shield.conn, Subject.heartbeat_shield("shield-1"), nil, Codec.encode(beat))
    end

    # Behind them on the same way.
    assert %{code: 0} = open(shield, @key)
    mesh = GenServer.whereis(Context.via(brain.bus, :mesh))
    assert %{"brain-1" => %{draining: false}} = known = :sys.get_state(mesh).peers.known
    assert Map.keys(known) == ["brain-1"]
  end

  test "neither a room's key nor an open that waits keeps a large message alive" do
    world = world(["brain-1"])
    brain = brain(world, "brain-1")
    shield = shield(world)

    large = Codec.encode(%Internal.Open{room: "large", create: true}) <> unknown(100_000)
    assert answer(shield, send_to(shield, Subject.open("acme"), large), 200) == nil

    # Short ones are copied by the VM.
    name = String.duplicate("r", 100)
    some = Codec.encode(%Internal.Open{room: name, create: true}) <> unknown(3000)
    assert <<_::binary>> = answer(shield, send_to(shield, Subject.open("acme"), some))
    mesh = GenServer.whereis(Context.via(brain.bus, :mesh))
    assert [{"acme", ^name = room}] = Map.keys(:sys.get_state(mesh).rooms.here)
    assert :binary.referenced_byte_size(room) == 100
  end

  # Field 100, of so many bytes.
  defp unknown(size) do
    length =
      if size < 16_384,
        do: <<1::1, size::7, div(size, 128)::8>>,
        else: <<1::1, size::7, 1::1, div(size, 128)::7, div(size, 16_384)::8>>

    <<0xA2, 0x06>> <> length <> :binary.copy("x", size)
  end

  test "a killed server is no crash: the node waits and the room goes on" do
    world = world(["brain-1"])
    brain = brain(world, "brain-1")
    shield = shield(world)
    sent = for n <- 1..10, do: say(@key, "ann", "#{n}")
    for body <- sent, do: assert(%{code: 0} = ask(shield, @key, body))
    room = room(brain, @key)

    NatsServer.kill(world)
    NatsServer.restart(world)
    assert %{code: 0, seq: 10, duplicate: true} = ask(shield, @key, List.last(sent))
    assert %{code: 0, seq: 11} = ask(shield, @key, say(@key, "ann", "more"))
    assert room(brain, @key) == room
  end

  test "who holds a room keeps it: every open is answered by its owner" do
    world = world(["brain-1", "brain-2"])
    # However late a heartbeat is, both live.
    config = config(NatsServer.url(world), brain: [down_after_ms: 600_000])
    brains = for name <- ["brain-1", "brain-2"], do: brain(world, name, %{config: config})
    shield = shield(world)

    for n <- 1..10 do
      key = {"acme", "room-#{n}"}
      assert %{code: 0} = open(shield, key)
      # A first open that took longer than a node waits for another has made two owners; a command tells one to go.
      ask(shield, key, say(key, "ann", "hello"))

      owner =
        eventually(fn -> with [%{name: name}] <- Enum.filter(brains, &room(&1, key)), do: {:ok, name} end) |> elem(1)

      owned = for %{kind: :owned} = entry <- log(shield, key), do: entry
      assert List.last(owned).owned.node == owner
      for _ <- 1..5, do: assert(%{node: ^owner, code: 0} = open(shield, key))
      assert owned == for(%{kind: :owned} = entry <- log(shield, key), do: entry)
    end
  end

  test "two owners forced on one room: one wins, each command stands once, the other steps down and stays away" do
    world = world(["brain-1", "brain-2"])
    one = brain(world, "brain-1")
    two = brain(world, "brain-2")
    brains = %{"brain-1" => one, "brain-2" => two}
    shield = shield(world)
    other = witness(world, "_INBOX.b.test")
    %{node: first} = open(shield, @key)
    [second] = Map.keys(brains) -- [first]
    assert %{code: 0, seq: 1} = ask(shield, @key, say(@key, "ann", "1"))

    forced = Codec.encode(%Internal.Open{room: "lobby", tenant: "acme", create: true})
    slot = send_to(other, Subject.open_at(second), forced)
    assert {:ok, %{code: 0, node: ^second, term: 2}} = Codec.decode(Internal.Opened, answer(other, slot, @limit_ms))

    sent = for n <- 2..20, do: say(@key, "ann", "#{n}")
    slots = for body <- sent, do: send_to(shield, Subject.input(@key), body)
    acks = for {slot, body} <- Enum.zip(slots, sent), do: first_answer(shield, slot, body)
    assert Enum.map(acks, & &1.code) |> Enum.uniq() == [0]
    assert Enum.map(acks, & &1.seq) |> Enum.sort() == Enum.to_list(2..20)
    assert for(event <- events(log(shield, @key)), do: event.seq) == Enum.to_list(1..20)

    eventually(fn -> Metrics.get(brains[first].metrics, :fenced) == 1 && :ok end)
    eventually(fn -> room(brains[first], @key) == nil && :ok end)
    # Asked directly, it still refuses.
    slot = send_to(other, Subject.open_at(first), forced)
    {:ok, refused} = Codec.decode(Internal.Opened, answer(other, slot, @limit_ms))
    assert {refused.code, refused.node} == {Code.number(:unavailable), first}
    assert %{code: 0, node: ^second} = open(shield, @key)
  end

  # Two owners listen for a while: what the deposed one says is "not applied" or nothing; then the same bytes again.
  defp first_answer(shield, slot, body) do
    with <<_::binary>> = answer <- answer(shield, slot),
         {:ok, %{code: 0} = ack} <- Codec.decode(V1.Ack, answer) do
      ack
    else
      _ -> ask(shield, @key, body)
    end
  end

  test "a stop answers what was taken, says so in a heartbeat, and another node goes on" do
    world = world(["brain-1", "brain-2"])
    one = brain(world, "brain-1")
    shield = shield(world)
    open(shield, @key)
    {:ok, beats} = Nats.subscribe(shield.conn, "sys.n.hb.>", nil, max: 100_000)

    sent = for n <- 1..200, do: say(@key, "ann", "#{n}")
    slots = for body <- sent, do: send_to(shield, Subject.input(@key), body)
    assert Brain.Node.drain(one.bus) == :ok
    assert room(one, @key) == nil
    assert draining?(beats)
    :ok = ExUnit.Callbacks.stop_supervised(one.id)

    # Every command that was stored is answered, and no other.
    %{sub: sub} = shield

    for _ <- events(log(shield, @key)) do
      assert_receive {:nats, ^sub, %{subject: slot, status: nil, body: body}}, @limit_ms
      assert slot in slots
      assert {:ok, %{code: 0, duplicate: false}} = Codec.decode(V1.Ack, body)
    end

    refute_received {:nats, ^sub, %{status: nil}}

    brain(world, "brain-2")
    acks = for body <- sent, do: ask(shield, @key, body)
    assert Enum.map(acks, & &1.code) |> Enum.uniq() == [0]
    assert Enum.map(acks, & &1.seq) |> Enum.sort() == Enum.to_list(1..200)
  end

  defp draining?(beats) do
    assert_receive {:nats, ^beats, message}, @limit_ms
    {:ok, beat} = Codec.decode(Internal.Heartbeat, message.body)
    (beat.kind == 2 and beat.draining) or draining?(beats)
  end

  test "an absent room stays absent unless it may be made; unusual replies get nothing and harm nothing" do
    world = world(["brain-1"])
    brain = brain(world, "brain-1")
    shield = shield(world)
    absent = Code.number(:room_absent)
    assert %{code: ^absent} = open(shield, @key, false)
    eventually(fn -> room(brain, @key) == nil && :ok end)

    witness = witness(world, "_INBOX.b.test")
    open = Codec.encode(%Internal.Open{room: "lobby", create: true})

    for reply <- ["log.1.t.acme.r.lobby", "_INBOX.b.test.9", "_INBOX.s.shield-1.a.b.c"] do
      :ok = Nats.publish(witness.conn, "open.t.acme", reply, open)
    end

    for body <- [<<255, 255>>, Codec.encode(%Internal.Open{room: "a.*", create: true}), ""] do
      send_to(shield, "open.t.acme", body)
      send_to(witness, "sys.n.brain.brain-1.open", body)
    end

    assert %{code: 0} = open(shield, {"acme", "other"})
    assert room(brain, @key) == nil
    assert log(witness, @key) == []
  end

  test "a full node says that it is unavailable, and takes another room when one has gone" do
    world = world(["brain-1"])
    config = config(NatsServer.url(world), brain: [room_idle_s: 1, rooms: 2])
    brain = brain(world, "brain-1", %{config: config})
    shield = shield(world)
    for n <- 1..2, do: assert(%{code: 0} = open(shield, {"acme", "room-#{n}"}))

    body = Codec.encode(%Internal.Open{room: "lobby", create: true})
    answer = answer(shield, send_to(shield, Subject.open("acme"), body), @limit_ms)
    {:ok, refused} = Codec.decode(Internal.Opened, answer)
    assert {refused.code, refused.node} == {Code.number(:unavailable), "brain-1"}
    assert Metrics.get(brain.metrics, :rooms_refused) == 1
    # The others fall asleep.
    assert %{code: 0, node: "brain-1"} = open(shield, @key)
  end

  test "a tenant takes so many rooms of a node, and leaves the others to other tenants" do
    world = world(["brain-1"])
    brain = brain(world, "brain-1", %{config: config(NatsServer.url(world), brain: [tenant_rooms: 2, room_idle_s: 1])})
    shield = shield(world)
    for n <- 1..2, do: assert(%{code: 0} = open(shield, {"acme", "room-#{n}"}))

    body = Codec.encode(%Internal.Open{room: "lobby", create: true})
    answer = answer(shield, send_to(shield, Subject.open("acme"), body), @limit_ms)
    {:ok, refused} = Codec.decode(Internal.Opened, answer)
    assert {refused.code, refused.node} == {Code.number(:unavailable), "brain-1"}
    assert Metrics.get(brain.metrics, :rooms_refused) == 1
    assert %{code: 0} = open(shield, {"other", "lobby"})
    # A place is free again when a room has gone.
    assert %{code: 0, node: "brain-1"} = open(shield, @key)
  end

  test "whichever process of a node dies, the node takes rooms again, and nothing is lost or doubled" do
    world = world(["brain-1"])
    %{bus: bus} = brain(world, "brain-1")
    {writer, speaker} = {Module.concat(bus, "Writer"), Module.concat(bus, "Speaker")}
    shield = shield(world)

    sent =
      for {victim, n} <- Enum.with_index([writer, speaker, {:via, Registry, {bus, :mesh}}], 1) do
        body = say(@key, "ann", "#{n}")
        assert %{code: 0, seq: ^n} = ask(shield, @key, body)
        Process.exit(GenServer.whereis(victim), :kill)
        assert_receive {:ready, ^bus}, @limit_ms
        body
      end

    for {body, n} <- Enum.with_index(sent, 1),
        do: assert(%{code: 0, seq: ^n, duplicate: true} = ask(shield, @key, body))

    entries = log(shield, @key)
    assert for(event <- events(entries), do: event.seq) == [1, 2, 3]
    ids = for entry <- entries, do: entry.entry_id
    assert Enum.uniq(ids) == ids
  end

  test "a room whose core is full keeps back what comes, and answers all of it in the end" do
    world = world(["brain-1"])
    brain = brain(world, "brain-1")
    shield = shield(world)
    open(shield, @key)
    # The room stands still while more comes than its core takes, but not more than its subscription.
    room = room(brain, @key)
    :sys.suspend(room)
    sent = for n <- 1..1000, do: say(@key, "user-#{rem(n, 10)}", :binary.copy("x", 8000))
    slots = for body <- sent, do: send_to(shield, Subject.input(@key), body)
    eventually(fn -> elem(Process.info(room, :message_queue_len), 1) >= 1000 && :ok end)
    :sys.resume(room)

    for slot <- slots do
      assert {:ok, %{code: 0}} = Codec.decode(V1.Ack, answer(shield, slot, @limit_ms))
    end

    entries = log(shield, @key)
    assert for(event <- events(entries), do: event.seq) == Enum.to_list(1..1000)
    assert length(entries) < 100, "they go out in groups"
    assert Metrics.get(brain.metrics, :lost) == 0
  end

  test "a crash report of a room tells where it stood, and nothing that its users wrote" do
    world = world(["brain-1"])
    brain = brain(world, "brain-1")
    shield = shield(world)
    ask(shield, @key, say(@key, "ann", "a-secret"))
    room = room(brain, @key)

    log =
      ExUnit.CaptureLog.capture_log(fn ->
        monitor = Process.monitor(room)
        :sys.replace_state(room, &%{&1 | subjects: nil})
        send_to(shield, Subject.input(@key), say(@key, "ann", "a-secret"))
        assert_receive {:DOWN, ^monitor, :process, _, _}, @limit_ms
      end)

    assert log =~ "acme/lobby"
    refute log =~ "a-secret"
  end

  test "a stream that is something else ends it with a sentence" do
    world = world(["brain-1"])
    operator = operator(world, "_INBOX.b.test")
    spec = %{Brain.Spine.StreamSpec.log(0, 1, 1, 1_073_741_824) | deny_delete: false}
    :ok = eventually(fn -> Brain.Spine.ensure(operator.spine, spec) end)
    test = self()

    options = %{
      bus: __MODULE__.Differs,
      node: "brain-1",
      config: config(NatsServer.url(world)),
      credentials: %{writer: {"writer-brain-1", "w"}, speaker: {"speaker-brain-1", "p"}},
      failed: fn why -> send(test, {:failed, why}) end
    }

    start_supervised!({Brain.Node, options})
    assert_receive {:failed, why}, @limit_ms
    assert why =~ "LOG_0"
  end

  test "the trace tells owned, commit, answer; the log one line a command" do
    world = world(["brain-1"])
    path = Path.join(System.tmp_dir!(), "brain-node-#{System.unique_integer([:positive])}.jsonl")
    on_exit(fn -> File.rm(path) end)
    {:ok, device} = StringIO.open("")
    sink = Brain.Log.Sink.handle(:"sink_#{System.unique_integer([:positive])}")
    {:ok, _} = Brain.Log.Sink.start_link(sink, device: device)
    log = %Brain.Log{node: "brain-1", level: :info, format: :json, sink: sink}
    config = config(NatsServer.url(world), log: [trace_file: path])
    brain = brain(world, "brain-1", %{config: config, log: log})
    shield = shield(world)

    hello = say(@key, "ann", "hello")
    %{epoch: epoch} = ask(shield, @key, hello)
    ask(shield, @key, hello)
    :ok = Brain.Node.drain(brain.bus)
    :ok = stop_supervised(brain.id)
    GenServer.stop(elem(sink, 0))

    {:ok, %{message_id: id}} = Codec.decode(V1.Envelope, hello)
    m = Base.encode16(id, case: :lower)
    [_, %{envelopes: [envelope]} | _] = log(shield, @key)
    records = path |> File.read!() |> String.split("\n", trim: true) |> Enum.map(&:jiffy.decode(&1, [:return_maps]))

    assert for(record <- records, do: Map.drop(record, ["v", "n", "t", "host"])) == [
             %{"k" => "owned", "room" => "acme/lobby", "epoch" => epoch, "term" => 1},
             %{
               "k" => "commit",
               "room" => "acme/lobby",
               "epoch" => epoch,
               "seq" => 1,
               "m" => m,
               "user" => "ann",
               "h" => Trace.hash16(envelope)
             },
             %{"k" => "answer", "m" => m, "code" => 0},
             %{"k" => "answer", "m" => m, "code" => 0}
           ]

    {_, lines} = StringIO.contents(device)
    assert [line] = String.split(lines, "\n", trim: true)

    assert %{"room" => "acme/lobby", "user" => "ann", "op" => "say", "seq" => 1, "message_id" => ^m} =
             :jiffy.decode(line, [:return_maps])
  end
end
