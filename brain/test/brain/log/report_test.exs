defmodule Brain.Log.ReportTest do
  use ExUnit.Case, async: true

  alias Brain.Crashes
  alias Brain.Log.Report

  doctest Report

  # A VM of its own, whose one handler is ours, as in production.
  @script """
  metrics = Brain.Metrics.new()
  sink = Brain.Log.Sink.handle(Brain.Log.Sink, metrics)
  {:ok, _} = Brain.Log.Sink.start_link(sink)
  Brain.Log.Handler.install(%Brain.Log{node: "brain-1", level: :debug, format: :text, sink: sink})
  for {kind, _} <- Brain.Crashes.kinds() do
    require Logger
    Logger.info("crash \#{kind}")
    :ok = Brain.Crashes.crash(kind)
  end
  # A report that cannot be shown takes the handler away from nobody.
  :logger.error("broken ~p ~p", [1])
  :logger.log(:error, %{label: {:odd, :report}, report: [:not | :pairs]})
  :logger.error("the last line")
  :ok = GenServer.stop(Brain.Log.Sink)
  """

  test "no crash of any kind shows what a user wrote, and each is told" do
    paths = Enum.flat_map(:code.get_path(), &["-pa", List.to_string(&1)])
    elixir = System.find_executable("elixir")
    {said, status} = System.cmd(elixir, paths ++ ["-e", @script], stderr_to_stdout: true, env: [{"LANG", "C.UTF-8"}])

    assert status == 0, String.slice(said, -2000, 2000)
    text = Crashes.text()
    refute said =~ text
    refute said =~ inspect(String.to_charlist(text), charlists: :as_lists)
    refute said =~ Enum.join(:binary.bin_to_list(text), ",")
    refute said =~ Base.encode16(text)

    for {kind, expected} <- Crashes.kinds() do
      [_, after_it] = String.split(said, "crash #{kind}\n", parts: 2)
      # The VM's own reports come a little later.
      told = String.split(after_it, "\n")
      assert Enum.any?(told, &(&1 =~ expected)), "#{kind}: #{inspect(told)}"
    end

    assert said =~ "messages that waited: 5"
    assert said =~ "the last line"
  end
end
