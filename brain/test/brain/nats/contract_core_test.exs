defmodule Brain.Nats.ContractCoreTest do
  # Publish, subscribe, request, stop, on a broker that stays up: the cases of `spine/src/contract/core.rs`, by name.
  use ExUnit.Case, async: false

  import Brain.NatsWorld

  alias Brain.{Nats, Spine, Subject}
  alias Brain.Spine.StreamSpec

  @moduletag timeout: 90_000, capture_log: true
  @to "out.t.acme.r.lobby"

  test "messages_arrive_in_order" do
    world = world()
    {one, two} = {connected(world), connected(world)}
    sub = listen(one, "out.t.*.r.*", nil, 2_000)
    for n <- 0..999, do: assert(:ok = Nats.publish(two, @to, nil, "#{n}"))
    assert bodies(sub, 1_000) == Enum.map(0..999, &to_string/1)
  end

  test "every_byte_arrives_as_sent" do
    conn = connected(world())
    sub = listen(conn, "out.>")
    all = 0..255 |> Enum.to_list() |> :binary.list_to_bin() |> List.duplicate(391) |> IO.iodata_to_binary()

    for sent <- ["", "\r\nMSG x 1 0\r\n\r\n", binary_part(all, 0, 100_000)] do
      assert :ok = Nats.publish(conn, @to, nil, sent)
      assert next(sub) == %{subject: @to, reply: nil, headers: [], status: nil, body: sent}
    end
  end

  test "wildcards_stand_for_tokens" do
    conn = connected(world())
    {star, rest, exact} = {listen(conn, "out.t.*.r.*"), listen(conn, "out.>"), listen(conn, "out.t.a.r.b")}

    for to <- ["out", "out.t", "out.t.a.r.b", "out.t.a.r.b.c", "out.t.a.x.b", "other.t.a.r.b"] do
      assert :ok = Nats.publish(conn, to, nil, to)
    end

    assert bodies(star, 1) == ["out.t.a.r.b"]
    assert bodies(rest, 4) == ["out.t", "out.t.a.r.b", "out.t.a.r.b.c", "out.t.a.x.b"]
    assert bodies(exact, 1) == ["out.t.a.r.b"]
    Enum.each([star, rest, exact], &silent/1)
  end

  test "a_queue_group_shares_the_messages" do
    world = world()
    {one, two} = {connected(world), connected(world)}
    a = listen(one, "open.t.*", "brain")
    b = listen(two, "open.t.*", "brain")
    all = listen(two, "open.t.*")
    for n <- 0..199, do: assert(:ok = Nats.publish(one, "open.t.acme", nil, "#{n}"))
    bodies(all, 200)

    shared =
      for _ <- 1..200 do
        assert_receive {:nats, sub, %{body: body}} when sub in [a, b], soon_ms()
        String.to_integer(body)
      end

    assert Enum.sort(shared) == Enum.to_list(0..199)
    silent(a)
    silent(b)
  end

  test "a_reply_subject_can_be_answered" do
    world = world()
    {one, two} = {connected(world), connected(world)}
    slots = listen(one, "_INBOX.s.one.*")
    input = listen(two, "in.t.*.r.*")
    assert :ok = Nats.publish(one, "in.t.acme.r.lobby", "_INBOX.s.one.17", "question")
    assert %{reply: "_INBOX.s.one.17"} = next(input)
    assert :ok = Nats.publish(two, "_INBOX.s.one.17", nil, "answer")
    assert %{subject: "_INBOX.s.one.17", body: "answer"} = next(slots)
  end

  test "no_responder_is_told_to_the_reply_subject" do
    conn = connected(world())
    slots = listen(conn, "_INBOX.s.one.*")
    assert :ok = Nats.publish(conn, "in.t.acme.r.lobby", "_INBOX.s.one.17", "anyone?")
    assert %{subject: "_INBOX.s.one.17", status: 503, body: ""} = next(slots)
  end

  test "a_request_gets_the_first_answer" do
    world = world()
    {one, two} = {connected(world, inbox_prefix: "_INBOX.b.one"), connected(world)}
    to = "sys.n.brain.two.open"
    asked = listen(two, "sys.n.brain.two.>")

    asking = Task.async(fn -> for n <- 0..49, do: Nats.request(one, to, [], "#{n}", soon_ms()) end)

    for _ <- 0..49 do
      question = next(asked)
      assert String.starts_with?(question.reply, "_INBOX.b.one.")
      assert :ok = Nats.publish(two, question.reply, nil, question.body)
      assert :ok = Nats.publish(two, question.reply, nil, "late")
    end

    answers = Task.await(asking, soon_ms())
    assert Enum.map(answers, fn {:ok, answer} -> answer.body end) == Enum.map(0..49, &to_string/1)
  end

  test "a_request_without_responder_fails_at_once" do
    conn = connected(world())
    assert Nats.request(conn, "open.t.acme", [], "?", 3_600_000) == {:error, :no_responders}
  end

  test "a_request_ends_at_its_limit" do
    world = world()
    {one, two} = {connected(world), connected(world)}
    sub = listen(two, "open.t.*")
    assert Nats.request(one, "open.t.acme", [], "?", 50) == {:error, :timeout}
    # An answer that comes late meets nobody, and the next request gets its own.
    late = next(sub)
    assert :ok = Nats.publish(two, late.reply, nil, "late")
    asking = Task.async(fn -> Nats.request(one, "open.t.acme", [], "?", soon_ms()) end)
    assert :ok = Nats.publish(two, next(sub).reply, nil, "in time")
    assert {:ok, %{body: "in time"}} = Task.await(asking)
    # Nothing is left of either, here or in the queue.
    eventually(fn -> match?({:ok, %{calls: 0, queue_bytes: 0, queue_messages: 0}}, Nats.status(one)) end)
  end

  test "too_big_is_refused_before_it_is_sent" do
    conn = connected(world(max_payload: 4_096))
    spine = spine(conn)
    streams(spine)
    sub = listen(conn, "out.>")
    big = String.duplicate("x", 4_097)
    assert Nats.publish(conn, @to, nil, big) == {:error, :too_big}
    assert Nats.request(conn, @to, [], big, soon_ms()) == {:error, :too_big}
    log = Subject.log({"acme", "lobby"})
    assert {:error, {:refused, :too_big, 0, _text}} = Spine.attempt(spine, log, 0, big)
    # The header counts too.
    assert {:error, {:refused, :too_big, 0, _text}} = Spine.attempt(spine, log, 0, binary_part(big, 0, 4_096))
    # As much as is allowed goes through, on the same connection.
    assert :ok = Nats.publish(conn, @to, nil, binary_part(big, 0, 4_096))
    assert byte_size(next(sub).body) == 4_096
    assert up(conn) == 1
  end

  test "a_subscription_is_confirmed" do
    world = world()
    {one, two} = {connected(world), connected(world)}

    for n <- 0..199 do
      to = "out.t.acme.r.r#{n}"
      sub = listen(one, to, nil, 1)
      assert :ok = Nats.publish(two, to, nil, "#{n}")
      assert next(sub).body == "#{n}"
    end
  end

  test "a_full_subscription_says_how_many_it_lost" do
    world = world()
    {one, two} = {connected(world), connected(world, queue_messages: 100_000)}
    all = listen(one, "out.>", nil, 100_000)
    full = listen(one, "out.>", nil, 10)
    for n <- 0..49_999, do: assert(:ok = Nats.publish(two, @to, nil, "#{n}"))
    bodies(all, 50_000)
    # Each message is either here or counted, and each count stands exactly where the messages are missing.
    assert count_up(full, 0, 0) > 0
    silent(full)
  end

  defp count_up(_sub, 50_000, lost), do: lost

  defp count_up(sub, due, lost) do
    receive do
      {:nats, ^sub, message} ->
        assert message.body == "#{due}"
        Nats.ack(sub, 1)
        count_up(sub, due + 1, lost)

      {:nats_lost, ^sub, count} ->
        count_up(sub, due + count, lost + count)
    after
      soon_ms() -> flunk("#{due} of 50,000")
    end
  end

  test "lost_comes_before_the_next_message" do
    conn = connected(world())
    sub = listen(conn, "out.>", nil, 2)
    witness = listen(conn, "out.>")
    for n <- 0..4, do: assert(:ok = Nats.publish(conn, @to, nil, "#{n}"))
    bodies(witness, 5)
    # Two are here; there is no room even to say what is lost.
    refute_received {:nats_lost, ^sub, _count}
    # One place is free again: what comes now is kept behind the hole.
    assert bodies(sub, 1) == ["0"]
    assert_receive {:nats_lost, ^sub, 3}, soon_ms()
    assert :ok = Nats.publish(conn, @to, nil, "5")
    bodies(witness, 1)
    assert bodies(sub, 2) == ["1", "5"]
    silent(sub)
  end

  test "dropping_a_subscription_unsubscribes" do
    conn = connected(world())
    sub = listen(conn, "open.t.*")
    assert Nats.request(conn, "open.t.acme", [], "?", quiet_ms()) == {:error, :timeout}
    assert :ok = Nats.unsubscribe(conn, sub)
    assert Nats.request(conn, "open.t.acme", [], "?", soon_ms()) == {:error, :no_responders}
    # So does the subscriber's end.
    Task.await(Task.async(fn -> listen(conn, "open.t.*") end))
    eventually(fn -> Nats.request(conn, "open.t.acme", [], "?", quiet_ms()) == {:error, :no_responders} end)
    assert {:ok, %{subscriptions: 0}} = Nats.status(conn)
  end

  test "clones_share_one_connection" do
    conn = connected(world())
    sub = listen(conn, "out.>")
    # Whoever knows the name uses the same connection, from whatever process; an end of one of them closes nothing.
    assert :ok = Task.await(Task.async(fn -> Nats.publish(conn, @to, nil, "hi") end))
    assert next(sub).body == "hi"
    assert :ok = Nats.publish(conn, @to, nil, "still")
    assert next(sub).body == "still"
    assert up(conn) == 1
  end

  test "the_link_names_the_broker" do
    world = world()
    {one, two} = {connected(world), connected(world)}
    assert {:ok, %{link: {:up, 1}, broker: broker}} = Nats.status(one)
    assert broker != ""
    assert {:ok, %{link: {:up, 1}, broker: ^broker}} = Nats.status(two)
  end

  test "close_writes_out_what_is_queued" do
    world = world()
    {one, two} = {connected(world), connected(world)}
    sub = listen(two, "out.>", nil, 2_000)
    for n <- 0..1_499, do: assert(:ok = Nats.publish(one, @to, nil, "#{n}"))
    assert :ok = stop_supervised(one)
    assert bodies(sub, 1_500) == Enum.map(0..1_499, &to_string/1)
  end

  test "close_ends_everything" do
    conn = connected(world())
    spine = spine(conn)
    log = Subject.log({"acme", "lobby"})
    sub = listen(conn, "out.>")
    listen(conn, "open.t.*")
    assert {:ok, {:up, 1}} = Nats.watch(conn)
    Nats.request_async(conn, "open.t.acme", [], "?", soon_ms(), :open)
    eventually(fn -> match?({:ok, %{calls: 1}}, Nats.status(conn)) end)
    assert :ok = stop_supervised(conn)
    assert_received {:nats_ended, ^sub, :closed}
    assert_received {:nats_reply, :open, {:error, :closed}}
    assert_received {:nats_link, ^conn, :down}
    assert Nats.publish(conn, @to, nil, "x") == {:error, :closed}
    assert Nats.request(conn, @to, [], "x", soon_ms()) == {:error, :closed}
    assert Nats.subscribe(conn, "out.>", nil) == {:error, :closed}
    assert {:error, {:refused, :closed, 0, _text}} = Spine.attempt(spine, log, 0, "x")
    assert Spine.last(spine, log, :direct) == {:error, :closed}
    assert Spine.read(spine, log, 1, 1, :leader) == {:error, :closed}
    assert Spine.last_of(spine, "ban.>") == {:error, :closed}
    assert Spine.purge_below(spine, log, 2) == {:error, :closed}
    assert Spine.ensure(spine, StreamSpec.bans(1)) == {:error, :closed}
    assert Nats.link(conn) == :down
    assert Nats.stop(conn) == :ok
  end
end
