defmodule Brain.Room.Core.Commit do
  @moduledoc "The entry in flight: sending it, and finding out what became of it."

  alias Brain.Codec
  alias Brain.Proto.Internal.LogEntry
  alias Brain.Proto.V1.Envelope
  alias Brain.Room.{Chain, Core, Fold, Ring, Saturating, Tail}
  alias Brain.Room.Core.{Open, Parts, Queue, Snapshot, Speak}

  @u32_max 0xFFFF_FFFF

  @doc "Sends an entry whose effect is in `ahead` already."
  @spec append(Core.t(), LogEntry.t(), [Envelope.t()], [Parts.said()], [Parts.waiting()]) ::
          Core.t()
  def append(core, entry, events, said, taken) do
    body = Codec.encode(entry)

    inflight = %Parts.Inflight{
      entry: entry,
      events: events,
      body: body,
      chain: Chain.chain(body),
      said: said,
      taken: taken
    }

    send_entry(%{core | sent: core.sent + 1, inflight: inflight})
  end

  @doc "Sends the entry in flight, for the first time or again: the same bytes, the same expectation."
  @spec send_entry(Core.t()) :: Core.t()
  def send_entry(core) do
    {core, token} = Core.ask(core)
    inflight = %{core.inflight | attempts: min(core.inflight.attempts + 1, @u32_max)}

    Core.emit(
      %{core | inflight: inflight, phase: :appending},
      {:append, token, inflight.entry.prev, inflight.body}
    )
  end

  @doc "An append ended."
  @spec on_appended(Core.t(), Core.outcome()) :: Core.t()
  # The answer to a question of another kind.
  def on_appended(%{inflight: nil} = core, _outcome), do: core
  def on_appended(core, {:stored, pos}), do: commit(core, pos, true)

  # A refusal settles the attempt that it answers; an earlier one may still be stored.
  def on_appended(%{inflight: %{attempts: 1}} = core, outcome) when outcome in [:full, :unavailable, :too_big] do
    refused(core, outcome)
  end

  def on_appended(core, _unclear), do: core |> Core.note(:unresolved) |> resolve()

  @doc "Looks for the entry in flight in the log: from the predecessor on, for is that one still there?"
  @spec resolve(Core.t()) :: Core.t()
  def resolve(core), do: read_on(core, nil, max(core.inflight.entry.prev, 1))

  defp read_on(core, walked, from) do
    {core, token} = Core.ask(core)
    Core.emit(%{core | phase: {:resolving, walked}}, {:read, token, false, false, from})
  end

  @doc "A part of the log was read: from the entry's predecessor on, or from behind what was `walked`."
  @spec on_resolve(Core.t(), nil | Tail.t(), Core.found()) :: Core.t()
  def on_resolve(core, nil, found) do
    tail = core.committed.tail

    case after_predecessor(tail, found.log) do
      {:ok, log} -> seek(core, tail, log, found)
      # The log lost its tail, the predecessor with it: whatever was stored after that is gone, too, and what may arrive
      # yet is void. Waiting for it would never end.
      :lost -> predecessor_lost(core)
    end
  end

  def on_resolve(core, walked, found), do: seek(core, walked, found.log, found)

  defp after_predecessor(%{fence: 0}, log), do: {:ok, log}

  defp after_predecessor(%{fence: fence} = tail, [{fence, body} | rest]) do
    if tail.pos != fence or Chain.chain(body) == tail.chain, do: {:ok, rest}, else: :lost
  end

  defp after_predecessor(_tail, _log), do: :lost

  defp seek(core, tail, [{pos, body} | rest], found) do
    entry = decode(body)

    cond do
      entry.kind == :unknown or Tail.accepts(tail, entry) != :ok ->
        core |> Core.note({:void, pos}) |> seek(%{tail | fence: pos}, rest, found)

      entry.entry_id != core.inflight.entry.entry_id ->
        fenced(core)

      true ->
        core |> commit(pos, false) |> after_mine(rest)
    end
  end

  # Not decided yet, and the log goes on.
  defp seek(core, tail, [], %{more: true, log: [_ | _] = log}) do
    {last, _body} = List.last(log)
    read_on(core, tail, Saturating.u64(last + 1))
  end

  # Void messages took its place: with this expectation it can never be stored. Judged anew.
  defp seek(core, %{fence: fence}, [], _found) when fence != core.committed.tail.fence do
    rebuild(core, fence)
  end

  # Absence decides nothing: it may be stored yet. The pause grows with each attempt.
  defp seek(core, _tail, [], _found), do: Core.pause(%{core | phase: :appending})

  defp decode(body) do
    case Codec.decode(LogEntry, body) do
      {:ok, entry} -> entry
      {:error, _} -> %LogEntry{}
    end
  end

  # What follows the own entry: void, or the mark of another owner.
  defp after_mine(core, []), do: core

  defp after_mine(core, [{pos, body} | rest]) do
    case Fold.entry(core.committed, pos, body) do
      {committed, {:ok, _applied}} ->
        fenced(%{core | committed: committed})

      {committed, {:error, _void}} ->
        ahead = %{core.ahead | tail: %{core.ahead.tail | fence: pos}}

        %{core | committed: committed, ahead: ahead}
        |> Core.note({:void, pos})
        |> after_mine(rest)
    end
  end

  # The entry in flight is stored at `pos`. `ahead` is what the fold makes of it, but for the place, which only the log
  # could tell; so nothing is folded twice.
  defp commit(%{now: {_, mono_ms}} = core, pos, acked?) do
    %Parts.Inflight{entry: entry, events: events} = inflight = core.inflight
    committed = Fold.adopt(core.ahead, pos, inflight.chain)
    head = {:head, entry.epoch, entry.term, pos, length(events)}
    out = committed_notes(events, entry.envelopes, core.out)

    core = %{
      core
      | inflight: nil,
        committed: committed,
        ahead: committed,
        alone_before: core.sent,
        ring: Ring.push(core.ring, pos, inflight.chain, entry),
        snap: Snapshot.grew(core.snap, byte_size(inflight.body)),
        retry: %Parts.Backoff{},
        proof_ms: if(acked?, do: mono_ms, else: core.proof_ms),
        out: [{:note, head} | out],
        phase: :ready
    }

    if entry.kind == :owned, do: Open.recheck(core), else: Speak.say_all(core, inflight.said)
  end

  defp committed_notes([envelope | events], [encoded | envelopes], out) do
    {:event, event} = envelope.payload
    id = if byte_size(envelope.message_id) == 16, do: envelope.message_id
    note = {:committed, event.epoch, event.seq, id, event.user, encoded}
    committed_notes(events, envelopes, [{:note, note} | out])
  end

  defp committed_notes([], [], out), do: out

  @doc """
  Another owner went on from where this one stood: nothing in flight or waiting was or will be stored by this one. But
  what was published since that one subscribed came to both, and it may store what this one lost.
  """
  @spec fenced(Core.t()) :: Core.t()
  def fenced(core) do
    core |> Core.note({:fenced, core.committed.tail.term}) |> Speak.step_down(:fenced, :not_applied)
  end

  # The log refused the entry at its first attempt: surely not stored.
  defp refused(%{inflight: inflight} = core, outcome) do
    code = refusal(outcome, inflight)

    cond do
      inflight.entry.kind != :owned ->
        core = %{core | inflight: nil, ahead: core.committed}
        core = Enum.reduce(inflight.taken, core, &Speak.tell_lost(&2, &1, code))
        Core.pause(%{core | phase: :ready})

      code == :log_full ->
        Speak.step_down(%{core | inflight: nil}, :refused, code)

      core.stopping ->
        Speak.step_down(%{core | inflight: nil}, :stopped, code)

      # No leader yet, as a rule. No attempt is open any more, so the next one counts as the first.
      true ->
        Core.pause(%{core | inflight: %{inflight | attempts: 0}})
    end
  end

  defp refusal(:full, _inflight), do: :log_full

  # Of several commands none is known to be too large by itself, and one that is refused has no event there.
  defp refusal(:too_big, %{taken: [_one], events: events}) do
    if Enum.any?(events, &(&1.message_id != "")), do: :message_too_big, else: :unavailable
  end

  defp refusal(_outcome, _inflight), do: :unavailable

  # The commands of the entry in flight are judged again, on a new fence.
  defp rebuild(core, fence) do
    inflight = core.inflight
    committed = %{core.committed | tail: %{core.committed.tail | fence: fence}}
    core = %{core | inflight: nil, committed: committed, ahead: committed}

    if inflight.entry.kind == :owned,
      do: Open.load(core),
      else: wait_again(%{core | phase: :ready}, inflight.taken)
  end

  # What the entry in flight was to follow is gone: its commands are judged again on what the log still holds.
  defp predecessor_lost(core) do
    inflight = core.inflight

    %{core | inflight: nil, broken_at: core.committed.tail}
    |> wait_again(inflight.taken)
    |> Open.load()
  end

  defp wait_again(core, taken) do
    queue = taken |> Enum.reverse() |> Enum.reduce(core.queue, &Queue.push_front(&2, &1))
    %{core | queue: queue}
  end
end
