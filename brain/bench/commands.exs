# Durable commands of one node on the pinned nats-server, over 100 rooms and in one, beside what the bare client echoes in
# the same run: `MIX_ENV=test mix run bench/commands.exs [SECONDS] [only: echo | rooms | room | log]`, or all of it by
# `cargo xtask bench commands`. Prints a table in Markdown.
#
# Node, driver and client share one VM, so the processor time that is printed is all of theirs (take
# `ERL_FLAGS="+sbwt none +sbwtdcpu none +sbwtdio none"`, or waiting counts, too); the broker is a process of its own. Each
# room has one driver with a window of commands in flight, of 16 users: the room remembers 256 commands of each. A command
# counts when its Ack with code 0 has arrived; any other code fails the run.

defmodule Commands do
  alias Brain.{Codec, Metrics, Nats, NatsServer, Subject}
  alias Brain.Proto.{Internal, V1}

  @warm_ms 1000
  @users 16

  def run(arguments) do
    {seconds, only} =
      case arguments do
        [] -> {5, nil}
        [seconds] -> {String.to_integer(seconds), nil}
        [seconds, only] -> {String.to_integer(seconds), only}
      end

    {:ok, server} = NatsServer.start_link([])
    node = serve(server, nil)
    wanted = fn name -> only in [nil, name] end

    IO.puts("#{machine()}, #{seconds} s a row\n")
    IO.puts("| what | a second | us of this VM's processors each | events an entry |\n| --- | ---: | ---: | ---: |")

    if wanted.("echo"), do: report("echo, 100 pairs, window 16", measure(seconds, echoes(server, 100, 16)))
    if wanted.("rooms"), do: report("100 rooms, window 32", measure(seconds, rooms(server, 100, 32)), node)
    if wanted.("room"), do: report("1 room, window 256", measure(seconds, rooms(server, 1, 256)), node)

    if wanted.("log") do
      :ok = Brain.Node.drain(Bench.Node)
      Supervisor.stop(Process.whereis(Bench.Node.Tree))
      node = serve(server, log())
      report("100 rooms, window 32, a log line each", measure(seconds, rooms(server, 100, 32)), node)
    end

    Logger.configure(level: :none)
    Process.unlink(server)
    GenServer.stop(server)
  end

  # Lines that go nowhere: what they cost is making them and handing them over.
  defp log do
    sink = Brain.Log.Sink.handle(Bench.Sink)
    {:ok, device} = File.open("/dev/null", [:write])
    {:ok, _} = Brain.Log.Sink.start_link(sink, device: device)
    %Brain.Log{node: "brain-1", level: :info, format: :json, sink: sink}
  end

  defp serve(server, log) do
    {metrics, bench} = {Metrics.new(), self()}

    options = %{
      bus: Bench.Node,
      node: "brain-1",
      config: Brain.NodeWorld.config(NatsServer.url(server)),
      credentials: %{writer: nil, speaker: nil},
      metrics: metrics,
      log: log,
      ready: fn -> send(bench, :ready) end
    }

    {:ok, tree} = Brain.Node.start_link(options)
    Process.register(tree, Bench.Node.Tree)

    receive do
      :ready -> metrics
    end
  end

  defp conn(server, inbox) do
    name = :"bench_#{System.unique_integer([:positive])}"
    {:ok, _} = Nats.start_link(name: name, urls: [NatsServer.url(server)], inbox_prefix: inbox)
    name
  end

  # === One driver a room

  defp rooms(server, count, window) do
    conn = conn(server, "_INBOX.s.bench")
    run = System.unique_integer([:positive])

    fn counter ->
      for n <- 1..count do
        spawn_link(fn ->
          Process.flag(:message_queue_data, :off_heap)
          key = {"acme", "room-#{run}-#{n}"}
          inbox = "_INBOX.s.bench.r#{run}x#{n}"
          {:ok, sub} = Nats.subscribe(conn, inbox <> ".*", nil, max: 100_000)
          :ok = open(conn, sub, inbox, key)
          {head, tails} = template(key)
          driver = %{conn: conn, sub: sub, to: Subject.input(key), reply: inbox <> ".1", head: head, tails: tails}
          for i <- 1..window, do: send_command(driver, i)
          drive(driver, window, counter)
        end)
      end
    end
  end

  defp open(conn, sub, inbox, {tenant, room} = key) do
    :ok =
      Nats.publish(conn, Subject.open(tenant), inbox <> ".0", Codec.encode(%Internal.Open{room: room, create: true}))

    receive do
      {:nats, ^sub, %{status: nil, body: body}} ->
        Nats.ack(sub)
        {:ok, %{code: code}} = Codec.decode(Internal.Opened, body)
        if code == 0, do: :ok, else: open(conn, sub, inbox, key)
    after
      2000 -> open(conn, sub, inbox, key)
    end
  end

  # A command without its timestamp and id, so that the driver only joins parts: `{before, behind each user}`.
  defp template({_, room}) do
    whole = fn user ->
      Codec.encode(%V1.Envelope{
        room_id: room,
        timestamp: 1,
        message_id: <<0::128>>,
        ack_requested: true,
        payload: {:cmd, %V1.Command{op: {:say, %V1.Say{data: :binary.copy("x", 100), type: "text"}}}},
        sender: %V1.Sender{user: user, conn: "c1", rights: 127}
      })
    end

    parts = for n <- 1..@users, do: :binary.split(whole.("user-#{n}"), <<0x20, 1, 0x2A, 16, 0::128>>)
    [[head, _] | _] = parts
    {head, parts |> Enum.map(&List.last/1) |> List.to_tuple()}
  end

  defp send_command(driver, n) do
    at = System.system_time(:millisecond)
    id = <<System.unique_integer()::64, n::64>>
    tail = elem(driver.tails, rem(n, @users))
    body = [driver.head, 0x20, varint(at), 0x2A, 16, id, tail]
    :ok = Nats.publish(driver.conn, driver.to, driver.reply, body)
  end

  defp varint(n) when n < 128, do: [n]
  defp varint(n), do: [Bitwise.bor(Bitwise.band(n, 127), 128) | varint(Bitwise.bsr(n, 7))]

  defp drive(%{sub: sub} = driver, n, counter) do
    receive do
      {:nats, ^sub, %{status: nil, body: body}} ->
        Nats.ack(sub)

        case Codec.decode(V1.Ack, body) do
          {:ok, %{code: 0, duplicate: false}} -> :counters.add(counter, 1, 1)
          {:ok, ack} -> raise "refused: #{inspect(ack)}"
        end

        send_command(driver, n + 1)
        drive(driver, n + 1, counter)

      {:nats, ^sub, message} ->
        raise "nobody listens: #{inspect(message)}"

      {:nats_lost, ^sub, count} ->
        raise "#{count} answers lost"
    end
  end

  # === The bare client

  defp echoes(server, count, window) do
    {asker, echo} = {conn(server, "_INBOX.a"), conn(server, "_INBOX.e")}
    body = :binary.copy("x", 200)

    fn counter ->
      for n <- 1..count do
        spawn_link(fn ->
          {:ok, sub} = Nats.subscribe(echo, "echo.#{n}", nil, max: 10_000)
          echo(echo, sub)
        end)

        spawn_link(fn ->
          {:ok, sub} = Nats.subscribe(asker, "back.#{n}", nil, max: 10_000)
          Process.sleep(500)
          ask = fn -> :ok = Nats.publish(asker, "echo.#{n}", "back.#{n}", body) end
          for _ <- 1..window, do: ask.()
          asked(sub, ask, counter)
        end)
      end
    end
  end

  defp echo(conn, sub) do
    receive do
      {:nats, ^sub, message} ->
        Nats.ack(sub)
        :ok = Nats.publish(conn, message.reply, nil, message.body)
        echo(conn, sub)
    end
  end

  defp asked(sub, ask, counter) do
    receive do
      {:nats, ^sub, _} ->
        Nats.ack(sub)
        :counters.add(counter, 1, 1)
        ask.()
        asked(sub, ask, counter)
    end
  end

  # === Measuring

  defp measure(seconds, start) do
    counter = :counters.new(1, [:write_concurrency])
    Process.flag(:trap_exit, true)
    drivers = start.(counter)
    watched(@warm_ms)
    {from, at} = {:counters.get(counter, 1), now()}
    {cpu_from, _} = :erlang.statistics(:runtime)
    watched(seconds * 1000)
    {done, took} = {:counters.get(counter, 1) - from, now() - at}
    {cpu, _} = :erlang.statistics(:runtime)
    for pid <- drivers, do: Process.exit(pid, :kill)
    Process.sleep(300)
    {done * 1_000_000 / took, (cpu - cpu_from) * 1000 / done}
  end

  defp watched(ms) do
    receive do
      {:EXIT, _, {error, stack}} -> reraise error, stack
    after
      ms -> :ok
    end
  end

  defp now, do: System.monotonic_time(:microsecond)

  defp report(what, {rate, cpu_us}, metrics \\ nil) do
    entries =
      if metrics,
        do: Float.round(Metrics.get(metrics, :events) / max(Metrics.get(metrics, :entries), 1), 1),
        else: "–"

    IO.puts("| #{what} | #{round(rate)} | #{Float.round(cpu_us, 1)} | #{entries} |")
  end

  defp machine do
    info = File.read!("/proc/cpuinfo")
    [_, model] = Regex.run(~r/^model name\s*: (.*)$/m, info) || [nil, "unknown processor"]
    load = File.read!("/proc/loadavg") |> String.split() |> hd()
    "#{System.schedulers_online()} × #{model}, load #{load} before"
  end
end

Logger.configure(level: :warning)
Commands.run(System.argv())
