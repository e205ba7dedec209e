defmodule Brain.Application do
  @moduledoc """
  The Brain as a program. Build it with `MIX_ENV=prod mix release --overwrite` in `brain/`, then

      brain/_build/prod/rel/brain/bin/brain-node --config brain.terms [--node NAME] [--json] [--until-stdin-ends]

  runs one node; `brain.terms` is what `arq config render brain` writes. The launcher execs `erl`, so its process id is
  the VM's own: SIGTERM ends the node gracefully, SIGKILL kills it, and with `--until-stdin-ends` so does the end of
  standard input (`Brain.Leash`). Nothing else is read from there, nothing from the environment; no Erlang distribution is
  started, no `epmd`.

  It prints one line on standard output when it takes rooms (`--json`: `{"ready":true,"node":…,"metrics":…}`, as the Rust
  shell does); log lines go to standard error. `/metrics` and `/healthz` (the process lives) are on `[brain]
  metrics_port`. Exit codes: 0 good, 2 bad use or configuration, 3 the address cannot be bound or a service cannot be
  used, 1 anything else.

  Without the launcher's mark on the command line (tests, tools) the application starts no node.
  """

  use Application

  alias Brain.{Arguments, Config, Leash, Log, Metrics, Page}

  @bus Brain.Bus

  @impl true
  def start(_type, _args) do
    case :init.get_argument(:brain) do
      {:ok, _} -> serve(:init.get_plain_arguments())
      :error -> Supervisor.start_link([], strategy: :one_for_one)
    end
  end

  @impl true
  def prep_stop(state) do
    if Process.whereis(@bus), do: Brain.Node.drain(@bus)
    state
  end

  defp serve(arguments) do
    with {:ok, arguments} <- Arguments.parse(arguments),
         {:ok, config} <- Config.load(arguments.config),
         {:ok, writer} <- Config.credentials(config, :writer),
         {:ok, speaker} <- Config.credentials(config, :speaker) do
      log = %Log{
        node: arguments.node,
        level: config.log.level,
        format: config.log.format,
        sink: Log.Sink.handle(Log.Sink)
      }

      Log.Handler.install(log)
      metrics = Metrics.new()
      page = %{name: Page, host: config.http.host, port: config.brain.metrics_port, metrics: metrics}

      node = %{
        bus: @bus,
        node: arguments.node,
        config: config,
        credentials: %{writer: writer, speaker: speaker},
        metrics: metrics,
        log: log,
        ready: fn -> ready(arguments, config) end,
        failed: &__MODULE__.failed/1
      }

      # The page and the sink are worth a restart of their own; the node has its own bound.
      leash = if arguments.leashed, do: [{Leash, %{ended: &System.stop/0}}], else: []
      children = leash ++ [{Log.Sink, log.sink}, {Page, page}, {Brain.Node, node}]

      case Supervisor.start_link(children, strategy: :one_for_one, max_restarts: 3, max_seconds: 30) do
        {:ok, pid} -> {:ok, pid}
        {:error, reason} -> start_failed(reason)
      end
    else
      {:error, why} -> fail(2, why)
    end
  end

  defp ready(%{node: node, json: true}, _config) do
    # Names and addresses need no escapes.
    IO.puts(~s({"ready":true,"node":"#{node}","metrics":"#{Page.url(Page)}/metrics"}))
  end

  defp ready(%{node: node}, config) do
    IO.puts("brain #{node} takes rooms, on #{Enum.join(config.nats.urls, ", ")}\noperators: #{Page.url(Page)}/metrics")
  end

  @spec start_failed(term) :: no_return
  defp start_failed(reason) do
    case reason do
      {:shutdown, {:failed_to_start_child, _, {:bind, why}}} ->
        fail(3, why)

      {:shutdown, {:failed_to_start_child, _, {:shutdown, {:failed_to_start_child, _, {:trace_file, why}}}}} ->
        fail(2, why)

      other ->
        fail(1, inspect(other, limit: 20))
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
