defmodule Brain.Nats.ContractAccountsTest do
  # The two accounts of CONTRACT 3: what a user makes the broker say lands where that user is, and no stream listens there. The
  # cases of `spine/src/contract/accounts.rs`, by name.
  use ExUnit.Case, async: false

  import Brain.NatsWorld

  alias Brain.{Nats, NatsUsers, Spine, Subject}

  @moduletag timeout: 90_000, capture_log: true
  @lobby {"acme", "lobby"}

  @shield NatsUsers.shield("s1", "secret-s1")
  @writer NatsUsers.writer("b1", "secret-w")
  @operator NatsUsers.operator("secret-o")
  # Who may do everything where Shields and speakers are.
  @witness NatsUsers.witness("secret-x")

  # A room with two snapshots; the reader's, the writer's and the witness' connections.
  defp filled do
    world = world(users: [@shield, @writer, @operator, @witness])
    writer = spine(connected(world, as(@writer, "_INBOX.w.b1")))
    streams(writer)

    for {subject, bodies} <- stored(), {body, expect} <- Enum.with_index(bodies) do
      assert {:stored, _seq} = Spine.append(writer, subject, expect, body)
    end

    %{world: world, writer: writer, witness: connected(world, as(@witness, "_INBOX.x"))}
  end

  # Each subject lies in a stream of its own.
  defp stored, do: [{Subject.log(@lobby), ~w(entry entry)}, {Subject.snapshot(@lobby), ~w(one two)}, {"gen.0", ~w(gen)}]

  defp assert_as_it_was(writer) do
    for {subject, bodies} <- stored() do
      assert {:ok, %{entries: entries}} = Spine.read(writer, subject, 1, 100, :leader)
      assert Enum.map(entries, & &1.body) == bodies
    end

    assert {:ok, %{entries: []}} = Spine.last_of(writer, "ban.>")
  end

  # A Shield asks every read, one for each form that an answer can have, with each of these reply subjects; all answers have
  # been seen where the Shield is.
  defp answers_sent_to(world, replies) do
    shield = connected(world.world, as(@shield, "_INBOX.s.s1"))
    log = Subject.log(@lobby)

    reads = [
      {"store.DIRECT.GET.LOG_0.#{log}", ""},
      {"store.DIRECT.GET.LOG_0.#{log}.none", ""},
      {"store.DIRECT.GET.LOG_0", ~s({"seq":1,"no_hdr":true})},
      {"store.STREAM.MSG.GET.LOG_0", ~s({"seq":1})},
      {"store.STREAM.MSG.GET.LOG_0", ~s({"seq":99})}
    ]

    for reply <- replies do
      answers = listen(world.witness, reply)

      for {subject, question} <- reads do
        assert :ok = Nats.publish(shield, subject, reply, question)
        next(answers)
      end
    end
  end

  test "a_reply_subject_cannot_make_the_broker_store" do
    world = filled()
    answers_sent_to(world, ["ban.t.acme.u.mallory" | for({subject, _bodies} <- stored(), do: subject)])
    assert_as_it_was(world.writer)
  end

  test "a_reply_subject_cannot_make_the_broker_delete" do
    world = filled()

    calls =
      ~w(STREAM.DELETE.SNAP STREAM.DELETE.LOG_0 STREAM.PURGE.SNAP STREAM.PURGE.LOG_0 STREAM.PURGE.GEN_0 STREAM.MSG.DELETE.SNAP)

    answers_sent_to(world, for(api <- ~w($JS.API store), call <- calls, do: "#{api}.#{call}"))
    assert_as_it_was(world.writer)
  end

  test "where_shields_are_no_stream_listens" do
    world = filled()
    witness = spine(world.witness)

    for {subject, _bodies} <- stored() do
      assert {:error, {:refused, :unavailable, 503, _text}} = Spine.attempt(witness, subject, 0, "forged")
      assert {:error, _reason} = Spine.read(witness, subject, 1, 1, :leader)
    end

    assert {:error, _reason} = Spine.purge_below(witness, Subject.log(@lobby), 2)
    assert_as_it_was(world.writer)
  end

  test "the_log_does_not_hear_the_shields" do
    world = filled()
    operator = connected(world.world, as(@operator, "_INBOX.o"))
    all = listen(operator, ">")

    for to <- ~w(in.t.acme.r.lobby out.t.acme.r.lobby sys.t.acme.ban log.1.t.acme.r.lobby _INBOX.w.b1.x) do
      assert :ok = Nats.publish(world.witness, to, nil, "over there")
    end

    assert :ok = stop_supervised(world.witness)
    assert :ok = Nats.publish(operator, "end", nil, "end")
    assert Enum.find(Stream.repeatedly(fn -> next(all).body end), &(&1 in ["over there", "end"])) == "end"
  end
end
