defmodule Brain.Nats.WireTest do
  # The connection against a broker made of a bare socket: what a real one does rarely, or never.
  use ExUnit.Case, async: true

  import Brain.FakeBroker
  import Brain.NatsWorld, only: [up: 1, down: 1]

  alias Brain.{FakeBroker, Nats}

  @moduletag capture_log: true

  defp broken(bytes) do
    broker = FakeBroker.start()
    conn = connect(broker)
    {socket, _lines} = serve(broker)
    assert up(conn) == 1
    process = Process.whereis(conn)
    sub = subscribed(conn, socket, "a.b", 2)
    say(socket, ["MSG a.b 2 2\r\nok\r\n", bytes])
    # What stood before the garbage is delivered; then it connects again, in the same process.
    assert_receive {:nats, ^sub, %{body: "ok"}}, 10_000
    assert hung_up?(socket)
    {_socket, lines} = serve(broker)
    assert "SUB a.b 2" in lines
    assert up(conn) == 2
    assert Process.whereis(conn) == process
  end

  # Subscribes while the test answers as the broker.
  defp subscribed(conn, socket, subject, sid) do
    test = self()
    assert {:ok, sub} = Nats.subscribe_async(conn, subject, nil, [max: 100], :subscribed)
    assert line(socket) == "SUB #{subject} #{sid}"
    assert line(socket) == "PING"
    refute_received {:nats_subscribed, :subscribed, _result}
    say(socket, "PONG\r\n")
    assert_receive {:nats_subscribed, :subscribed, {:ok, ^sub}}, 10_000
    assert test == self()
    sub
  end

  test "a_subscription_made_while_greeting_waits_for_its_own_pong" do
    broker = FakeBroker.start()
    conn = connect(broker)
    socket = accept(broker)
    say(socket, "PONG\r\n")
    assert "SUB " <> _ = line(socket)
    assert line(socket) == "PING"
    assert {:ok, sub} = Nats.subscribe_async(conn, "a.b", nil, [], :late)
    assert line(socket) == "SUB a.b 2"
    assert line(socket) == "PING"
    # The broker had not seen it when it sent this one.
    say(socket, "PONG\r\n")
    assert up(conn) == 1
    # The connection has nothing more to say: it answers in order.
    assert {:ok, %{subscriptions: 1}} = Nats.status(conn)
    refute_received {:nats_subscribed, :late, _result}
    say(socket, "PONG\r\n")
    assert_receive {:nats_subscribed, :late, {:ok, ^sub}}, 10_000
  end

  test "subscriptions_come_before_anything_else" do
    broker = FakeBroker.start()
    conn = connect(broker, inbox_prefix: "_INBOX.b.b1")
    {socket, lines} = serve(broker)
    assert lines == ["SUB _INBOX.b.b1.unique.* 1"]
    up(conn)
    subscribed(conn, socket, "in.t.acme.r.lobby", 2)
    assert {:ok, _sub} = Nats.subscribe_async(conn, "open.t.*", "brain", [], :open)
    :gen_tcp.close(socket)
    down(conn)
    # Not up, and nothing else sent, before the PONG behind them; the one that was never confirmed is made as well.
    socket = accept(broker)
    say(socket, "PONG\r\n")
    assert line(socket) == "SUB _INBOX.b.b1.unique.* 1"
    assert line(socket) == "SUB in.t.acme.r.lobby 2"
    assert line(socket) == "SUB open.t.* brain 3"
    assert line(socket) == "PING"
    assert Nats.link(conn) == :down
    assert Nats.publish(conn, "a", nil, "x") == {:error, :closed}
    assert {:error, :timeout} = :gen_tcp.recv(socket, 0, 50)
    say(socket, "PONG\r\n")
    assert up(conn) == 2
    assert_receive {:nats_subscribed, :open, {:ok, _sub}}, 10_000
    assert :ok = Nats.publish(conn, "a.b", "c.d", "x\r\ny")
    assert line(socket) == "PUB a.b c.d 4"
  end

  test "INFO is taken at any time, and a smaller max_payload counts at once" do
    broker = FakeBroker.start()
    conn = connect(broker)
    {:ok, socket} = :gen_tcp.accept(broker.listener, 10_000)
    # Twice at first, again behind the PONG as nats-server 2.15.1 does, and between two messages.
    say(socket, [info(), info()])
    assert "CONNECT" <> _ = line(socket)
    assert line(socket) == "PING"
    say(socket, ["PONG\r\n", info()])
    assert "SUB _INBOX" <> _ = line(socket)
    assert line(socket) == "PING"
    say(socket, [info(), "PONG\r\n"])
    assert up(conn) == 1
    sub = subscribed(conn, socket, "a.b", 2)
    say(socket, ["MSG a.b 2 1\r\n1\r\n", info(%{"max_payload" => 3, "ldm" => true}), "MSG a.b 2 1\r\n2\r\n"])
    assert_receive {:nats, ^sub, %{body: "1"}}, 10_000
    assert_receive {:nats, ^sub, %{body: "2"}}, 10_000
    assert Nats.publish(conn, "a", nil, "1234") == {:error, :too_big}
    assert :ok = Nats.publish(conn, "a", nil, "123")
    assert up(conn) == 1
  end

  test "garbage is a reason to connect again, never a crash" do
    for bytes <- [
          "GET / HTTP/1.1\r\n\r\n",
          "\r\n",
          "MSG\r\n",
          "MSG a.b\r\n",
          "MSG a.b 2 -1\r\n",
          "MSG a.b 2 99999999999999999999\r\n",
          "MSG a.b 2 1000000000\r\n",
          "MSG a.b 2 2\r\nokk\r\n",
          "MSG a.b x 2\r\nok\r\n",
          "HMSG a.b 2 9 2\r\nok\r\n",
          "INFO {\r\n",
          "INFO []\r\n",
          "INFO {\"max_payload\":\"big\"}\r\n",
          String.duplicate("M", 100_000),
          "MSG " <> String.duplicate("a", 100_000),
          <<0, 255, 254, 13, 10>>
        ] do
      broken(bytes)
    end
  end

  test "headers that are none lose their message alone" do
    broker = FakeBroker.start()
    conn = connect(broker)
    {socket, _lines} = serve(broker)
    up(conn)
    sub = subscribed(conn, socket, "a.b", 2)

    for block <- ["nonsense", "NATS/1.0", "NATS/1.0 5x3\r\n\r\n", "NATS/1.0\r\n: x\r\n\r\n", "NATS/1.0\r\nkey\r\n\r\n"] do
      say(socket, "HMSG a.b 2 #{byte_size(block)} #{byte_size(block)}\r\n#{block}\r\n")
    end

    say(socket, "HMSG a.b 2 reply 32 34\r\nNATS/1.0 100 Odd\r\nA:1\r\na: 2 \r\n\r\nhi\r\n")
    assert_receive {:nats, ^sub, message}, 10_000

    assert message == %{
             subject: "a.b",
             reply: "reply",
             headers: [{"Description", "Odd"}, {"A", "1"}, {"a", "2"}],
             status: 100,
             body: "hi"
           }

    assert up(conn) == 1
  end

  test "a timer that runs out in the moment of the confirmation ends nothing" do
    broker = FakeBroker.start()
    conn = connect(broker)
    {socket, _lines} = serve(broker)
    up(conn)
    sub = subscribed(conn, socket, "a.b", 2)
    send(Process.whereis(conn), {:unconfirmed, 2})
    say(socket, "MSG a.b 2 2\r\nok\r\n")
    assert_receive {:nats, ^sub, %{body: "ok"}}, 10_000
    # One that is really late is unsubscribed, and says so.
    assert {:ok, _sub} = Nats.subscribe_async(conn, "c.d", nil, [], :late)
    for expected <- ["SUB c.d 3", "PING"], do: assert(line(socket) == expected)
    assert_receive {:nats_subscribed, :late, {:error, :timeout}}, 10_000
    assert line(socket) == "UNSUB 3"
  end

  test "it ends while it is dialing, and leaves nothing behind" do
    broker = FakeBroker.start()
    conn = connect(broker)
    {:ok, socket} = :gen_tcp.accept(broker.listener, 10_000)
    assert :ok = stop_supervised(conn)
    assert hung_up?(socket)
  end

  test "an unknown subscription, inbox token or stray PONG is ignored" do
    broker = FakeBroker.start()
    conn = connect(broker)
    {socket, _lines} = serve(broker)
    up(conn)

    for line <- ["MSG a 99 0\r\n\r\n", "MSG _INBOX.unique.7 1 0\r\n\r\n", "MSG _INBOX.unique.x 1 0\r\n\r\n", "PONG\r\n"] do
      say(socket, line)
    end

    say(socket, "PING\r\n")
    assert line(socket) == "PONG"
    assert up(conn) == 1
  end

  test "an answer with the token of a request that has ended meets nobody" do
    broker = FakeBroker.start()
    conn = connect(broker)
    {socket, _lines} = serve(broker)
    up(conn)
    assert Nats.request(conn, "a", [], "", 20) == {:error, :timeout}
    assert line(socket) == "PUB a _INBOX.unique.1 0"
    line(socket)
    Nats.request_async(conn, "a", [{"K", "v"}], "x", 10_000, :second)
    assert line(socket) == "HPUB a _INBOX.unique.2 18 19"

    say(
      socket,
      "MSG _INBOX.unique.1 1 3\r\nold\r\nMSG _INBOX.unique.2 1 3\r\nnew\r\nMSG _INBOX.unique.2 1 3\r\nbis\r\n"
    )

    assert_receive {:nats_reply, :second, {:ok, %{body: "new"}}}, 10_000
    say(socket, "PING\r\n")
    # Behind all of them.
    for _ <- 1..4, do: line(socket)
    refute_received {:nats_reply, _tag, _result}
  end

  test "many answers end with a status, or with the last that is wanted" do
    broker = FakeBroker.start()
    conn = connect(broker)
    {socket, _lines} = serve(broker)
    up(conn)
    Nats.request_many(conn, "a", [], "", 10_000, :many, 10)
    Nats.request_many(conn, "a", [], "", 10_000, :two, 2)
    answer = fn token, body -> "MSG _INBOX.unique.#{token} 1 #{byte_size(body)}\r\n#{body}\r\n" end
    say(socket, [answer.(1, "a"), answer.(2, "x"), answer.(1, "b"), answer.(2, "y"), answer.(2, "z")])
    say(socket, "HMSG _INBOX.unique.1 1 20 20\r\nNATS/1.0 204 EOB\r\n\r\n\r\n")
    for body <- ["a", "b", ""], do: assert_receive({:nats_reply, :many, {:ok, %{body: ^body}}}, 10_000)
    for body <- ["x", "y"], do: assert_receive({:nats_reply, :two, {:ok, %{body: ^body}}}, 10_000)
    assert {:ok, %{calls: 0}} = Nats.status(conn)
    refute_received {:nats_reply, _tag, _result}
  end

  test "the next host is tried when one does not answer as a broker, and the first again after a loss" do
    {one, two} = {FakeBroker.start(), FakeBroker.start()}
    urls = ["nats://127.0.0.1:#{one.port}", "nats://127.0.0.1:#{two.port}"]
    conn = connect(one, urls: urls, jitter: fn -> 0.0 end)
    {:ok, socket} = :gen_tcp.accept(one.listener, 10_000)
    say(socket, "HTTP/1.1 400 Bad Request\r\n\r\n")
    {socket, _lines} = serve(two)
    assert up(conn) == 1
    :gen_tcp.close(socket)
    serve(one)
    assert up(conn) == 2
  end

  test "a broker that says nothing behind its greeting is given up" do
    broker = FakeBroker.start()
    conn = connect(broker, ping_interval_ms: 50)
    socket = accept(broker)
    say(socket, "PONG\r\n")
    assert "SUB" <> _ = line(socket)
    # No PONG comes for any of its PINGs.
    assert hung_up?(socket)
    serve(broker)
    assert up(conn) == 1
  end

  test "a user's password goes to the broker and nowhere else" do
    broker = FakeBroker.start()
    conn = connect(broker, user: "u", password: "hush-hush")
    {:ok, socket} = :gen_tcp.accept(broker.listener, 10_000)
    say(socket, info())
    assert "CONNECT " <> options = line(socket)

    assert %{"user" => "u", "pass" => "hush-hush", "headers" => true, "no_responders" => true} =
             :jiffy.decode(options, [:return_maps])

    refute inspect(:sys.get_state(conn), limit: :infinity) =~ "hush-hush"
    refute inspect(:sys.get_status(conn), limit: :infinity) =~ "hush-hush"
    refute inspect(Nats.child_spec(name: :x, urls: [], password: "hush-hush"), limit: :infinity) =~ "hush-hush"
  end

  test "bytes before TLS are refused, and so is a broker without it" do
    broker = FakeBroker.start()
    connect(broker, tls: true)
    {:ok, socket} = :gen_tcp.accept(broker.listener, 10_000)
    say(socket, [info(), "PING\r\n"])
    assert hung_up?(socket)
    # A client hello, not a CONNECT.
    {:ok, socket} = :gen_tcp.accept(broker.listener, 10_000)
    say(socket, info())
    assert {:ok, <<22, 3, _minor, _rest::binary>>} = :gen_tcp.recv(socket, 0, 10_000)
    # Also if the broker asks for it and we did not.
    connect(broker)
    {:ok, _again} = :gen_tcp.accept(broker.listener, 10_000)
  end
end
