defmodule Brain.Nats.Session do
  @moduledoc """
  What a connection's process holds, and what it does for those who ask: requests and subscriptions. The socket's life is
  `Brain.Nats.Connection`'s.
  """

  alias Brain.Nats.{Calls, Encoder, Info, Options, Parser, Socket, Sub, Subs, Writer}

  defstruct [
    :options,
    :inbox,
    :calls_open,
    :socket,
    :parser,
    :writer,
    :counters,
    :info,
    :dialer,
    :ticker,
    phase: :idle,
    generation: 0,
    failures: 0,
    failed: nil,
    pings: :queue.new(),
    unanswered: 0,
    drained: false,
    subs: Subs.new(),
    calls: Calls.new(),
    watchers: %{}
  ]

  @type t :: %__MODULE__{
          options: Options.t(),
          inbox: binary,
          calls_open: :atomics.atomics_ref(),
          socket: nil | Socket.t(),
          parser: nil | Parser.t(),
          writer: nil | pid,
          counters: nil | :atomics.atomics_ref(),
          info: nil | Info.t(),
          dialer: nil | pid,
          ticker: nil | reference,
          phase: :idle | :dialing | :greeting | :up,
          generation: non_neg_integer,
          failures: non_neg_integer,
          failed: term,
          pings: :queue.queue({:up, pos_integer} | :alive | :drained | {:sub, pos_integer}),
          unanswered: non_neg_integer,
          drained: boolean,
          subs: Subs.t(),
          calls: Calls.t(),
          watchers: %{pid => reference}
        }

  @typedoc "Who is told that a subscription is confirmed: a caller that waits, or one that gets a message."
  @type asker :: {:call, GenServer.from()} | {:tag, term}

  # === Requests

  @doc "Makes a request; its answers go to `pid`."
  @spec call(t, {pid, term}, {binary, list, iodata}, non_neg_integer, pos_integer) :: t
  def call(%__MODULE__{phase: :up} = state, {pid, tag}, {subject, headers, body}, limit_ms, most) do
    timer = &Process.send_after(self(), {:deadline, &1}, limit_ms)
    {token, calls} = Calls.open(state.calls, pid, tag, most, timer)
    frame = Encoder.hpub(subject, state.inbox <> Integer.to_string(token), headers, body)
    state = %{state | calls: calls}

    case Writer.push(state.writer, state.counters, frame, bounds(state)) do
      :ok ->
        state

      {:error, :full} ->
        {call, calls} = Calls.close(state.calls, token)
        finish(%{state | calls: calls}, call, {:error, :full})
    end
  end

  def call(%__MODULE__{} = state, {pid, tag}, _frame, _limit_ms, _most) do
    :atomics.sub(state.calls_open, 1, 1)
    send(pid, {:nats_reply, tag, {:error, :closed}})
    state
  end

  @doc "An answer has come."
  @spec answered(t, pos_integer, Brain.Nats.message()) :: t
  def answered(%__MODULE__{} = state, token, message) do
    case Calls.answer(state.calls, token, message.status) do
      {:more, call, calls} ->
        send(call.pid, {:nats_reply, call.tag, {:ok, message}})
        %{state | calls: calls}

      {:done, call, calls} ->
        result = if message.status == 503, do: {:error, :no_responders}, else: {:ok, message}
        finish(%{state | calls: calls}, call, result)

      :none ->
        state
    end
  end

  # The last word to a call.
  defp finish(%__MODULE__{} = state, call, result) do
    _ = Process.cancel_timer(call.timer, async: true, info: false)
    :atomics.sub(state.calls_open, 1, 1)
    send(call.pid, {:nats_reply, call.tag, result})
    state
  end

  @doc "A request's time is over."
  @spec expired(t, pos_integer) :: t
  def expired(%__MODULE__{} = state, token) do
    case Calls.close(state.calls, token) do
      {call, calls} -> finish(%{state | calls: calls}, call, {:error, :timeout})
      :none -> state
    end
  end

  @doc "The connection is lost: all requests in flight say so."
  @spec fail_calls(t) :: t
  def fail_calls(%__MODULE__{} = state) do
    {calls, rest} = Calls.close_all(state.calls)
    Enum.reduce(calls, %{state | calls: rest}, &finish(&2, &1, {:error, :closed}))
  end

  # === Subscriptions

  @doc "Makes a subscription, to be confirmed within `limit_ms`."
  @spec subscribe(t, {Sub.t(), pid, binary, binary | nil, pos_integer, pos_integer}, asker) :: t
  def subscribe(%__MODULE__{} = state, {sub, pid, subject, queue, max, limit_ms}, answer) do
    if Subs.count(state.subs) >= state.options.max_subscriptions do
      confirmed({{answer, pid}, nil}, {:error, :full})
      state
    else
      sid = Subs.next(state.subs)
      timer = Process.send_after(self(), {:unconfirmed, sid}, limit_ms)
      subs = Subs.add(state.subs, sub, pid, subject, queue, max, {{answer, pid}, timer})
      state = %{state | subs: subs}
      # Without a connection it is sent, and confirmed, with all others.
      if state.writer, do: state |> write(Encoder.sub(subject, queue, sid)) |> ping({:sub, sid}), else: state
    end
  end

  @doc "Its subscriber does not want it any more, or is gone."
  @spec forget(t, {:id | :monitor, reference}) :: t
  def forget(%__MODULE__{} = state, which) do
    case Subs.remove(state.subs, which) do
      {entry, subs} ->
        if entry.waiting, do: confirmed(entry.waiting, {:error, :unsubscribed})
        state = %{state | subs: subs}
        if state.writer, do: write(state, Encoder.unsub(entry.sid)), else: state

      :none ->
        state
    end
  end

  @doc "It ends from our side: who waits for it is told, else its subscriber."
  @spec refuse(t, pos_integer, Brain.Nats.subscribe_error()) :: t
  def refuse(%__MODULE__{} = state, sid, reason) do
    case Subs.remove(state.subs, {:sid, sid}) do
      {entry, subs} ->
        if entry.waiting,
          do: confirmed(entry.waiting, {:error, reason}),
          else: send(entry.pid, {:nats_ended, entry.sub, reason})

        state = %{state | subs: subs}
        if state.writer, do: write(state, Encoder.unsub(sid)), else: state

      :none ->
        state
    end
  end

  @doc "The time to confirm it is over. Its timer may have run out in the moment of the confirmation."
  @spec unconfirmed(t, pos_integer) :: t
  def unconfirmed(%__MODULE__{} = state, sid) do
    if Subs.waiting?(state.subs, sid), do: refuse(state, sid, :timeout), else: state
  end

  @doc "The broker has confirmed one, or all below one."
  @spec confirm(t, {:below, pos_integer} | pos_integer) :: t
  def confirm(%__MODULE__{} = state, which) do
    {confirmed, subs} = Subs.confirm(state.subs, which)
    Enum.each(confirmed, fn {sub, waiting} -> confirmed(waiting, {:ok, sub}) end)
    %{state | subs: subs}
  end

  defp confirmed({{answer, pid}, timer}, result) do
    _ = if timer, do: Process.cancel_timer(timer, async: true, info: false)

    case answer do
      {:call, from} -> GenServer.reply(from, result)
      {:tag, tag} -> send(pid, {:nats_subscribed, tag, result})
    end
  end

  # === What goes out

  @doc "Sends a PING; `what` its PONG means."
  @spec ping(t, {:up, pos_integer} | :alive | :drained | {:sub, pos_integer}) :: t
  def ping(%__MODULE__{} = state, what), do: write(%{state | pings: :queue.in(what, state.pings)}, Encoder.ping())

  @doc "Sends a frame of the connection's own."
  @spec write(t, iodata) :: t
  def write(%__MODULE__{} = state, frame) do
    Writer.force(state.writer, state.counters, frame)
    state
  end

  @doc "What may wait for the socket: bytes and messages."
  @spec bounds(t) :: {pos_integer, pos_integer}
  def bounds(state), do: {state.options.queue_bytes, state.options.queue_messages}

  @doc "The link as others are told of it."
  @spec link(t) :: Brain.Nats.link()
  def link(%{phase: :up, generation: generation}), do: {:up, generation}
  def link(_state), do: :down

  @doc "Tells the watchers."
  @spec tell(t, Brain.Nats.link()) :: :ok
  def tell(state, link) do
    Enum.each(state.watchers, fn {pid, _monitor} -> send(pid, {:nats_link, state.options.name, link}) end)
  end
end
