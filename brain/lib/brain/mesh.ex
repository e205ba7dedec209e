defmodule Brain.Mesh do
  @moduledoc """
  One node among the others, over the Spine alone: heartbeats out and in, who opens which room, and the rooms' beginning
  and end.

  1. A node takes nothing before it has heard two of its own heartbeats: so it knows who else lives, and that it is heard.
  2. An open goes to the writer of the room's last entry while that lives, else to the first by rendezvous; who is silent
     for 500 ms is passed over (`Brain.Mesh.Place`).
  3. A room that was lost to another owner is not taken again for 5 to 10 s.
  4. A Spine that is away, at the start or later, is waited for; a lost link is no crash. The streams are verified at the
     start, after each reconnect and every 10 s, and made again if they are gone (`Brain.Mesh.Streams`).
  5. At a stop it takes nothing more, says so in a heartbeat, and lets every room finish and answer, at most 5 s.
  """

  use GenServer

  require Logger

  alias Brain.{Codec, Context, Id, Metrics, Nats, Spine, Subject}
  alias Brain.Mesh.{Opened, Peers, Place, Rooms, Snapshots, Streams, Tails}
  alias Brain.Proto.Internal.{Heartbeat, Open}

  # How long another node may be silent about a forwarded open before the next one is asked.
  @forward_limit_ms 500
  # The most opens being placed at once; beyond, a Shield's open goes unanswered and it asks again.
  @placing_max 4096
  # The most bytes of an open: four ids and some numbers, and room for what a later version adds.
  @open_bytes_max 4096
  # The longest that rooms may take to finish at a stop.
  @stop_limit_ms 5000
  # Messages that wait between a subscription and this process.
  @buffer 4096
  # Own heartbeats that must have come back before this node takes rooms.
  @rounds 2
  # Between two attempts to subscribe: doubles.
  @pause_min_ms 50
  @pause_max_ms 1000

  @type options :: %{context: Context.t(), ready: (() -> term), failed: (String.t() -> term)}

  @doc """
  Starts it. `ready` is called once, at the moment from which the node takes rooms; `failed` with a sentence if it never
  will, because a stream exists with another specification.
  """
  @spec start_link(options) :: GenServer.on_start()
  def start_link(%{context: context} = options) do
    GenServer.start_link(__MODULE__, options, name: Context.via(context, :mesh))
  end

  @doc "Takes nothing more, lets every room finish and answer, and says that this node is going."
  @spec drain(GenServer.server()) :: :ok
  def drain(mesh), do: GenServer.call(mesh, :drain, @stop_limit_ms * 2)

  @doc "Whether this node can serve rooms now; else why not."
  @spec ready(GenServer.server()) :: :ok | {:error, binary}
  def ready(mesh), do: GenServer.call(mesh, :ready)

  @doc "A room's call failed: perhaps a stream is gone."
  @spec doubt(pid) :: :ok
  def doubt(mesh) do
    send(mesh, :doubt_streams)
    :ok
  end

  @impl true
  def init(%{context: context} = options) do
    brain = context.config.brain

    state = %{
      context: context,
      ready: options.ready,
      failed: options.failed,
      peers: Peers.new(brain.down_after_ms),
      heartbeat: brain.heartbeat_ms,
      streams: nil,
      subs: %{},
      # Heartbeats go out.
      ticking: false,
      # Opens are taken.
      opened: false,
      rooms: Rooms.new(context),
      # tag => an open that is being placed
      placing: %{},
      tag: 0,
      beat: 0,
      # The room whose tail the last heartbeat told last, if it could not tell all.
      told: nil,
      # Own heartbeats that came back.
      rounds: 0,
      draining: nil
    }

    {:ok, state, {:continue, :prepare}}
  end

  @impl true
  def handle_continue(:prepare, state), do: {:noreply, told(%{state | streams: Streams.begin(state.context)})}

  @impl true
  def handle_info({ref, result}, %{streams: %{task: %Task{ref: ref}}} = state) do
    Process.demonitor(ref, [:flush])
    {outcome, streams} = Streams.ended(state.streams, result)
    state = %{state | streams: streams}

    case outcome do
      :ok -> {:noreply, told(state)}
      :first -> {:noreply, state |> subscribe(:beats) |> subscribe(:direct)}
      {:failed, why} -> {:noreply, tap(state, fn _ -> state.failed.(why) end)}
    end
  end

  def handle_info({:check_streams, timer}, state), do: {:noreply, %{state | streams: Streams.due(state.streams, timer)}}
  def handle_info(:doubt_streams, state), do: {:noreply, %{state | streams: Streams.doubted(state.streams)}}

  def handle_info({:nats_link, conn, link}, %{streams: %Streams{}} = state) do
    {:noreply, told(%{state | streams: Streams.linked(state.streams, conn, link)})}
  end

  def handle_info({:nats_subscribed, {what, pause}, result}, state) do
    case result do
      {:ok, sub} ->
        {:noreply, subscribed(%{state | subs: Map.put(state.subs, what, sub)}, what)}

      {:error, error} ->
        Logger.warning("not subscribed; trying again", subject: subject(state, what), error: error)
        Process.send_after(self(), {:subscribe, what, min(pause * 2, @pause_max_ms)}, pause)
        {:noreply, state}
    end
  end

  # The broker took it away, a permission that was changed perhaps.
  def handle_info({:nats_ended, sub, _}, state) do
    ended = for {what, ^sub} <- state.subs, do: what
    for what <- ended, do: send(self(), {:subscribe, what, @pause_min_ms})
    {:noreply, %{state | subs: Map.drop(state.subs, ended)}}
  end

  def handle_info({:subscribe, what, pause}, state), do: {:noreply, subscribe(state, what, pause)}

  def handle_info(:tick, %{draining: nil} = state) do
    Process.send_after(self(), :tick, state.heartbeat)
    {:noreply, say_alive(state, false)}
  end

  def handle_info({:nats, sub, message}, state) do
    state = delivered(state, message)
    Nats.ack(sub)
    {:noreply, state}
  end

  def handle_info({:nats_lost, _, count}, state) do
    Metrics.add(state.context.metrics, :lost, count)
    {:noreply, state}
  end

  def handle_info({:spine, {:last, tag}, result}, state) do
    {place, state} = pop_in(state.placing[tag])
    {:noreply, if(place, do: found(state, place, result), else: state)}
  end

  def handle_info({:nats_reply, {:forward, tag}, result}, state) do
    {place, state} = pop_in(state.placing[tag])
    {:noreply, if(place, do: answered(state, place, result), else: state)}
  end

  def handle_info({:unanswered, key, opens}, state) do
    {:noreply, Enum.reduce(opens, state, fn {reply, create}, state -> open_here(state, key, reply, create) end)}
  end

  def handle_info({:DOWN, monitor, :process, _, _}, state) do
    {:noreply, drained(%{state | rooms: Rooms.down(state.rooms, monitor)})}
  end

  def handle_info(:stop_limit, %{draining: from} = state) when from != nil and from != :done do
    Logger.warning("some rooms did not finish in time; their commands stay unanswered")
    GenServer.reply(from, :ok)
    {:noreply, %{state | draining: :done}}
  end

  def handle_info(_, state), do: {:noreply, state}

  @doc false
  # What a report shows.
  @spec format_status(map) :: map
  def format_status(status) do
    shown = fn
      :state, %{rooms: rooms, rounds: rounds} -> %{rooms: map_size(rooms.here), rounds: rounds}
      :message, message when is_tuple(message) -> elem(message, 0)
      :log, _ -> []
      _, value -> value
    end

    Map.new(status, fn {key, value} -> {key, shown.(key, value)} end)
  end

  @impl true
  def handle_call(:ready, _from, state), do: {:reply, readiness(state), state}

  def handle_call({:ended, key, why}, {process, _}, state) do
    {:reply, :ok, drained(%{state | rooms: Rooms.ended(state.rooms, key, process, why)})}
  end

  def handle_call(:drain, from, %{draining: nil} = state) do
    if opens = state.subs[:opens], do: Nats.unsubscribe(state.context.speaker, opens)
    state = told(say_alive(%{state | draining: from, placing: %{}}, true))
    Rooms.stop(state.rooms)
    Process.send_after(self(), :stop_limit, @stop_limit_ms)
    {:noreply, drained(state)}
  end

  def handle_call(:drain, _from, state), do: {:reply, :ok, state}

  # === Subscriptions

  defp subscribe(state, what, pause \\ @pause_min_ms) do
    queue = if what == :opens, do: Subject.open_queue()
    tag = {what, pause}

    case Nats.subscribe_async(state.context.speaker, subject(state, what), queue, [max: @buffer], tag) do
      {:ok, _sub} -> :ok
      {:error, _} = error -> send(self(), {:nats_subscribed, tag, error})
    end

    state
  end

  defp subject(_state, :beats), do: Subject.all_heartbeats()
  defp subject(state, :direct), do: Subject.to_brain(state.context.node)
  defp subject(_state, :opens), do: Subject.all_opens()

  defp subscribed(%{ticking: false, subs: %{beats: _, direct: _}} = state, _) do
    send(self(), :tick)
    %{state | ticking: true}
  end

  defp subscribed(%{opened: false} = state, :opens) do
    Logger.info("taking rooms", node: state.context.node)
    state.ready.()
    told(%{state | opened: true})
  end

  defp subscribed(state, _), do: state

  # By subject, not by subscription: a message may be here before the word that its subscription stands.
  defp delivered(state, %{subject: "sys.n.hb.brain." <> node} = message), do: heard(state, node, message)
  defp delivered(%{draining: nil} = state, %{subject: "open.t." <> _} = message), do: asked(state, message)
  defp delivered(%{opened: true} = state, %{subject: "sys.n.brain." <> _} = message), do: forwarded(state, message)
  defp delivered(state, _), do: state

  # === Readiness

  defp readiness(%{draining: draining}) when draining != nil, do: {:error, "draining: this Brain is going away"}

  defp readiness(state) do
    with :ok <- Streams.ready(state.streams) do
      if state.opened, do: :ok, else: {:error, "starting: this Brain has not heard its own heartbeats yet"}
    end
  end

  # The page asks; the metric must know by itself.
  defp told(state) do
    Metrics.set(state.context.metrics, :ready, if(readiness(state) == :ok, do: 1, else: 0))
    state
  end

  # === Heartbeats

  defp say_alive(state, draining) do
    context = state.context
    now = Context.mono_ms(context)
    {tails, told} = Tails.settled(context.tails, state.heartbeat, now, state.told)

    beat = %Heartbeat{
      node: context.node,
      kind: Peers.kind_brain(),
      incarnation: context.incarnation,
      n: state.beat + 1,
      draining: draining,
      tails: tails
    }

    say(state, Subject.heartbeat_brain(context.node), Codec.encode(beat))
    Snapshots.shown(context)
    %{state | rooms: Rooms.tidy(state.rooms), beat: state.beat + 1, told: told}
  end

  # A Brain's own subject, where the broker lets nobody else speak: a Shield that calls itself a Brain elsewhere could
  # say that the Brains are going, or that there are many more of them.
  defp heard(state, node, message) do
    with {:ok, %{node: ^node} = beat} <- Codec.decode(Heartbeat, message.body),
         {true, peers} <- Peers.heard(state.peers, beat, Context.mono_ms(state.context)) do
      state = %{state | peers: peers}
      if beat.incarnation == state.context.incarnation, do: round_heard(state), else: state
    else
      _ -> state
    end
  end

  # Enough rounds: now opens may come.
  defp round_heard(%{rounds: rounds} = state) do
    state = %{state | rounds: rounds + 1}

    if state.rounds == @rounds and state.draining == nil, do: subscribe(state, :opens), else: state
  end

  # === Who should serve a room?

  # A Shield asks.
  defp asked(state, message) do
    with "open.t." <> tenant <- message.subject,
         true <- Id.valid?(:tenant, tenant),
         true <- is_binary(message.reply) and Subject.shield_inbox?(message.reply),
         {:ok, open} <- open(message.body),
         true <- Id.valid?(:room, open.room) do
      place(state, {tenant, open.room}, message.reply, open)
    else
      _ -> state
    end
  end

  # Thousands of them may wait, and a room's key stays for its life: neither may keep a large message alive.
  defp open(body) when byte_size(body) > @open_bytes_max, do: :too_big

  defp open(body) do
    with {:ok, open} <- Codec.decode(Open, body) do
      {:ok, %{open | room: :binary.copy(open.room)}}
    end
  end

  defp place(state, key, reply, open) do
    cond do
      Rooms.here?(state.rooms, key) ->
        open_here(state, key, reply, open.create)

      map_size(state.placing) >= @placing_max ->
        state

      true ->
        context = state.context
        living = Peers.living(state.peers, Context.mono_ms(context))
        here? = not Rooms.away?(state.rooms, key)
        living = Enum.filter(living, &(here? or &1.node != context.node))
        {tag, state} = placing(state, Place.begin(context.node, key, reply, open, living))
        Spine.last_async(context.spine, Subject.log(key), :leader, {:last, tag})
        state
    end
  end

  defp found(state, place, result) do
    case result do
      {:ok, nil} ->
        follow(state, Place.found(place, nil))

      {:ok, %{body: body}} ->
        follow(state, Place.found(place, body))

      {:error, error} ->
        Logger.debug("the room's last entry could not be read; the Shield asks again", error: Spine.explain(error))
        state
    end
  end

  defp answered(state, place, {:ok, %{status: nil, body: body}}), do: say(state, place.reply, body)
  defp answered(state, place, _), do: follow(state, Place.silent(place))

  defp follow(state, {:here, key, reply, create}), do: open_here(state, key, reply, create)
  defp follow(state, {:unavailable, reply}), do: unavailable(state, reply)

  defp follow(state, {:forward, node, body, place}) do
    {tag, state} = placing(state, place)
    speaker = state.context.speaker
    Nats.request_async(speaker, Subject.open_at(node), [], body, @forward_limit_ms, {:forward, tag})
    state
  end

  defp placing(state, place) do
    tag = state.tag + 1
    {tag, %{state | tag: tag, placing: Map.put(state.placing, tag, place)}}
  end

  # Another Brain found that this one should serve the room.
  defp forwarded(state, message) do
    with "_INBOX.b." <> _ <- message.reply,
         {:ok, open} <- open(message.body),
         true <- Id.valid?(:tenant, open.tenant) and Id.valid?(:room, open.room) do
      open_here(state, {open.tenant, open.room}, message.reply, open.create)
    else
      _ -> state
    end
  end

  # === Rooms here

  defp open_here(%{draining: draining} = state, _, _, _) when draining != nil, do: state

  defp open_here(state, key, reply, create) do
    {result, rooms} = Rooms.open(state.rooms, key, reply, create)
    state = %{state | rooms: rooms}
    if result == :ok, do: state, else: unavailable(state, reply)
  end

  # The last room has finished.
  defp drained(%{draining: {_, _} = from} = state) do
    if Rooms.empty?(state.rooms) do
      GenServer.reply(from, :ok)
      %{state | draining: :done}
    else
      state
    end
  end

  defp drained(state), do: state

  # === Saying

  defp unavailable(state, reply), do: say(state, reply, Opened.unavailable(state.context.node))

  defp say(state, to, body) do
    case Nats.publish(state.context.speaker, to, nil, body) do
      :ok -> :ok
      {:error, _} -> Metrics.add(state.context.metrics, :publish_failed)
    end

    state
  end
end
