defmodule Brain.Nats.Connection do
  @moduledoc """
  The process of one connection: dials, makes the subscriptions again, announces the link, hands out what comes. It never
  waits for anything, the socket included: attempts to connect and writes have processes of their own.

  A connection goes through these phases; only the last is announced as up:

  1. `:idle`: waits for the next attempt.
  2. `:dialing`: `Brain.Nats.Dialer` is at work.
  3. `:greeting`: the socket is here; every subscription was sent, then a PING. Nothing was sent before them.
  4. `:up`: its PONG has come: the broker has them all.

  Publishers do not come through here. The table named like the connection says to which writer they may send:
  `{:link, generation, writer, counters, max_payload, bounds}`, there only while it is up; and what stays the same,
  `{:connection, pid, calls, max_calls}` and `{:patience, ms}`.
  """

  use GenServer

  alias Brain.Nats.{Backoff, Calls, Dialer, Encoder, Frames, Info, Options, Parser, Session, Socket, Subs, Writer}

  alias Brain.Log.Report

  require Logger

  @inbox_sid 1

  @doc "Starts it under the options' name."
  @spec start_link(Options.t()) :: GenServer.on_start()
  def start_link(%Options{} = options), do: GenServer.start_link(__MODULE__, options, name: options.name)

  @impl true
  def init(options) do
    Process.flag(:trap_exit, true)
    _table = :ets.new(options.name, [:named_table, :protected, :set, read_concurrency: true])
    calls_open = :atomics.new(1, signed: true)
    :ets.insert(options.name, {:connection, self(), calls_open, options.max_calls})
    :ets.insert(options.name, {:patience, options.publish_timeout_ms})
    inbox = options.inbox_prefix <> "." <> options.unique.() <> "."
    {:ok, dial(%Session{options: options, inbox: inbox, calls_open: calls_open})}
  end

  # === What is asked of it

  @impl true
  def handle_call({:subscribe, request}, from, state), do: {:noreply, Session.subscribe(state, request, {:call, from})}

  def handle_call(:watch, {pid, _tag}, state) do
    {:reply, Session.link(state),
     %{state | watchers: Map.put_new_lazy(state.watchers, pid, fn -> Process.monitor(pid) end)}}
  end

  def handle_call(:info, _from, state) do
    {:reply, {Session.link(state), state.info, Subs.count(state.subs)}, state}
  end

  @impl true
  def handle_cast(_message, state), do: {:noreply, state}

  @impl true
  def handle_info({:call, pid, tag, subject, headers, body, limit_ms, most}, state) do
    {:noreply, Session.call(state, {pid, tag}, {subject, headers, body}, limit_ms, most)}
  end

  def handle_info({:subscribe, request, tag}, state), do: {:noreply, Session.subscribe(state, request, {:tag, tag})}
  def handle_info({:unsubscribe, id}, state), do: {:noreply, Session.forget(state, {:id, id})}
  def handle_info({:room, id}, state), do: {:noreply, %{state | subs: Subs.room(state.subs, id)}}

  # === What the socket says

  def handle_info({:tcp, socket, data}, %{socket: {:tcp, socket}} = state), do: {:noreply, received(state, data)}
  def handle_info({:ssl, socket, data}, %{socket: {:ssl, socket}} = state), do: {:noreply, received(state, data)}

  def handle_info({passive, socket}, %{socket: {_kind, socket}} = state)
      when passive in [:tcp_passive, :ssl_passive] do
    {:noreply, arm(state)}
  end

  def handle_info({closed, socket}, %{socket: {_kind, socket}} = state) when closed in [:tcp_closed, :ssl_closed] do
    {:noreply, lost(state, :closed_by_broker)}
  end

  def handle_info({error, socket, reason}, %{socket: {_kind, socket}} = state) when error in [:tcp_error, :ssl_error] do
    {:noreply, lost(state, reason)}
  end

  # === Time

  def handle_info(:dial, %{phase: :idle} = state), do: {:noreply, dial(state)}
  def handle_info({:tick, ticker}, %{ticker: ticker} = state), do: {:noreply, tick(state)}

  def handle_info({:deadline, token}, state) do
    {:noreply, Session.expired(state, token)}
  end

  def handle_info({:unconfirmed, sid}, state), do: {:noreply, Session.unconfirmed(state, sid)}

  # === Its processes, and those of others

  def handle_info({:dialed, pid, result}, %{dialer: pid} = state) do
    state = %{state | dialer: nil}

    case result do
      {:ok, line} -> {:noreply, greet(state, line)}
      {:error, reason} -> {:noreply, retry(%{state | phase: :idle}, reason, state.failures + 1)}
    end
  end

  def handle_info({:EXIT, pid, reason}, %{dialer: pid} = state) do
    {:noreply, retry(%{state | dialer: nil, phase: :idle}, reason, state.failures + 1)}
  end

  def handle_info({:EXIT, pid, reason}, %{writer: pid} = state), do: {:noreply, lost(%{state | writer: nil}, reason)}

  def handle_info({:DOWN, monitor, :process, pid, _reason}, state) do
    case state.watchers do
      %{^pid => ^monitor} -> {:noreply, %{state | watchers: Map.delete(state.watchers, pid)}}
      _ -> {:noreply, Session.forget(state, {:monitor, monitor})}
    end
  end

  # Late words of a connection, process or timer that is gone.
  def handle_info(_late, state), do: {:noreply, state}

  @impl true
  def terminate(reason, state) do
    :ets.delete(state.options.name, :link)
    # An end that is normal would leave it at work.
    if state.dialer, do: Process.exit(state.dialer, :kill)
    clean = reason in [:normal, :shutdown] or match?({:shutdown, _why}, reason)
    state = if clean and state.phase == :up, do: drain(state), else: state
    if state.socket, do: if(state.drained, do: Socket.close(state.socket), else: Socket.abort(state.socket))
    state = hang_up(%{state | socket: nil})
    Enum.each(Subs.sids(state.subs), &Session.refuse(state, &1, :closed))
  end

  @doc "No password and no payload in a report."
  @impl true
  def format_status(_reason, [_dictionary, state]) do
    [data: [{'State', Map.take(state, [:phase, :generation, :failures, :failed, :unanswered])}]]
  end

  # === Connecting

  defp dial(state) do
    hosts = state.options.hosts
    host = Enum.at(hosts, rem(state.failures, length(hosts)))
    limit = max(2 * state.options.ping_interval_ms, 1_000)
    %{state | phase: :dialing, dialer: Dialer.start_link(host, state.options, limit)}
  end

  # Each failure goes on to the next host; the loss of a connection that was up begins with the first again.
  defp retry(state, reason, failures) do
    # Said once a reason: a broker that is away for an hour is one line.
    level = if state.failed == reason, do: :debug, else: :warning
    why = IO.iodata_to_binary(why(reason))
    Logger.log(level, "no connection #{inspect(state.options.name)} to NATS: #{why}; trying again")
    round = div(max(failures - 1, 0), length(state.options.hosts)) + 1
    part = state.options.jitter.()
    Process.send_after(self(), :dial, Backoff.delay_ms(round, state.options.reconnect_max_ms, part))
    %{state | phase: :idle, failures: failures, failed: reason}
  end

  # A reason can hold what was being sent, passwords included; the broker's own words are shown.
  defp why({:refused, text}) when is_binary(text), do: ["refused: ", inspect(text)]
  defp why({:tls_alert, {alert, text}}), do: ["tls_alert ", inspect(alert), ": ", inspect(text)]
  defp why(reason), do: Report.reason(reason)

  # Every subscription before anything else, then the PING whose PONG says that the broker has them.
  defp greet(state, %{socket: socket, info: info, parser: parser, frames: frames}) do
    counters = Writer.counters()
    writer = Writer.start_link(socket, counters)
    state = %{state | phase: :greeting, socket: socket, info: info, parser: parser, writer: writer, counters: counters}
    state = %{state | pings: :queue.new(), unanswered: 0, ticker: make_ref()}
    state = Session.write(state, [Encoder.sub(state.inbox <> "*", nil, @inbox_sid), Subs.frames(state.subs)])
    state |> Session.ping({:up, Subs.next(state.subs)}) |> next_tick() |> handled(frames) |> arm()
  end

  # Subscriptions below that sid stand before the PING; later ones wait for their own.
  defp announce(state, end_sid) do
    generation = state.generation + 1
    state = %{state | phase: :up, generation: generation, failures: 0, failed: nil}
    offer(state)
    state = Session.confirm(state, {:below, end_sid})
    Session.tell(state, {:up, generation})
    Logger.info("connection #{inspect(state.options.name)} to NATS #{inspect(state.info.server_id)} is up")
    state
  end

  defp offer(state) do
    bounds = Session.bounds(state)
    link = {:link, state.generation, state.writer, state.counters, state.info.max_payload, bounds}
    :ets.insert(state.options.name, link)
  end

  defp arm(%{socket: nil} = state), do: state

  defp arm(state) do
    case Socket.arm(state.socket) do
      :ok -> state
      {:error, reason} -> lost(state, reason)
    end
  end

  defp tick(%{unanswered: unanswered} = state) when unanswered >= 2, do: lost(state, :silent)
  defp tick(state), do: next_tick(Session.ping(%{state | unanswered: state.unanswered + 1}, :alive))

  defp next_tick(state) do
    Process.send_after(self(), {:tick, state.ticker}, state.options.ping_interval_ms)
    state
  end

  # === Losing it

  defp lost(%{socket: nil} = state, _reason), do: state

  defp lost(state, reason) do
    Socket.abort(state.socket)
    failures = if state.phase == :up, do: 0, else: state.failures + 1
    state |> Map.put(:socket, nil) |> hang_up() |> retry(reason, failures)
  end

  # The socket is closed or closing. Writes that wait are lost, requests in flight say so at once.
  defp hang_up(state) do
    :ets.delete(state.options.name, :link)
    if state.writer, do: stop_writer(state.writer)
    was = state.phase
    state = Session.fail_calls(%{state | phase: :idle, writer: nil, counters: nil, parser: nil, ticker: nil})
    if was == :up, do: Session.tell(state, :down)
    state
  end

  defp stop_writer(writer) do
    Process.unlink(writer)
    Process.exit(writer, :kill)

    receive do
      {:EXIT, ^writer, _reason} -> :ok
    after
      0 -> :ok
    end
  end

  # Until the broker has seen all that was queued before, or for as long as a publish may take.
  defp drain(state) do
    Process.send_after(self(), :drain_no_longer, state.options.publish_timeout_ms)
    drain_on(Session.ping(state, :drained))
  end

  defp drain_on(%{drained: true} = state), do: state
  defp drain_on(%{socket: nil} = state), do: state

  defp drain_on(state) do
    receive do
      :drain_no_longer ->
        state

      {kind, _socket, _data} = message when kind in [:tcp, :ssl, :tcp_error, :ssl_error] ->
        drain_with(message, state)

      {kind, _socket} = message when kind in [:tcp_passive, :ssl_passive, :tcp_closed, :ssl_closed] ->
        drain_with(message, state)

      {:EXIT, _pid, _reason} = message ->
        drain_with(message, state)
    end
  end

  defp drain_with(message, state) do
    {:noreply, state} = handle_info(message, state)
    drain_on(state)
  end

  # === Frames

  defp received(state, data) do
    case Parser.feed(state.parser, data) do
      {:ok, frames, parser} -> alive(%{state | parser: parser}) |> handled(frames)
      {:error, reason, frames} -> state |> handled(frames) |> lost({:not_nats, reason})
    end
  end

  # Any byte is a sign of life: a PONG may stand behind a lot of them, and its PING behind a lot of ours.
  defp alive(%{phase: :up} = state), do: %{state | unanswered: 0}
  defp alive(state), do: state

  defp handled(state, []), do: state

  defp handled(state, [{:msg, @inbox_sid, subject, reply, head, payload} | frames]) do
    with token when is_integer(token) <- Calls.token(subject, byte_size(state.inbox)),
         {:ok, message} <- Frames.message(nil, subject, reply, head, payload) do
      state |> Session.answered(token, message) |> handled(frames)
    else
      _ -> handled(state, frames)
    end
  end

  defp handled(state, [{:msg, sid, subject, reply, head, payload} | frames]) do
    subs = Subs.deliver(state.subs, sid, &Frames.message(&1, subject, reply, head, payload))
    handled(%{state | subs: subs}, frames)
  end

  defp handled(state, [frame | frames]), do: state |> control(frame) |> handled(frames)

  defp control(%{socket: nil} = state, _frame), do: state
  defp control(state, :ping), do: Session.write(state, Encoder.pong())
  defp control(state, :ok), do: state

  defp control(state, :pong) do
    case :queue.out(state.pings) do
      {{:value, what}, pings} -> ponged(%{state | pings: pings}, what)
      {:empty, _pings} -> state
    end
  end

  defp control(state, {:info, json}) do
    case Info.parse(json) do
      {:ok, info} ->
        if info.lame_duck, do: Logger.warning("NATS #{inspect(info.server_id)} is about to shut down")
        state = %{state | info: info}
        if state.phase == :up, do: offer(state)
        state

      {:error, reason} ->
        lost(state, {:not_nats, reason})
    end
  end

  defp control(state, {:err, text}) do
    case Frames.violation(text) do
      {:subscribe, pattern} ->
        Enum.reduce(Subs.to_pattern(state.subs, pattern), state, &Session.refuse(&2, &1, {:denied, :binary.copy(text)}))

      _other ->
        Logger.error("NATS refused something #{inspect(state.options.name)} did: #{inspect(text)}")
        state
    end
  end

  defp ponged(state, :alive), do: state
  defp ponged(state, {:up, end_sid}), do: announce(state, end_sid)
  defp ponged(state, :drained), do: %{state | drained: true}

  defp ponged(state, {:sub, sid}), do: Session.confirm(state, sid)
end
