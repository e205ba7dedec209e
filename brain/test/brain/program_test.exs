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
