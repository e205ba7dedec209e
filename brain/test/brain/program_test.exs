defmodule Brain.ProgramTest do
  # The program as a process of its own, on this build's code: what it prints, serves and ends with. The release's launcher
  # is started by the tests on real processes of the workspace.
  use ExUnit.Case, async: true

  import Brain.NodeWorld

  alias Brain.NatsServer

  @moduletag :capture_log
  @limit_ms 60_000
  @key {"acme", "lobby"}

  # Elixir's and our code, as a release has them, then the application with the launcher's mark.
  defp start(arguments) do
    paths = for path <- :code.get_path(), path = to_string(path), path =~ ~r"/(elixir|logger|brain)/ebin$", do: path
    eval = "{ok, _} = application:ensure_all_started(brain, permanent)."

    Port.open({:spawn_executable, System.find_executable("erl")}, [
      :binary,
      :exit_status,
      :stderr_to_stdout,
      {:line, 10_000},
      args: ["-noinput", "-pa"] ++ paths ++ ["-eval", eval, "-brain", "node", "-extra"] ++ arguments
    ])
  end

  # As `start/1`, with `Brain.Tree` behind its standard input.
  defp start_with_tree(arguments) do
    paths = for path <- :code.get_path(), path = to_string(path), path =~ ~r"/(elixir|logger|brain)/ebin$", do: path
    eval = "{ok, _} = application:ensure_all_started(brain, permanent), 'Elixir.Brain.Tree':serve()."

    Port.open({:spawn_executable, System.find_executable("erl")}, [
      :binary,
      :exit_status,
      :stderr_to_stdout,
      {:line, 100_000},
      args: ["-noshell", "-pa"] ++ paths ++ ["-eval", eval, "-brain", "node", "-extra"] ++ arguments
    ])
  end

  # The paths of the program's processes.
  defp walk(port) do
    Port.command(port, "walk\n")
    ["tree", "walked" | paths] = port |> line(~r/^tree walked/) |> String.split()
    paths
  end

  defp kill(port, paths, path) do
    Port.command(port, "kill #{Enum.find_index(paths, &(&1 == path))}\n")
  end

  defp get(url) do
    case :httpc.request(:get, {String.to_charlist(url), []}, [], body_format: :binary) do
      {:ok, {{_, status, _}, _, body}} -> {status, body}
      {:error, _} -> :none
    end
  end

  defp line(port, matching) do
    receive do
      {^port, {:data, {:eol, line}}} -> if line =~ matching, do: line, else: line(port, matching)
      {^port, {:exit_status, status}} -> flunk("it ended with #{status} before it said #{inspect(matching)}")
    after
      @limit_ms -> flunk("it does not say #{inspect(matching)}")
    end
  end

  defp ended(port, said \\ []) do
    receive do
      {^port, {:data, {_, line}}} -> ended(port, [line | said])
      {^port, {:exit_status, status}} -> {status, said |> Enum.reverse() |> Enum.join("\n")}
    after
      @limit_ms -> flunk("it does not end; it said #{Enum.join(Enum.reverse(said), "\n")}")
    end
  end

  # A folder with terms and password files for `brain-1`.
  defp terms(url, changes) do
    folder = Path.join(System.tmp_dir!(), "brain-program-#{System.unique_integer([:positive])}")
    File.mkdir_p!(folder)
    on_exit(fn -> File.rm_rf(folder) end)
    for {name, password} <- [{"w", "w\n"}, {"p", " p "}], do: File.write!(Path.join(folder, name), password)

    brain = [
      metrics_port: 0,
      writer_user: "writer-brain-1",
      writer_password_file: Path.join(folder, "w"),
      speaker_user: "speaker-brain-1",
      speaker_password_file: Path.join(folder, "p")
    ]

    sections = for {name, keys} <- config(url, [{:brain, brain} | changes]), do: {name, Enum.map(keys, &unset/1)}
    path = Path.join(folder, "brain.terms")
    File.write!(path, :io_lib.format("~p.~n", [sections]))
    path
  end

  defp unset({key, nil}), do: {key, :undefined}
  defp unset(pair), do: pair

  test "it says when it takes rooms, serves, logs, tells its metrics, and ends at SIGTERM" do
    world = world(["brain-1"])
    port = start(["--config", terms(NatsServer.url(world), log: [format: :json]), "--node", "brain-1", "--json"])
    ready = :jiffy.decode(line(port, ~r/^{"ready"/), [:return_maps])
    assert %{"ready" => true, "node" => "brain-1", "metrics" => "http://127.0.0.1:" <> _ = metrics} = ready

    shield = shield(world)
    assert %{code: 0, seq: 1} = ask(shield, @key, say(@key, "ann", "hello"))
    applied = :jiffy.decode(line(port, ~r/"command applied"/), [:return_maps])
    assert %{"room" => "acme/lobby", "user" => "ann", "op" => "say", "seq" => 1, "node" => "brain-1"} = applied
    {:ok, {{_, 200, _}, _, body}} = :httpc.request(:get, {metrics, []}, [], body_format: :binary)
    assert body =~ "\nbrain_room_count 1\n" and body =~ "\nbrain_events_total 1\n"

    {:os_pid, pid} = Port.info(port, :os_pid)
    {_, 0} = System.cmd("kill", ["-TERM", "#{pid}"])
    assert {0, said} = ended(port)
    assert said =~ "room left"
    assert log(shield, @key) |> events() |> length() == 1
  end

  test "whichever of its processes is killed: rooms outlive the observers, and a node never stays away unseen" do
    world = world(["brain-1"])
    shield = shield(world)
    arguments = ["--config", terms(NatsServer.url(world), log: [level: :info]), "--node", "brain-1", "--json"]
    ready = fn port -> :jiffy.decode(line(port, ~r/^{"ready"/), [:return_maps])["metrics"] end

    port = start_with_tree(arguments)
    metrics = ready.(port)
    page = String.replace_suffix(metrics, "/metrics", "")
    assert %{code: 0} = ask(shield, @key, say(@key, "ann", "1"))
    assert {200, "ready\n"} = get(page <> "/readyz")
    paths = walk(port)
    # The page's many acceptors are all alike.
    observers = for "Brain.Observers" <> _ = path <- paths, not (path =~ ~r"/([2-9]|\d\d)$"), do: path
    assert observers == Enum.map(["", "/Brain.Log.Sink", "/Brain.Page", "/Brain.Page/1"], &("Brain.Observers" <> &1))

    # More often than a supervisor's budget of restarts.
    for round <- 1..2, path <- observers do
      now = eventually(fn -> with paths = walk(port), true <- path in paths, do: {:ok, paths} end) |> elem(1)
      kill(port, now, path)
      assert line(port, ~r/^tree killed/), "#{path} in round #{round}"
    end

    # At the same address; and the rooms were never away.
    eventually(fn -> match?({200, _}, get(metrics)) && :ok end)
    {200, body} = get(metrics)
    assert body =~ "\nbrain_take_overs_total 1\n"
    assert [_, restarts] = Regex.run(~r/\nbrain_observer_restarts_total (\d+)\n/, body)
    assert String.to_integer(restarts) > 0
    assert %{code: 0, seq: 2} = ask(shield, @key, say(@key, "ann", "2"))
    assert {200, "ready\n"} = get(page <> "/readyz")

    # The node itself: nothing restarts it, and the VM says so and ends.
    kill(port, walk(port), "Brain.Node")
    assert {1, said} = ended(port)
    assert said =~ "brain: the node gave up"
  end

  test "a node whose processes end again and again gives up, and the VM with it, and it says why" do
    world = world(["brain-1"])
    config = terms(NatsServer.url(world), log: [level: :info])
    paths = port_paths(config)

    # A process of a node is a direct child of it; those below end with their parents.
    direct =
      for path <- paths,
          ["Brain.Node", _] <- [String.split(path, "/", parts: 2)],
          path =~ ~r"^Brain.Node/[^/]*$",
          do: path

    assert length(direct) >= 5

    for path <- Enum.take_random(direct, 2) do
      port = start_with_tree(["--config", config, "--node", "brain-1", "--json"])
      line(port, ~r/^{"ready"/)
      Port.command(port, "hunt #{path}\n")
      assert {1, said} = ended(port)
      assert length(Regex.scan(~r/^tree hunted/m, said)) == 4, "three restarts, then none"
      assert said =~ "brain: the node gave up"
      assert said =~ ~r/supervisor Brain\.Node: child \S+: :shutdown: :reached_max_restart_intensity/
    end
  end

  defp port_paths(config) do
    port = start_with_tree(["--config", config, "--node", "brain-1", "--json"])
    line(port, ~r/^{"ready"/)
    paths = walk(port)
    {:os_pid, pid} = Port.info(port, :os_pid)
    {_, 0} = System.cmd("kill", ["-TERM", "#{pid}"])
    assert {0, _} = ended(port)
    paths
  end

  test "bad use and configuration end it with 2 and a sentence, what it cannot have with 3" do
    nowhere = "nats://127.0.0.1:1"
    assert {2, "brain: --config is missing" <> _} = ended(start([]))
    assert {2, "brain: unknown argument x" <> _} = ended(start(["x"]))
    assert {2, "brain: unknown or incomplete option --jsom" <> _} = ended(start(["--jsom"]))
    assert {2, "brain: --node: a node id must be" <> _} = ended(start(["--config", "x", "--node", "a.b"]))
    assert {2, "brain: /nowhere: no such file" <> _} = ended(start(["--config", "/nowhere"]))
    missing = terms(nowhere, brain: [writer_password_file: "/nowhere"])
    assert {2, "brain: /nowhere: no such file or directory"} = ended(start(["--config", missing]))
    assert {2, said} = ended(start(["--config", terms(nowhere, log: [trace_file: "/nowhere/trace"])]))
    assert said =~ "brain: [log] trace_file /nowhere/trace: no such file or directory"

    {:ok, taken} = :gen_tcp.listen(0, ip: {127, 0, 0, 1})
    {:ok, bound} = :inet.port(taken)
    assert {3, said} = ended(start(["--config", terms(nowhere, brain: [metrics_port: bound])]))
    assert said =~ "brain: [brain] metrics_port 127.0.0.1:#{bound}: address already in use"
  end
end
