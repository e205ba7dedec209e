defmodule Brain.Node do
  @moduledoc """
  One node's processes.

      Brain.Node
      ├── Brain.Bus          Registry: rooms by key, and this node's other processes by what they are
      ├── Brain.Trace        only with [log] trace_file
      ├── writer             Brain.Nats: log, snapshots, generation; answers nobody
      ├── speaker            Brain.Nats: answers, live events, heartbeats; never writes the log
      ├── Brain.Mesh         heartbeats, placement
      └── Brain.RoomManager  DynamicSupervisor
          ├── Brain.Room "tenant_a/room_1"
          └── Brain.Room "tenant_a/room_2"

  Rest for one: who stands lower uses who stands above, and holds subscriptions, calls in flight or a share of ownership
  that ended with it. A room that lost its connection's process is not half served: it ends, and the next command opens
  it from the log. A lost link is no crash; the connection's process makes it again by itself.

  Three restarts in 30 s, then the node gives up, and nothing above it restarts it (`Brain.Root`): the VM ends. A process
  that dies at once again and again has a reason that a restart does not cure, and a node that keeps its name in the
  heartbeats without serving is worse than one that is gone, for its rooms are taken over.

  Every name is derived from the `bus`, an atom of the caller's choosing, so that several nodes can live in one VM.
  """

  use Supervisor

  alias Brain.{Bus, Config, Context, Mesh, Metrics, Nats, RoomManager, Spine, Trace}
  alias Brain.Mesh.{Snapshots, Tails}

  @type options :: %{
          required(:bus) => atom,
          required(:node) => binary,
          required(:config) => Config.t(),
          required(:credentials) => %{writer: nil | {binary, binary}, speaker: nil | {binary, binary}},
          optional(:metrics) => Metrics.t(),
          optional(:log) => nil | Brain.Log.t(),
          optional(:ready) => (() -> term),
          optional(:failed) => (String.t() -> term),
          optional(:wall_ms) => (() -> integer),
          optional(:random) => (() -> non_neg_integer)
        }

  @doc "Starts a node; it takes rooms a little later, see `ready`."
  @spec start_link(options) :: Supervisor.on_start()
  def start_link(options), do: Supervisor.start_link(__MODULE__, options)

  @doc "Whether the node of this bus can serve rooms now; else why not."
  @spec ready(atom) :: :ok | {:error, String.t()}
  def ready(bus) do
    Mesh.ready(Context.via(bus, :mesh))
  catch
    :exit, _ -> {:error, "starting: the node is not there yet, or is being restarted"}
  end

  @doc "Lets the node of this bus finish and answer what it has begun; it takes nothing more. At most 5 s."
  @spec drain(atom) :: :ok
  def drain(bus) do
    Mesh.drain(Context.via(bus, :mesh))
  catch
    # It is gone already, or hangs: the stop goes on.
    :exit, _ -> :ok
  end

  @impl true
  def init(options) do
    context = context(options)

    mesh = %{
      context: context,
      ready: Map.get(options, :ready, fn -> :ok end),
      failed: Map.get(options, :failed, &exit/1)
    }

    children =
      [{Bus, context.bus}] ++
        trace(context) ++
        [
          connection(context, :writer, options.credentials.writer),
          connection(context, :speaker, options.credentials.speaker),
          {Mesh, mesh},
          {RoomManager, {context, context.config.brain.rooms}}
        ]

    Supervisor.init(children, strategy: :rest_for_one, max_restarts: 3, max_seconds: 30)
  end

  defp context(%{bus: bus, config: config} = options) do
    random = Map.get(options, :random, &Context.u64/0)
    writer = Module.concat(bus, "Writer")

    %Context{
      node: options.node,
      bus: bus,
      config: config,
      writer: writer,
      speaker: Module.concat(bus, "Speaker"),
      spine: Spine.new(writer, logs: config.nats.logs, timeout_ms: config.nats.publish_timeout_ms),
      incarnation: random.(),
      rules: rules(config.brain),
      metrics: Map.get_lazy(options, :metrics, &Metrics.new/0),
      tails: Tails.new(),
      snapshots: Snapshots.new(),
      sessions: :counters.new(1, []),
      started: System.monotonic_time(:millisecond),
      wall_ms: Map.get(options, :wall_ms, fn -> System.system_time(:millisecond) end),
      random: random,
      log: Map.get(options, :log),
      trace: if(config.log.trace_file, do: Context.via(bus, :trace))
    }
  end

  # The names of the model's `Rules`; what the file does not set is the model's.
  defp rules(brain) do
    %{
      idle_ms: brain.room_idle_s * 1000,
      snapshot_entries: brain.snapshot_events,
      snapshot_bytes: 64 * 1024,
      trim_age_ms: brain.snapshot_s * 1000,
      dedupe: brain.dedupe
    }
  end

  defp trace(%{trace: nil}), do: []

  defp trace(context) do
    [{Trace, %{name: context.trace, path: context.config.log.trace_file, host: context.node}}]
  end

  defp connection(context, role, credentials) do
    options = [{:name, Map.fetch!(context, role)} | nats_options(context.config, context.node, role, credentials)]
    Supervisor.child_spec({Nats, options}, id: role)
  end

  @doc """
  What `[nats]` says for one of the node's two connections. The one place that reads it, as `SpineOptions::configured` is
  on the Rust side.
  """
  @spec nats_options(Config.t(), binary, :writer | :speaker, nil | {binary, binary}) :: keyword
  def nats_options(config, node, role, credentials) do
    {user, password} = credentials || {nil, nil}

    [
      label: "#{node}/#{role}",
      urls: ordered(config.nats.urls, node),
      tls: config.nats.tls,
      user: user,
      password: password,
      inbox_prefix: inbox(role) <> node,
      ping_interval_ms: config.nats.ping_interval_ms,
      publish_timeout_ms: config.nats.publish_timeout_ms
    ]
  end

  @doc """
  The servers from the one that the node's name draws, then in the file's order: each process has its own first choice, so
  that a cluster's first server does not carry everything. The Rust side draws the same.
  """
  @spec ordered([binary, ...], binary) :: [binary, ...]
  def ordered(urls, node) do
    {before, first} = Enum.split(urls, rem(fnv1a(node), length(urls)))
    first ++ before
  end

  # FNV-1a, 64 bits.
  defp fnv1a(bytes) do
    for <<byte <- bytes>>, reduce: 0xCBF2_9CE4_8422_2325 do
      hash -> rem(Bitwise.bxor(hash, byte) * 0x0100_0000_01B3, 0x1_0000_0000_0000_0000)
    end
  end

  defp inbox(:writer), do: "_INBOX.w."
  defp inbox(:speaker), do: "_INBOX.b."
end
