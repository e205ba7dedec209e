defmodule Brain.Nats.ContractPermissionsTest do
  # The users of CONTRACT 3: what each may do works, and nothing else does. The cases of
  # `spine/src/contract/permissions.rs`, by name.
  use ExUnit.Case, async: false

  import Brain.NatsWorld

  alias Brain.{Nats, NatsUsers, Spine, Subject}

  @moduletag timeout: 90_000, capture_log: true
  @lobby {"acme", "lobby"}

  # A broker with two Shields, one Brain, the operator and a witness.
  defp guarded do
    world(
      users: [
        NatsUsers.shield("s1", "secret-s1"),
        NatsUsers.shield("s2", "secret-s2"),
        NatsUsers.writer("b1", "secret-w"),
        NatsUsers.speaker("b1", "secret-b"),
        NatsUsers.operator("secret-o"),
        NatsUsers.witness("secret-x")
      ]
    )
  end

  defp shield, do: as(NatsUsers.shield("s1", "secret-s1"), "_INBOX.s.s1")
  defp writer, do: as(NatsUsers.writer("b1", "secret-w"), "_INBOX.w.b1")
  defp speaker, do: as(NatsUsers.speaker("b1", "secret-b"), "_INBOX.b.b1")
  defp operator, do: as(NatsUsers.operator("secret-o"), "_INBOX.o")
  # Who may do everything where Shields and speakers are.
  defp witness, do: as(NatsUsers.witness("secret-x"), "_INBOX.x")

  test "every_user_can_do_its_work" do
    world = guarded()
    {shield, writer, speaker} = {connected(world, shield()), connected(world, writer()), connected(world, speaker())}
    spine = spine(writer)
    streams(spine)
    log = Subject.log(@lobby)
    # That nobody is there is told at once.
    assert {:error, :no_responders} = Nats.request(shield, "in.t.acme.r.lobby", [], "say", soon_ms())
    # The way of a message: in, stored, out, answered.
    commands = listen(speaker, "in.t.*.r.*")
    events = listen(shield, "out.t.acme.r.lobby")
    slots = listen(shield, "_INBOX.s.s1.*")
    assert :ok = Nats.publish(shield, "in.t.acme.r.lobby", "_INBOX.s.s1.7", "say")
    command = next(commands)
    assert {:stored, seq} = Spine.append(spine, log, 0, command.body)
    assert {"Nats-Sequence", to_string(seq)} in next(events).headers
    assert :ok = Nats.publish(speaker, command.reply, nil, "ack")
    assert next(slots).body == "ack"
    # Reading back, live events, opening, heartbeats.
    reader = spine(shield, api: "store")

    for via <- [:direct, :leader] do
      assert {:ok, %{entries: [_one]}} = Spine.read(reader, log, 1, 10, via)
    end

    assert {:ok, _bans} = Spine.last_of(reader, "ban.t.acme.u.*")
    assert :ok = Nats.publish(speaker, "out.t.acme.r.lobby", nil, "live")
    assert next(events).body == "live"
    opens = listen(speaker, "open.t.*", "brain")
    asking = Task.async(fn -> Nats.request(shield, "open.t.acme", [], "open", soon_ms()) end)
    open = next(opens)
    assert Subject.shield_inbox?(open.reply)
    assert :ok = Nats.publish(speaker, open.reply, nil, "opened")
    assert {:ok, %{body: "opened"}} = Task.await(asking)
    beats = listen(shield, "sys.n.hb.>")
    assert :ok = Nats.publish(speaker, "sys.n.hb.brain.b1", nil, "brain")
    assert next(beats).body == "brain"
    assert :ok = Nats.publish(shield, "sys.n.hb.shield.s1", nil, "shield")
    assert next(beats).body == "shield"
    # An operator's signal is heard on both sides.
    operator = connected(world, operator())
    signals = listen(shield, "sys.t.*.*")
    assert :ok = Nats.publish(operator, "sys.t.acme.ban", nil, "mallory")
    assert next(signals).body == "mallory"
    # Snapshots, generations, trimming.
    assert {:stored, _seq} = Spine.append(spine, Subject.snapshot(@lobby), 0, "snap")
    assert {:stored, _seq} = Spine.append(spine, "gen.0", 0, "gen")
    assert :ok = Spine.purge_below(spine, log, seq)
  end

  test "a_denied_subscription_is_told" do
    world = guarded()

    denied = [
      {shield(), ~w(in.t.*.r.* log.> _INBOX.s.s2.* _INBOX.> >)},
      {writer(), ~w(in.t.*.r.* out.>)},
      {speaker(), ~w(log.> _INBOX.s.s1.* _INBOX.w.b1.*)}
    ]

    for {user, patterns} <- denied do
      conn = connected(world, user)

      for pattern <- patterns do
        assert {:error, {:denied, text}} = Nats.subscribe(conn, pattern, nil)
        assert text =~ pattern
        assert {:error, {:denied, _text}} = Nats.subscribe(conn, pattern, "group")
      end

      # The connection has not suffered.
      assert up(conn) == 1
      assert {:ok, %{subscriptions: 0}} = Nats.status(conn)
    end
  end

  test "a_denied_publish_is_not_delivered" do
    world = guarded()
    all = for user <- [operator(), witness()], conn = connected(world, user), do: {conn, listen(conn, ">", nil, 10_000)}

    denied = [
      {shield(), ~w(log.1.t.acme.r.lobby snap.1.t.acme.r.lobby out.t.acme.r.lobby _INBOX.s.s2.1 sys.t.acme.kick
         sys.n.hb.shield.s2 $JS.API.STREAM.DELETE.SNAP $JS.API.STREAM.MSG.GET.LOG_0 store.STREAM.DELETE.SNAP)},
      {writer(), ~w(_INBOX.s.s1.1 out.t.acme.r.lobby in.t.acme.r.lobby)},
      {speaker(), ~w(log.1.t.acme.r.lobby snap.1.t.acme.r.lobby gen.0 _INBOX.w.b1.1 $JS.API.STREAM.DELETE.SNAP
         store.STREAM.MSG.GET.LOG_0)}
    ]

    for {user, subjects} <- denied do
      conn = connected(world, user)
      # Queued is all that it says.
      for to <- subjects, do: assert(:ok = Nats.publish(conn, to, nil, "forbidden"))
      assert :ok = stop_supervised(conn)
    end

    for {conn, heard} <- all do
      assert :ok = Nats.publish(conn, "end", nil, "end")
      assert Enum.find(Stream.repeatedly(fn -> next(heard).body end), &(&1 in ["forbidden", "end"])) == "end"
    end
  end

  test "the_speaker_cannot_write_the_log" do
    world = guarded()
    writer = spine(connected(world, writer()))
    streams(writer)
    speaker = spine(connected(world, speaker()), timeout_ms: quiet_ms())
    log = Subject.log(@lobby)
    assert Spine.append(speaker, log, 0, "forged") == :unresolved
    assert {:error, _reason} = Spine.read(speaker, log, 1, 1, :direct)
    assert Spine.last(writer, log, :leader) == {:ok, nil}
  end

  test "a_denied_request_ends_at_its_limit" do
    conn = connected(guarded(), shield())
    assert Nats.request(conn, "sys.t.acme.kick", [], "?", quiet_ms()) == {:error, :timeout}
  end

  test "a_wrong_password_never_connects" do
    world = guarded()
    {:ok, _} = Application.ensure_all_started(:logger)

    for wrong <- [Keyword.put(operator(), :password, "guess"), Keyword.drop(operator(), [:user, :password])] do
      text =
        ExUnit.CaptureLog.capture_log(fn ->
          conn = connect(world, wrong)
          {:ok, :down} = Nats.watch(conn)
          refute_receive {:nats_link, ^conn, {:up, _generation}}, quiet_ms()
          assert :ok = stop_supervised(conn)
        end)

      assert text =~ "Authorization Violation"
      refute text =~ "guess"
    end

    connected(world, operator())
  end
end
