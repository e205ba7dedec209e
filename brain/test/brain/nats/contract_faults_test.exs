defmodule Brain.Nats.ContractFaultsTest do
  # The broker dies, comes back, hangs, or is not there yet: the cases of `spine/src/contract/faults.rs`, by name. Where
  # this client promises something else (nothing is kept while there is no connection), the name says so; see
  # `contract_names_test.exs`.
  use ExUnit.Case, async: false

  import Brain.NatsWorld

  alias Brain.{Nats, NatsServer, Spine, Subject}

  @moduletag timeout: 90_000, capture_log: true
  @to "out.t.acme.r.lobby"

  # A connection whose broker has died, and knows it.
  defp cut_off(options \\ []) do
    world = world()
    conn = connected(world, Keyword.merge([publish_timeout_ms: 300], options))
    spine = spine(conn, timeout_ms: 300)
    streams(spine(conn))
    NatsServer.kill(world)
    down(conn)
    {world, conn, spine}
  end

  defp log(room), do: Subject.log({"acme", room})

  # Reads a room's log as soon as the stream is up again.
  defp readable(spine, log) do
    eventually(fn ->
      case Spine.read(spine, log, 1, 10_000, :direct) do
        {:ok, batch} -> batch
        {:error, _not_yet} -> nil
      end
    end)
  end

  test "connects_when_the_broker_comes" do
    world = world()
    NatsServer.kill(world)
    conn = connect(world)
    assert Nats.link(conn) == :down
    assert Nats.publish(conn, @to, nil, "early") == {:error, :closed}
    NatsServer.restart(world)
    assert up(conn) == 1
    sub = listen(conn, "out.>")
    assert :ok = Nats.publish(conn, @to, nil, "hi")
    assert next(sub).body == "hi"
  end

  test "publish_without_broker_is_refused_at_once" do
    {world, conn, _spine} = cut_off()
    for _ <- 1..1_000, do: assert(Nats.publish(conn, @to, nil, "x") == {:error, :closed})
    # And nothing of it is sent later.
    NatsServer.restart(world)
    up(conn)
    sub = listen(conn, "out.>")
    assert :ok = Nats.publish(conn, @to, nil, "last")
    assert next(sub).body == "last"
  end

  test "a_publish_that_was_refused_is_never_sent" do
    world = world()
    conn = connected(world, queue_messages: 50, publish_timeout_ms: 300, ping_interval_ms: 20_000)
    sub = listen(connected(world, ping_interval_ms: 20_000), "out.>", nil, 100_000)
    NatsServer.pause(world)
    # One body that fills the socket, behind which the others wait.
    big = String.duplicate("x", 1_000_000)
    sent = Enum.take_while(Stream.repeatedly(fn -> Nats.publish(conn, "big", nil, big) end), &(&1 == :ok))
    assert length(sent) in 1..60
    queued = Enum.count(1..1_000, &(Nats.publish(conn, @to, nil, "#{&1}") == :ok))
    assert queued < 50
    NatsServer.resume(world)
    eventually(fn -> Nats.publish(conn, @to, nil, "last") == :ok end)
    # What was queued comes, and nothing else.
    bodies =
      Enum.reduce_while(Stream.cycle([nil]), [], fn nil, seen ->
        case next(sub).body do
          "last" -> {:halt, seen}
          body -> {:cont, [body | seen]}
        end
      end)

    assert length(bodies) == queued
  end

  test "a_request_without_broker_fails_at_once" do
    {_world, conn, _spine} = cut_off()
    assert Nats.request(conn, "open.t.acme", [], "?", 3_600_000) == {:error, :closed}
  end

  test "a_request_in_flight_fails_with_its_connection" do
    world = world()
    {one, two} = {connected(world), connected(world)}
    sub = listen(two, "open.t.*")
    Nats.request_async(one, "open.t.acme", [], "?", 3_600_000, :open)
    next(sub)
    NatsServer.kill(world)
    assert_receive {:nats_reply, :open, {:error, :closed}}, soon_ms()
  end

  test "subscribe_without_broker_times_out" do
    {world, conn, _spine} = cut_off()
    assert Nats.subscribe(conn, "out.>", nil) == {:error, :timeout}
    NatsServer.restart(world)
    up(conn)
    listen(conn, "out.>")
    # What timed out is not made later.
    assert {:ok, %{subscriptions: 1}} = Nats.status(conn)
  end

  test "calls_without_broker_do_not_hang" do
    {_world, _conn, spine} = cut_off()
    log = log("a")
    assert Spine.attempt(spine, log, 0, "x") == {:error, {:unresolved, :disconnected}}
    assert Spine.append(spine, log, 0, "x") == :unresolved

    for via <- [:direct, :leader] do
      assert Spine.last(spine, log, via) == {:error, :timeout}
      assert Spine.read(spine, log, 1, 1, via) == {:error, :timeout}
    end

    assert Spine.last_of(spine, "ban.>") == {:error, :timeout}
    assert Spine.purge_below(spine, log, 2) == {:error, :timeout}
  end

  test "the_link_counts_connections" do
    world = world()
    conn = connected(world)

    for generation <- 1..3 do
      assert up(conn) == generation
      assert Nats.link(conn) == {:up, generation}
      NatsServer.kill(world)
      down(conn)
      assert Nats.link(conn) == :down
      NatsServer.restart(world)
    end

    assert up(conn) == 4
  end

  test "subscriptions_are_made_again" do
    world = world()
    {one, two} = {connected(world), connected(world)}
    subs = for n <- 0..49, do: {listen(one, "out.t.acme.r.r#{n}"), "out.t.acme.r.r#{n}"}
    member = listen(one, "open.t.*", "brain")
    NatsServer.kill(world)
    down(one)
    down(two)
    NatsServer.restart(world)
    # "Up" means that the broker has them all again.
    assert up(one) == 2
    up(two)

    for {sub, to} <- subs do
      assert :ok = Nats.publish(two, to, nil, to)
      assert next(sub).body == to
    end

    assert :ok = Nats.publish(two, "open.t.acme", nil, "open")
    assert next(member).body == "open"
    # Requests have their inbox again.
    answering = Task.async(fn -> Nats.request(one, "open.t.acme", [], "?", soon_ms()) end)
    assert :ok = Nats.publish(one, next(member).reply, nil, "opened")
    assert {:ok, %{body: "opened"}} = Task.await(answering)
  end

  test "what_was_acknowledged_survives_kill" do
    world = world()
    conn = connected(world)
    spine = spine(conn)
    streams(spine)

    last =
      Enum.reduce(0..49, 0, fn n, last ->
        assert {:stored, seq} = Spine.append(spine, log("a"), last, "#{n}")
        seq
      end)

    NatsServer.kill(world)
    down(conn)
    NatsServer.restart(world)
    up(conn)
    batch = readable(spine, log("a"))
    assert length(batch.entries) == 50
    assert List.last(batch.entries).seq == last
    assert {:stored, next} = Spine.append(spine, log("a"), last, "next")
    assert next > last
  end

  test "memory_is_gone_after_a_restart" do
    world = world()
    conn = connected(world)
    spine = spine(conn)
    streams(spine)
    assert {:stored, _seq} = Spine.append(spine, "gen.0", 0, "g1")
    NatsServer.kill(world)
    down(conn)
    NatsServer.restart(world)
    up(conn)
    # Gone with its stream; made again, it is empty. That is how a lost tail is noticed.
    eventually(fn -> Enum.all?(Spine.StreamSpec.all(1, 1, 67_108_864), &(Spine.ensure(spine, &1) == :ok)) end)
    assert Spine.last(spine, "gen.0", :leader) == {:ok, nil}
    assert {:stored, _seq} = Spine.append(spine, "gen.0", 0, "g2")
  end

  test "an_append_cut_short_is_unresolved" do
    world = world()
    conn = connected(world)
    spine = spine(conn)
    streams(spine)
    log = log("a")
    assert {:stored, first} = Spine.append(spine, log, 0, "first")
    # The broker hangs with the request in its socket, then dies: nobody will ever answer.
    NatsServer.pause(world)
    Spine.append_async(spine, log, first, "mine", :mine)
    eventually(fn -> match?({:ok, %{calls: 1, queue_messages: 0}}, Nats.status(conn)) end)
    NatsServer.kill(world)
    assert_receive {:spine, :mine, :unresolved}, soon_ms()
    NatsServer.restart(world)
    up(conn)
    # Repeating the same bytes with the same expectation settles it: exactly one of them is in the log.
    repeated = settle(spine, log, first)
    assert [_first, %{body: "mine", seq: ^repeated}] = readable(spine, log).entries
  end

  defp settle(spine, log, expect) do
    eventually(fn ->
      case Spine.append(spine, log, expect, "mine") do
        {:stored, seq} -> seq
        :wrong_last -> with {:ok, %{seq: seq}} <- Spine.last(spine, log, :leader), do: seq
        _again -> nil
      end
    end)
  end

  test "an_append_to_a_hung_broker_is_found_later" do
    world = world()
    # So patient that the connection itself is not given up.
    conn = connected(world, ping_interval_ms: 20_000)
    streams(spine(conn))
    spine = spine(conn, timeout_ms: 300)
    NatsServer.pause(world)
    assert Spine.attempt(spine, log("a"), 0, "mine") == {:error, {:unresolved, :timeout}}
    # Absence proved nothing: it is stored after all.
    NatsServer.resume(world)
    eventually(fn -> readable(spine, log("a")).entries != [] end)
    # The late answer to it is not taken for the answer to another.
    assert Spine.append(spine, log("b"), 0, "x") == {:stored, 2}
  end

  test "a_hung_broker_is_noticed" do
    world = world()
    conn = connected(world, ping_interval_ms: 200)
    assert up(conn) == 1
    NatsServer.pause(world)
    down(conn)
    NatsServer.resume(world)
    assert up(conn) == 2
  end

  test "publish_to_a_hung_broker_does_not_block" do
    world = world()
    conn = connected(world, ping_interval_ms: 20_000, publish_timeout_ms: 300)
    NatsServer.pause(world)
    big = String.duplicate("x", 100_000)
    # Sockets and the queue fill up; then each call is refused.
    results = Stream.repeatedly(fn -> Nats.publish(conn, @to, nil, big) end)
    assert results |> Stream.take(1_000) |> Enum.find(&(&1 != :ok)) == {:error, :full}
    assert {:ok, %{queue_bytes: bytes}} = Nats.status(conn)
    assert bytes <= 16 * 1_048_576
    # A request is refused for the same reason, and takes no place.
    eventually(fn -> Nats.request(conn, @to, [], big, 100) == {:error, :full} end)
    assert {:ok, %{calls: 0}} = Nats.status(conn)
    # The end does not wait for it for ever.
    assert :ok = stop_supervised(conn)
  end

  test "close_without_broker_ends" do
    {_world, conn, _spine} = cut_off()
    assert :ok = stop_supervised(conn)
    assert Nats.publish(conn, @to, nil, "x") == {:error, :closed}
  end
end
