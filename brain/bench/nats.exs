# What the NATS client costs, against a nats-server of its own:
#
#     elixir --erl "+sbwt none" -S mix run --no-start bench/nats.exs
#
# Everything shares the machine: broker, client, and the driver, which is in this VM but speaks bare bytes.

Enum.each([:crypto, :ssl, :jiffy, :logger], &Application.ensure_all_started/1)
Logger.configure(level: :warning)
for file <- ["nats_users.ex", "nats_server.ex"], do: Code.require_file("../test/support/#{file}", __DIR__)

defmodule Bench do
  alias Brain.{Nats, NatsServer, Spine}

  @body String.duplicate("x", 200)
  @rooms 100

  def run do
    {:ok, server} = NatsServer.start_link([])
    IO.puts("load average before: #{File.read!("/proc/loadavg")}")
    for name <- [:one, :two], do: start(server, name, queue_messages: 100_000, queue_bytes: 64 * 1_048_576)
    echo(10_000, 5_000)
    publish_only()
    echo_maximum(server)
    appends(server, 5_000)
    IO.puts("load average after: #{File.read!("/proc/loadavg")}")
  end

  defp start(server, name, options) do
    {:ok, _pid} = Nats.start_link([name: name, urls: [NatsServer.url(server)]] ++ options)
    {:ok, link} = Nats.watch(name)
    if link == :down, do: receive(do: ({:nats_link, ^name, {:up, _}} -> :ok))
  end

  # === Echo at a fixed rate: out on one connection, answered on the other

  defp echo(per_second, ms) do
    answerer = spawn_link(fn -> answer(:two, "bench.echo") end)
    ready(answerer)
    inbox = "bench.back"
    {:ok, back} = Nats.subscribe(:one, inbox, nil, max: 1_000_000)
    per_ms = div(per_second, 1_000)

    spawn_link(fn ->
      begin = System.monotonic_time(:millisecond)

      for tick <- 0..(ms - 1) do
        Process.sleep(max(begin + tick - System.monotonic_time(:millisecond), 0))
        for _ <- 1..per_ms, do: Nats.publish(:one, "bench.echo", inbox, <<now()::signed-64, @body::binary>>)
      end
    end)

    times =
      for _ <- 1..(per_ms * ms),
          do: receive(do: ({:nats, ^back, %{body: <<sent::signed-64, _::binary>>}} -> now() - sent))

    row("echo, 208 B, #{per_second} a second in ticks of 1 ms", times)
    Nats.unsubscribe(:one, back)
    Process.unlink(answerer)
    Process.exit(answerer, :kill)
  end

  defp answer(conn, subject) do
    {:ok, sub} = Nats.subscribe(conn, subject, nil, max: 1_000_000)
    receive(do: ({:ready, from} -> send(from, :ready)))
    answers(conn, sub)
  end

  defp answers(conn, sub) do
    receive do
      {:nats, ^sub, message} ->
        Nats.ack(sub)
        Nats.publish(conn, message.reply, nil, message.body)
        answers(conn, sub)
    end
  end

  defp ready(pid) do
    send(pid, {:ready, self()})
    receive(do: (:ready -> :ok))
  end

  # === Publish only: many processes, one connection

  defp publish_only do
    {n, processes} = {20_000, 50}
    {:ok, sub} = Nats.subscribe(:two, "bench.end", nil)

    took =
      timed(fn ->
        1..processes
        |> Enum.map(fn _ -> Task.async(fn -> publish_times(n) end) end)
        |> Task.await_many(:infinity)

        :ok = Nats.publish(:one, "bench.end", nil, "")
        receive(do: ({:nats, ^sub, _} -> :ok))
      end)

    rate("publish, 200 B, #{processes} processes", n * processes, took)
  end

  defp publish_times(0), do: :ok

  defp publish_times(n) do
    case Nats.publish(:one, "bench.nobody", nil, @body) do
      :ok -> publish_times(n - 1)
      {:error, :full} -> Process.sleep(1) && publish_times(n)
    end
  end

  # === Echo as fast as it goes; the driver is a bare socket

  defp echo_maximum(server) do
    # What the parser and a socket can do without processes, counters and subscriptions: one write a packet.
    bare =
      spawn_link(fn ->
        socket = socket(server, "SUB in.t.bench.r.* 1\r\nPING\r\n")
        receive(do: ({:ready, from} -> send(from, :ready)))
        bare(socket, Brain.Nats.Parser.new())
      end)

    ready(bare)
    driven(server, "echo, bare parser and socket")
    stop(bare)
    rooms = for i <- 1..@rooms, do: spawn_link(fn -> answer(:two, "in.t.bench.r.#{i}") end)
    Enum.each(rooms, &ready/1)
    driven(server, "echo through #{@rooms} room processes")
    Enum.each(rooms, &stop/1)
  end

  defp driven(server, name) do
    socket = socket(server, "SUB b 1\r\nPING\r\n")
    batch = IO.iodata_to_binary(for i <- 1..@rooms, do: "PUB in.t.bench.r.#{i} b 200\r\n#{@body}\r\n")
    back = byte_size("MSG b 1 200\r\n#{@body}\r\n")
    {batches, window} = {5_000, 100}
    took = timed(fn -> drive(socket, batch, back * @rooms, batches, window) end)
    rate("#{name}, 200 B: messages in and out", 2 * batches * @rooms, took)
    :gen_tcp.close(socket)
  end

  defp socket(server, hello) do
    options = [:binary, active: false, nodelay: true, buffer: 262_144]
    {:ok, socket} = :gen_tcp.connect({127, 0, 0, 1}, NatsServer.port(server), options)
    :ok = :gen_tcp.send(socket, ["CONNECT {\"verbose\":false}\r\n", hello])
    pong(socket, "")
    socket
  end

  defp bare(socket, parser) do
    {:ok, data} = :gen_tcp.recv(socket, 0)
    {:ok, frames, parser} = Brain.Nats.Parser.feed(parser, data)
    out = for {:msg, _sid, _subject, reply, 0, body} <- frames, do: Brain.Nats.Encoder.pub(reply, nil, body)
    :ok = :gen_tcp.send(socket, out)
    bare(socket, parser)
  end

  defp stop(pid) do
    Process.unlink(pid)
    Process.exit(pid, :kill)
  end

  defp pong(socket, seen) do
    {:ok, data} = :gen_tcp.recv(socket, 0, 10_000)
    unless String.ends_with?(seen <> data, "PONG\r\n"), do: pong(socket, seen <> data)
  end

  # Keeps `window` batches under way.
  defp drive(socket, batch, back, batches, window), do: drive(socket, batch, back, batches, window, 0, 0)

  defp drive(_socket, _batch, back, batches, _window, _sent, read) when read >= back * batches, do: :ok

  defp drive(socket, batch, back, batches, window, sent, read) do
    if sent < batches and sent - div(read, back) < window do
      :ok = :gen_tcp.send(socket, batch)
      drive(socket, batch, back, batches, window, sent + 1, read)
    else
      case :gen_tcp.recv(socket, 0, 10_000) do
        {:ok, data} -> drive(socket, batch, back, batches, window, sent, read + byte_size(data))
      end
    end
  end

  # === Durable appends

  defp appends(server, ms) do
    start(server, :writer, [])
    spine = Spine.new(:writer)
    :ok = Spine.ensure(spine, Spine.StreamSpec.log(0, 1, 1, 0))

    for rooms <- [1, 100] do
      stop = System.monotonic_time(:millisecond) + ms
      test = self()

      took =
        timed(fn ->
          1..rooms
          |> Enum.map(&Task.async(fn -> append_until(spine, "log.1.t.bench.r.n#{rooms}x#{&1}", 0, stop, []) end))
          |> Task.await_many(:infinity)
          |> then(&send(test, {:times, Enum.concat(&1)}))
        end)

      times = receive(do: ({:times, times} -> times))
      rate("durable appends, 200 B, #{rooms} subjects side by side", length(times), took)
      row("  of them, one append", times)
    end
  end

  defp append_until(spine, subject, last, stop, times) do
    if System.monotonic_time(:millisecond) >= stop do
      times
    else
      sent = now()
      Spine.append_async(spine, subject, last, @body, :append)
      {:stored, seq} = receive(do: ({:spine, :append, outcome} -> outcome))
      append_until(spine, subject, seq, stop, [now() - sent | times])
    end
  end

  # === Figures

  # Wall time, and what this VM's processors worked meanwhile: the second says what a message costs on a busy machine.
  defp timed(what) do
    {begin, {cpu, _}} = {now(), :erlang.statistics(:runtime)}
    what.()
    {end_cpu, _} = :erlang.statistics(:runtime)
    {now() - begin, (end_cpu - cpu) * 1_000}
  end

  defp now, do: System.monotonic_time(:microsecond)

  defp rate(name, n, {us, cpu_us}) do
    IO.puts("#{name}: #{round(n / us * 1.0e6)} a second, #{Float.round(cpu_us / n, 2)} us of processor time each")
  end

  defp row(name, times) do
    sorted = times |> Enum.sort() |> List.to_tuple()
    at = fn per_mille -> elem(sorted, div((tuple_size(sorted) - 1) * per_mille, 1_000)) / 1_000 end
    IO.puts("#{name}: p50 #{at.(500)} ms, p99 #{at.(990)} ms, p99.9 #{at.(999)} ms (#{tuple_size(sorted)})")
  end
end

Bench.run()
