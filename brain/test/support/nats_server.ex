defmodule Brain.NatsServer do
  @moduledoc """
  Runs the pinned nats-server for a test: on a free port, with JetStream's files in a folder of its own, killed and
  started again on the same port and files. The twin of `spine/src/server.rs`.

  It is a process; where it ends, so does the server, also if the whole VM is killed.
  """

  use GenServer

  @pinned "2.15.1"
  @limit_ms 30_000

  # The server must not outlive us, and a closed standard input is all that a killed VM leaves behind.
  @script """
  exec 3<&0 2>/dev/null
  "$@" </dev/null 2>&1 3<&- &
  server=$!
  echo "pid $server"
  { cat; kill -9 $server; } <&3 >/dev/null 2>&1 &
  watch=$!
  wait $server
  status=$?
  kill $watch
  exit $status
  """

  @type option ::
          {:max_payload, pos_integer}
          | {:max_store, pos_integer}
          | {:users, [Brain.NatsUsers.user()]}
          | {:config, iodata}
          | {:sync_always, boolean}

  @doc "Starts it and waits until it is ready for clients."
  @spec start_link([option]) :: GenServer.on_start()
  def start_link(options), do: GenServer.start_link(__MODULE__, options, timeout: 2 * @limit_ms)

  @doc "`nats://127.0.0.1:port`."
  @spec url(pid) :: binary
  def url(server), do: "nats://127.0.0.1:#{port(server)}"

  @doc "Its port, the same for its whole life."
  @spec port(pid) :: :inet.port_number()
  def port(server), do: GenServer.call(server, :port)

  @doc "`kill -9`: nothing is flushed, no goodbye is sent. Returns when the process is gone."
  @spec kill(pid) :: :ok
  def kill(server), do: GenServer.call(server, :kill, @limit_ms)

  @doc "Starts it again on the same port and files."
  @spec restart(pid) :: :ok
  def restart(server), do: GenServer.call(server, :restart, 2 * @limit_ms)

  @doc "`kill -9`, after which nothing of what was stored is there any more."
  @spec lose_store(pid) :: :ok
  def lose_store(server), do: GenServer.call(server, :lose_store, @limit_ms)

  @doc "SIGSTOP: its connections stay open and nobody answers. Returns when all its threads stand still."
  @spec pause(pid) :: :ok
  def pause(server), do: GenServer.call(server, :pause, @limit_ms)

  @doc "SIGCONT."
  @spec resume(pid) :: :ok
  def resume(server), do: GenServer.call(server, :resume)

  @doc "Where `cargo xtask setup` puts the binary."
  @spec binary() :: Path.t()
  def binary, do: Path.expand("../../../.local/bin/nats-server", __DIR__)

  @impl true
  def init(options) do
    Process.flag(:trap_exit, true)
    check()
    folder = Path.join(System.tmp_dir!(), "arqon-nats-#{System.pid()}-#{System.unique_integer([:positive])}")
    File.mkdir_p!(folder)
    state = %{options: options, folder: folder, port: nil, process: nil, pid: nil}
    {:ok, start(state)}
  end

  @impl true
  def handle_call(:port, _from, state), do: {:reply, state.port, state}
  def handle_call(:kill, _from, state), do: {:reply, :ok, stop(state)}

  def handle_call(:lose_store, _from, state) do
    state = stop(state)
    File.rm_rf!(Path.join(state.folder, "data"))
    {:reply, :ok, state}
  end

  def handle_call(:restart, _from, state), do: {:reply, :ok, start(stop(state))}

  def handle_call(:pause, _from, state) do
    signal(state, "STOP")
    until(@limit_ms, fn -> Enum.all?(threads(state.pid), &(&1 == "T")) end)
    {:reply, :ok, state}
  end

  def handle_call(:resume, _from, state) do
    signal(state, "CONT")
    {:reply, :ok, state}
  end

  @impl true
  def handle_info({process, {:data, _line}}, %{process: process} = state), do: {:noreply, state}

  def handle_info({process, {:exit_status, status}}, %{process: process} = state) do
    {:stop, {:nats_server_ended, status}, %{state | process: nil}}
  end

  def handle_info(_other, state), do: {:noreply, state}

  @impl true
  def terminate(_reason, state) do
    stop(state)
    File.rm_rf(state.folder)
  end

  # The other arm's texts: what is missing is never skipped.
  defp check do
    unless File.regular?(binary()) do
      raise "there is no nats-server #{@pinned} at #{binary()}: run `cargo xtask setup`, which fetches it"
    end

    {version, 0} = System.cmd(binary(), ["-v"])

    unless String.ends_with?(String.trim(version), "v" <> @pinned) do
      raise "#{binary()} says it is #{inspect(version)}, not nats-server #{@pinned}: run `cargo xtask setup`"
    end
  end

  defp start(state) do
    config = Path.join(state.folder, "nats.conf")
    File.write!(config, config(state))
    flag = if state.port, do: Integer.to_string(state.port), else: "-1"
    server = [binary(), "-c", config, "-p", flag, "--ports_file_dir", state.folder]

    process =
      Port.open({:spawn_executable, "/bin/sh"}, [
        :binary,
        :exit_status,
        {:line, 4_096},
        args: ["-c", @script, "sh" | server]
      ])

    pid = ready(process, nil, [])
    %{state | process: process, pid: pid, port: state.port || ports(state.folder, pid)}
  end

  # Its log until it is ready: the last lines are the reason if it is not.
  defp ready(process, pid, log) do
    receive do
      {^process, {:data, {_end, "pid " <> digits}}} when pid == nil ->
        ready(process, String.to_integer(digits), log)

      {^process, {:data, {_end, line}}} ->
        if String.ends_with?(line, "Server is ready"), do: pid, else: ready(process, pid, [line | log])

      {^process, {:exit_status, status}} ->
        raise "nats-server did not start (#{status}); its log ends:\n" <> Enum.join(Enum.reverse(log), "\n")
    after
      @limit_ms -> raise "nats-server is not ready; its log ends:\n" <> Enum.join(Enum.reverse(log), "\n")
    end
  end

  # The file appears around the time of the ready line, not surely before it.
  defp ports(folder, pid) do
    file = Path.join(folder, "nats-server_#{pid}.ports")

    until(@limit_ms, fn ->
      with {:ok, text} <- File.read(file), [_all, port] <- Regex.run(~r/(?:nats|tls):\/\/[^"]*:(\d+)"/, text) do
        String.to_integer(port)
      else
        _ -> nil
      end
    end)
  end

  defp stop(%{process: nil} = state), do: state

  defp stop(%{process: process} = state) do
    signal(state, "KILL")

    receive do
      {^process, {:exit_status, _status}} -> :ok
    after
      @limit_ms -> raise "nats-server does not die"
    end

    %{state | process: nil, pid: nil}
  end

  defp signal(state, name), do: {_, 0} = System.cmd("kill", ["-#{name}", Integer.to_string(state.pid)])

  defp threads(pid) do
    for stat <- Path.wildcard("/proc/#{pid}/task/*/stat"), {:ok, text} <- [File.read(stat)] do
      # The name in brackets may hold anything; the state stands behind it.
      text |> String.split(") ") |> List.last() |> String.first()
    end
  end

  # Nothing tells of these changes: they can only be looked for.
  defp until(limit_ms, _look) when limit_ms <= 0, do: raise("waited in vain for nats-server")

  defp until(limit_ms, look) do
    look.() ||
      (
        Process.sleep(2)
        until(limit_ms - 2, look)
      )
  end

  defp config(state) do
    sync = if state.options[:sync_always], do: ", sync_interval: always", else: ""
    room = if max = state.options[:max_store], do: ", max_file_store: #{max}", else: ""
    users = state.options[:users] || []

    [
      "host: 127.0.0.1\njetstream { store_dir: \"#{Path.join(state.folder, "data")}\"#{sync}#{room} }\n",
      if(max = state.options[:max_payload], do: "max_payload: #{max}\n", else: ""),
      if(users == [], do: "", else: Brain.NatsUsers.accounts(users)),
      state.options[:config] || ""
    ]
  end
end
