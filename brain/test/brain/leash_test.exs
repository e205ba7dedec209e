defmodule Brain.LeashTest do
  use ExUnit.Case, async: true

  alias Brain.Arguments

  @moduletag :tmp_dir

  # A VM of its own, with a pipe that has a name as its standard input.
  defp child(tmp) do
    code = """
    {:ok, _} = Brain.Leash.start_link(%{ended: fn -> IO.puts("ended"); System.stop(0) end})
    IO.puts("held")
    Process.sleep(:infinity)
    """

    script = Path.join(tmp, "leash.exs")
    File.write!(script, code)
    fifo = Path.join(tmp, "input")
    {_, 0} = System.cmd("mkfifo", [fifo])
    paths = Enum.flat_map(:code.get_path(), &["-pa", List.to_string(&1)])
    words = ["--erl", "-noinput"] ++ paths ++ [script]
    elixir = System.find_executable("elixir")
    run = ~s(fifo=$1; shift; exec "$@" <"$fifo")
    options = [:binary, :exit_status, args: ["-c", run, "sh", fifo, elixir | words]]
    {Port.open({:spawn_executable, "/bin/sh"}, options), File.open!(fifo, [:write, :raw])}
  end

  defp said(port, text \\ "") do
    receive do
      {^port, {:data, more}} -> said(port, text <> more)
      {^port, {:exit_status, status}} -> {text, status}
    after
      60_000 -> flunk("it does not end; it said #{text}")
    end
  end

  test "the end of standard input ends it, and nothing that comes before", %{tmp_dir: tmp} do
    {port, input} = child(tmp)
    assert_receive {^port, {:data, "held" <> _}}, 60_000
    :ok = :file.write(input, "words\nthat nobody reads\n")
    refute_received {^port, _}
    :ok = File.close(input)
    assert {said, 0} = said(port)
    assert said =~ "ended"
  end

  test "only who asks for it is held" do
    assert {:ok, %{leashed: false}} = Arguments.parse(['--config', 'f'])
    assert {:ok, %{leashed: true}} = Arguments.parse(['--config', 'f', '--until-stdin-ends'])
  end
end
