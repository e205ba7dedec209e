defmodule Brain.NodeWorld do
  @moduledoc """
  Nodes on a broker with the users and permissions of production, and a stand-in for a Shield that speaks the inner
  protocol: it opens rooms and repeats the same bytes after silence or 503, as a Shield does.
  """

  import ExUnit.Assertions
  import ExUnit.Callbacks, only: [start_supervised!: 2]

  alias Brain.{Codec, Config, Context, Metrics, Nats, NatsServer, NatsUsers, Spine, Subject}
  alias Brain.Proto.{Internal, V1}

  # Far above what anything here takes, so that only a hang reaches it.
  @limit_ms 60_000
  # A Shield's own patience.
  @silence_ms 2000

  @defaults Path.expand(
              "../../../voltron-core/src/config/snapshots/voltron_core__config__tests__the_brains_terms.snap",
              __DIR__
            )

  @type brain :: %{bus: atom, name: binary, metrics: Metrics.t(), id: term}
  @type shield :: %{conn: atom, spine: Spine.t(), sub: Nats.Sub.t(), inbox: binary}

  @doc "A broker with users for these Brains, a Shield, the operator and who may do everything beside the Shields."
  @spec world([binary]) :: pid
  def world(brains) do
    users = for name <- brains, user <- [NatsUsers.writer(name, "w"), NatsUsers.speaker(name, "p")], do: user
    users = [NatsUsers.shield("shield-1", "s"), NatsUsers.operator("o"), NatsUsers.witness("x") | users]
    start_supervised!({NatsServer, [users: users]}, id: make_ref())
  end

  @doc "The default configuration with a broker's address, fast heartbeats, and these changes."
  @spec config(binary, [{atom, keyword}]) :: Config.t()
  def config(url, changes \\ []) do
    [_, _, text] = @defaults |> File.read!() |> String.split("---\n", parts: 3)
    {:ok, tokens, _} = text |> String.to_charlist() |> :erl_scan.string()
    {:ok, terms} = :erl_parse.parse_term(tokens)

    all = [nats: [urls: [url], publish_timeout_ms: 1000], brain: [heartbeat_ms: 20, down_after_ms: 400]] ++ changes

    {:ok, config} =
      Config.check(for {name, keys} <- terms, do: {name, Enum.reduce(Keyword.get_values(all, name), keys, &merge/2)})

    config
  end

  defp merge(changes, keys), do: Keyword.merge(keys, changes)

  @doc "A node, and the moment when it takes rooms."
  @spec brain(pid, binary, map) :: brain
  def brain(world, name, options \\ %{}) do
    bus = :"Elixir.Brain.Test#{System.unique_integer([:positive])}"
    {metrics, test} = {Metrics.new(), self()}

    options =
      Map.merge(
        %{
          bus: bus,
          node: name,
          config: config(NatsServer.url(world)),
          credentials: %{writer: {"writer-" <> name, "w"}, speaker: {"speaker-" <> name, "p"}},
          metrics: metrics,
          ready: fn -> send(test, {:ready, bus}) end,
          failed: fn why -> send(test, {:failed, bus, why}) end
        },
        options
      )

    start_supervised!(Supervisor.child_spec({Brain.Node, options}, id: bus, restart: :temporary), [])
    assert_receive {:ready, ^bus}, @limit_ms
    %{bus: bus, name: name, metrics: metrics, id: bus}
  end

  @doc "The process of a room at a node, if it is there."
  @spec room(brain, Brain.Id.room_key()) :: nil | pid
  def room(brain, key), do: GenServer.whereis(Context.via(brain.bus, {:room, key}))

  @doc "The stand-in: connected, with its inbox subscribed."
  @spec shield(pid) :: shield
  def shield(world), do: connected(world, NatsUsers.shield("shield-1", "s"), "_INBOX.s.shield-1")

  @doc "A connection that may do everything where the streams are."
  @spec operator(pid, binary) :: shield
  def operator(world, inbox), do: connected(world, NatsUsers.operator("o"), inbox)

  @doc "A connection that may do everything where Shields and speakers are."
  @spec witness(pid, binary) :: shield
  def witness(world, inbox), do: connected(world, NatsUsers.witness("x"), inbox)

  defp connected(world, user, inbox) do
    conn = :"shield_#{System.unique_integer([:positive])}"

    as = [user: user.name, password: user.password, inbox_prefix: inbox]
    options = [name: conn, urls: [NatsServer.url(world)], publish_timeout_ms: 5000, reconnect_max_ms: 50] ++ as
    start_supervised!({Nats, options}, id: conn)
    {:ok, sub} = eventually(fn -> Nats.subscribe(conn, inbox <> ".*", nil) end)
    %{conn: conn, spine: Spine.new(conn, api: user.api), sub: sub, inbox: inbox}
  end

  @doc "A new command's bytes, as the Shield hands them on."
  @spec command(Brain.Id.room_key(), binary, V1.Command.t(), integer) :: binary
  def command({_, room}, user, command, timestamp \\ System.system_time(:millisecond)) do
    Codec.encode(%V1.Envelope{
      room_id: room,
      timestamp: timestamp,
      message_id: :crypto.strong_rand_bytes(16),
      ack_requested: true,
      payload: {:cmd, command},
      sender: %V1.Sender{user: user, conn: "c1", rights: 127}
    })
  end

  @doc "A `say`."
  @spec say(Brain.Id.room_key(), binary, binary) :: binary
  def say(key, user, text), do: command(key, user, %V1.Command{op: {:say, %V1.Say{data: text, type: "text"}}})

  @doc "Sends a request without waiting; its slot."
  @spec send_to(shield, binary, binary) :: binary
  def send_to(shield, subject, body) do
    slot = "#{shield.inbox}.#{System.unique_integer([:positive])}"
    :ok = eventually(fn -> Nats.publish(shield.conn, subject, slot, body) end)
    slot
  end

  @doc "The answer in this slot, `nil` after silence or 503."
  @spec answer(shield, binary, non_neg_integer) :: nil | binary
  def answer(%{sub: sub}, slot, limit_ms \\ @silence_ms) do
    receive do
      {:nats, ^sub, %{subject: ^slot, status: status, body: body}} ->
        Nats.ack(sub)
        if status == nil, do: body
    after
      limit_ms -> nil
    end
  end

  @doc "Asks until somebody serves the room."
  @spec open(shield, Brain.Id.room_key(), boolean) :: Internal.Opened.t()
  def open(shield, {tenant, room}, create \\ true) do
    body = Codec.encode(%Internal.Open{room: room, create: create})

    eventually(fn ->
      with <<_::binary>> = answer <- answer(shield, send_to(shield, Subject.open(tenant), body)),
           {:ok, %{code: code} = opened} when code < 6000 <- Codec.decode(Internal.Opened, answer) do
        {:ok, opened}
      else
        other -> {:again, other}
      end
    end)
    |> elem(1)
  end

  @doc "As a Shield does it: again, the same bytes, after silence or 503, opening the room in between."
  @spec ask(shield, Brain.Id.room_key(), binary) :: V1.Ack.t()
  def ask(shield, key, body) do
    case answer(shield, send_to(shield, Subject.input(key), body)) do
      nil ->
        open(shield, key)
        ask(shield, key, body)

      answer ->
        {:ok, ack} = Codec.decode(V1.Ack, answer)
        ack
    end
  end

  @doc "The entries of a room's log."
  @spec log(shield, Brain.Id.room_key(), pos_integer) :: [Internal.LogEntry.t()]
  def log(shield, key, from \\ 1) do
    {:ok, batch} = eventually(fn -> Spine.read(shield.spine, Subject.log(key), from, 64, :leader) end)

    entries =
      for stored <- batch.entries do
        {:ok, entry} = Codec.decode(Internal.LogEntry, stored.body)
        entry
      end

    if batch.more, do: entries ++ log(shield, key, List.last(batch.entries).seq + 1), else: entries
  end

  @doc "The events of entries."
  @spec events([Internal.LogEntry.t()]) :: [V1.Event.t()]
  def events(entries) do
    for entry <- entries, bytes <- entry.envelopes do
      {:ok, %{payload: {:event, event}}} = Codec.decode(V1.Envelope, bytes)
      event
    end
  end

  @doc "Tries until it is `:ok` or `{:ok, …}`."
  @spec eventually((() -> term)) :: term
  def eventually(attempt, deadline \\ nil) do
    deadline = deadline || System.monotonic_time(:millisecond) + @limit_ms

    case attempt.() do
      :ok ->
        :ok

      {:ok, _} = done ->
        done

      other ->
        if System.monotonic_time(:millisecond) > deadline, do: flunk("still #{inspect(other)}")
        Process.sleep(5)
        eventually(attempt, deadline)
    end
  end
end
