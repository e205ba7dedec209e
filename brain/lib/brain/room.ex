defmodule Brain.Room do
  @moduledoc """
  One room's process: messages in, effects out. The core decides (`Brain.Room.Core`); this only carries.

  1. Nothing here waits for the Spine: calls come back as messages.
  2. What waits is bounded: a message is acknowledged to its subscription when the core has taken it, and beyond its bound
     the subscription drops and counts.
  3. A room that ends says so to the Mesh first. After that nobody asks it any more, and who had asked in the very moment
     is handed back.
  4. The trace of a step is written before anything of the step leaves the room.
  """

  use GenServer, restart: :temporary

  require Logger

  alias Brain.{Calls, Context, Log, Mesh, Metrics, Nats, Subject, Trace}
  alias Brain.Mesh.{Snapshots, Tails}
  alias Brain.Room.Core

  # The most messages that wait between a room's subscription and its core.
  @buffer 1024

  # So many of them are taken in one turn.
  @drained_max 256

  # What a room keeps outside of its heap, its ring and its window, is more than the collector takes for much by itself:
  # it would look at everything each time. So many words (1 MiB) are normal.
  @binary_words 131_072

  @type key :: {binary, binary}

  @doc "Starts the room's process; the Mesh is told of its end."
  @spec start_link({Context.t(), key, pid}) :: GenServer.on_start()
  def start_link({context, key, _mesh} = args) do
    # Up to a thousand messages wait here under load: kept off the heap, they cost no garbage collection.
    options = [name: Context.via(context, {:room, key}), spawn_opt: spawn_options()]
    GenServer.start_link(__MODULE__, args, options)
  end

  @doc false
  @spec spawn_options() :: keyword
  def spawn_options, do: [message_queue_data: :off_heap, min_bin_vheap_size: @binary_words]

  @doc "Asks it to serve, and to say so at `reply`."
  @spec open(pid, binary, boolean) :: :ok
  def open(room, reply, create), do: GenServer.cast(room, {:open, reply, create})

  @doc "Asks it to finish, answer and end."
  @spec stop(pid) :: :ok
  def stop(room), do: GenServer.cast(room, :stop)

  @impl true
  def init({context, {tenant, room} = key, mesh}) do
    me = %{node: context.node, incarnation: context.incarnation, session: Context.next_session(context)}
    {:ok, _link} = Nats.watch(context.writer)
    # So that a crash report, which shows nothing of the state, says which room it was.
    Logger.metadata(room: tenant <> "/" <> room)

    {:ok,
     %{
       context: context,
       key: key,
       name: tenant <> "/" <> room,
       hash: Subject.room_hash(tenant, room),
       mesh: mesh,
       core: Core.new(key, me, context.rules),
       subjects: Calls.subjects(key, context.config.nats),
       # The subscription to `in.…`, and whether the broker has confirmed it.
       sub: nil,
       listening: false,
       # Messages that the core has no room for. They are not acknowledged, so the subscription's bound is theirs.
       kept: :queue.new(),
       tasks: %{},
       ended: nil
     }}
  end

  @impl true
  def handle_cast({:open, reply, create}, state), do: state |> step({:open, reply, create}) |> next()
  def handle_cast(:stop, state), do: state |> finish() |> next()

  @impl true
  def handle_info({:nats, sub, message}, %{sub: sub} = state) do
    state |> delivered(message) |> taken(@drained_max) |> next()
  end

  # What is here already goes first, so that it goes out in the next entry.
  def handle_info({:nats_reply, {:append, token}, result}, state) do
    outcome = Calls.appended(state.context, state.subjects, result)
    if not match?({:stored, _}, outcome), do: Mesh.doubt(state.mesh)
    state |> taken(@drained_max) |> step({:appended, token, outcome}) |> next()
  end

  # A deadline that has passed is served there; one beyond the longest timer is waited for again.
  def handle_info(:timeout, state), do: next(state)

  def handle_info({:nats_lost, _, count}, state) do
    Metrics.add(state.context.metrics, :lost, count)
    next(state)
  end

  def handle_info({:nats_link, _, _}, state), do: state |> step(:reconnected) |> next()

  def handle_info({:nats_subscribed, {:subscribe, token}, result}, state) do
    case result do
      {:ok, sub} ->
        %{state | sub: sub, listening: true} |> step({:subscribed, token, true}) |> next()

      {:error, error} ->
        Logger.debug("subscribe failed", subject: state.subjects.input, error: error)
        %{state | sub: nil} |> step({:subscribed, token, false}) |> next()
    end
  end

  # Nothing more can be heard or said.
  def handle_info({:nats_ended, sub, _}, %{sub: sub} = state) do
    %{state | sub: nil, listening: false} |> step(:stop) |> next()
  end

  def handle_info({task, result}, %{tasks: tasks} = state) when is_map_key(tasks, task) do
    Process.demonitor(task, [:flush])
    state = %{state | tasks: Map.delete(tasks, task)}
    Snapshots.ended(state.context, state.key, result)
    # A read that failed.
    if match?({:read, _, _, nil}, result), do: Mesh.doubt(state.mesh)
    next(if result == :nothing, do: state, else: step(state, result))
  end

  # A late word of a call that was given up, or of a subscription that is gone.
  def handle_info(_, state), do: next(state)

  @doc false
  # What a crash report shows: where the room stood, and nothing that its users wrote.
  @spec format_status(map) :: map
  def format_status(status) do
    shown = fn
      :state, %{name: name, core: core} -> %{room: name, phase: tag(core.phase), committed: core.committed.tail}
      :message, message -> tag(message)
      :log, _ -> []
      _, value -> value
    end

    Map.new(status, fn {key, value} -> {key, shown.(key, value)} end)
  end

  defp tag(tuple) when is_tuple(tuple), do: elem(tuple, 0)
  defp tag(other), do: other

  # What was kept back goes first; then the room sleeps until a message, or until the core wants to be woken.
  defp next(state) do
    state = state |> woken() |> serve_kept()

    if state.ended do
      leave(state)
      {:stop, :normal, state}
    else
      case Core.wake_at(state.core) do
        nil -> {:noreply, state}
        at -> {:noreply, state, Context.timer_ms(at - Context.mono_ms(state.context))}
      end
    end
  end

  # A deadline that has passed comes before the next message: the process' own timeout would come after the last one, so
  # that whoever kept the mailbox filled could put off every retry.
  defp woken(state) do
    case Core.wake_at(state.core) do
      nil -> state
      at -> if at <= Context.mono_ms(state.context), do: step(state, :wake), else: state
    end
  end

  # === What comes in

  defp delivered(state, message) do
    if state.listening and :queue.is_empty(state.kept) and Core.has_room?(state.core),
      do: serve(state, message),
      else: %{state | kept: :queue.in(message, state.kept)}
  end

  # More that waits in the mailbox, without a turn of the process for each.
  defp taken(state, 0), do: state

  defp taken(%{sub: sub} = state, left) do
    receive do
      {:nats, ^sub, message} -> state |> delivered(message) |> taken(left - 1)
    after
      0 -> state
    end
  end

  defp serve_kept(state) do
    with true <- state.listening and Core.has_room?(state.core),
         {{:value, message}, kept} <- :queue.out(state.kept) do
      %{state | kept: kept} |> serve(message) |> serve_kept()
    else
      _ -> state
    end
  end

  defp serve(state, message) do
    state = step(state, {:message, message.reply, message.body})
    if state.sub, do: Nats.ack(state.sub)
    state
  end

  # What was delivered already is still served; then no more is taken.
  defp finish(state) do
    state = Enum.reduce(:queue.to_list(state.kept), %{state | kept: :queue.new()}, &serve(&2, &1))

    receive do
      {:nats, _, message} -> state |> serve(message) |> finish()
    after
      0 -> state |> unsubscribe() |> step(:stop)
    end
  end

  # === What goes out

  defp step(%{ended: nil} = state, input) do
    {core, effects} = Core.step(state.core, Context.now(state.context), input)
    state = tell(%{state | core: core}, effects)
    Enum.reduce(effects, state, &perform/2)
  end

  defp step(state, _input), do: state

  defp perform({:reply, to, body}, state), do: say(state, to, body)
  defp perform({:live, body}, state), do: say(state, state.subjects.output, body)
  defp perform({:note, _}, state), do: state

  defp perform({:append, token, expect, body}, state) do
    Calls.append(state.context, state.subjects, expect, body, {:append, token})
    state
  end

  defp perform({:subscribe, token}, state) do
    tag = {:subscribe, token}

    case Nats.subscribe_async(state.context.speaker, state.subjects.input, nil, [max: @buffer], tag) do
      {:ok, sub} ->
        %{state | sub: sub, listening: false}

      {:error, _} = error ->
        # As it would come from the connection.
        send(self(), {:nats_subscribed, tag, error})
        state
    end
  end

  defp perform({:step_down, why}, state) do
    Logger.info("room left", room: state.name, why: why)
    %{unsubscribe(state) | ended: why}
  end

  defp perform(call, state) do
    if elem(call, 0) == :write_snapshot, do: Snapshots.begun(state.context, state.key)
    %Task{ref: task} = Task.async(fn -> Calls.perform(state.context, state.subjects, call) end)
    %{state | tasks: Map.put(state.tasks, task, elem(call, 0))}
  end

  # A failure is counted: who asked will ask again.
  defp say(state, to, body) do
    case Nats.publish(state.context.speaker, to, nil, body) do
      :ok -> :ok
      {:error, _} -> Metrics.add(state.context.metrics, :publish_failed)
    end

    state
  end

  # === What is told: metrics, trace, log

  defp tell(state, effects) do
    notes = for {:note, note} <- effects, do: note
    Enum.each(notes, &count(&1, state))
    trace(state, notes)
    log(state, notes)
    state
  end

  defp trace(%{context: %{trace: nil}}, _), do: :ok

  defp trace(state, notes) do
    Trace.write(state.context.trace, for(note <- notes, record = Trace.record(note, state.name), do: record))
  end

  defp log(%{context: context} = state, notes) do
    if Log.on?(context.log, :info) do
      # The room's own events, such as a ttl that ended, are nobody's command.
      commands = for {:committed, _, _, id, _, _} = note when id != nil <- notes, do: note
      _ = Log.write(context.log, Log.applied(context.log, context.wall_ms.(), state.name, commands))
    end

    :ok
  end

  defp count(note, %{context: %{metrics: metrics}} = state) do
    case note do
      {:owned, epoch, term, pos} ->
        Metrics.add(metrics, :take_overs)
        Logger.info("room owned", room: state.name, epoch: epoch, term: term, pos: pos)

      {:committed, _, _, _, _, _} ->
        Metrics.add(metrics, :events)

      {:head, epoch, term, pos, _events} ->
        Metrics.add(metrics, :entries)
        Tails.moved(state.context.tails, state.hash, epoch, term, pos, Context.mono_ms(state.context))

      {:answered, _user, _id, code, duplicate} ->
        if code != 0, do: Metrics.add(metrics, :refused)
        if duplicate, do: Metrics.add(metrics, :dedupe_hits)

      {:fenced, _term} ->
        Metrics.add(metrics, :fenced)

      :unresolved ->
        Metrics.add(metrics, :unresolved)

      {:void, pos} ->
        Metrics.add(metrics, :void)
        Logger.warning("void entry skipped", room: state.name, pos: pos)

      {:refused, code} ->
        Metrics.add(metrics, :unreadable)
        Logger.debug("request refused unread", room: state.name, code: code)
    end
  end

  # === The end

  defp unsubscribe(%{sub: nil} = state), do: state

  defp unsubscribe(state) do
    _ = Nats.unsubscribe(state.context.speaker, state.sub)
    %{state | sub: nil, listening: false}
  end

  # The name is given back first, so that the Mesh can put a new process in its place at once.
  defp leave(state) do
    Registry.unregister(state.context.bus, {:room, state.key})
    GenServer.call(state.mesh, {:ended, state.key, state.ended}, :infinity)
    send(state.mesh, {:unanswered, state.key, unanswered()})
  end

  defp unanswered do
    receive do
      {:"$gen_cast", {:open, reply, create}} -> [{reply, create} | unanswered()]
    after
      0 -> []
    end
  end
end
