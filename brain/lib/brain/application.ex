defmodule Brain.Application do
  @moduledoc """
  The Brain as a program. Build it with `MIX_ENV=prod mix release --overwrite` in `brain/`, then

      brain/_build/prod/rel/brain/bin/brain-node --config brain.terms [--node NAME] [--json] [--until-stdin-ends]

  runs one node; `brain.terms` is what `arq config render brain` writes. The launcher execs `erl`, so its process id is
  the VM's own: SIGTERM ends the node gracefully, SIGKILL kills it, and with `--until-stdin-ends` so does the end of
  standard input (`Brain.Leash`). Nothing else is read from there, nothing from the environment; no Erlang distribution is
  started, no `epmd`.

  It prints one line on standard output when it takes rooms (`--json`: `{"ready":true,"node":…,"metrics":…}`, as the Rust
  shell does); log lines go to standard error. `/metrics`, `/healthz` (the process lives) and `/readyz` (its streams are
  right, both connections are up and it takes rooms) are on `[brain] metrics_port`. `Brain.Root` shows the processes.

  Exit codes: 0 good, 2 bad use or configuration, 3 the address cannot be bound or a service cannot be used, 1 anything
  else. A node that gave up after three restarts in 30 s ends the VM with 1: a node that keeps its name in the heartbeats
  without serving is worse than one that is gone, for its rooms are taken over.

  Without the launcher's mark on the command line (tests, tools) the application starts no node.
  """

  use Application

  alias Brain.{Arguments, Config, Log, Metrics, Page, Root}

  @bus Brain.Bus

  @impl true
  def start(_type, _args) do
    case :init.get_argument(:brain) do
      {:ok, _} -> serve(:init.get_plain_arguments())
      :error -> Supervisor.start_link([], strategy: :one_for_one)
    end
  end

  # Called before the root is stopped, or after it has ended by itself.
  @impl true
  def prep_stop(root) do
    if Process.whereis(Root) in [nil, root] and not Process.alive?(root), do: fail(1, gave_up())
    if Process.whereis(@bus), do: Brain.Node.drain(@bus)
    root
  end

  defp gave_up do
    "the node gave up: its processes ended more often than it may restart them, see the error lines before this one; " <>
      "the VM ends, so that the rooms are taken over"
  end

  defp serve(arguments) do
    with {:ok, arguments} <- Arguments.parse(arguments),
         {:ok, config} <- Config.load(arguments.config),
         {:ok, writer} <- Config.credentials(config, :writer),
         {:ok, speaker} <- Config.credentials(config, :speaker) do
      metrics = Metrics.new()

      log = %Log{
        node: arguments.node,
        level: config.log.level,
        format: config.log.format,
        sink: Log.Sink.handle(Log.Sink, metrics)
      }

      Log.Handler.install(log)

      page = %{
        name: Page,
        host: config.http.host,
        port: config.brain.metrics_port,
        # A page that is started again takes the port that it had.
        bound: :atomics.new(1, []),
        metrics: metrics,
        ready: fn -> Brain.Node.ready(@bus) end
      }

      observers = %{
        children: [Log.Sink.child_spec(log.sink), Page.child_spec(page)],
        metrics: metrics,
        begun: :atomics.new(1, [])
      }

      with {:ok, root} <- Root.start_link(observers),
           url = Page.url(Page),
           :ok <- leash(arguments),
           node = %{
             bus: @bus,
             node: arguments.node,
             config: config,
             credentials: %{writer: writer, speaker: speaker},
             metrics: metrics,
             log: log,
             ready: fn -> ready(arguments, config, url) end,
             failed: &__MODULE__.failed/1
           },
           {:ok, _node} <- Root.start_node(node) do
        {:ok, root, root}
      else
        {:error, reason} -> start_failed(reason)
      end
    else
      {:error, why} -> fail(2, why)
    end
  end

  defp leash(%{leashed: false}), do: :ok
  defp leash(_), do: with({:ok, _} <- Root.start_leash(%{ended: &System.stop/0}), do: :ok)

  defp ready(%{node: node, json: true}, _config, url) do
    # Names and addresses need no escapes.
    say(~s({"ready":true,"node":"#{node}","metrics":"#{url}/metrics"}))
  end

  defp ready(%{node: node}, config, url) do
    say("brain #{node} takes rooms, on #{Enum.join(config.nats.urls, ", ")}\noperators: #{url}/metrics")
  end

  # A standard output that nobody reads any more is no reason to end.
  defp say(line) do
    IO.puts(line)
  catch
    _, _ -> :ok
  end

  @spec start_failed(term) :: no_return
  defp start_failed(reason) do
    case reason do
      {:shutdown, {:failed_to_start_child, _, {Page, {:bind, why}}}} -> fail(3, why)
      {:shutdown, {:failed_to_start_child, _, {:trace_file, why}}} -> fail(2, why)
      other -> fail(1, IO.iodata_to_binary(Log.Report.reason(other)))
    end
  end

  @doc false
  @spec failed(String.t()) :: no_return
  def failed(why), do: fail(3, why)

  # Ends the VM with a word to the operator: never with a crash dump, or a report that could hold a secret.
  @spec fail(1..3, String.t()) :: no_return
  defp fail(code, why) do
    IO.puts(:standard_error, "brain: #{why}")
    System.halt(code)
  end
end
