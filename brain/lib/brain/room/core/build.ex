defmodule Brain.Room.Core.Build do
  @moduledoc "Judging what waits, in order, and building the entry that stores it."

  alias Brain.Codec
  alias Brain.Proto.Internal.LogEntry
  alias Brain.Proto.V1.{KeyDeleted, Unlocked}
  alias Brain.Room.{Answers, Chain, Core, Decide, Fold, Saturating, State}
  alias Brain.Room.Core.{Commit, Queue, Speak}

  # What an entry costs beside its events, and each event beside its bytes: an upper bound.
  @entry_overhead 256
  @event_overhead 8

  defmodule Batch do
    @moduledoc """
    An entry being built; its lists are newest first. `tick`: something waits for proof that the state it was judged on
    was current.
    """
    defstruct events: [], encoded: [], count: 0, bytes: 0, said: [], taken: [], tick: false
  end

  @doc "Judges as much of the queue as one entry takes, and sends that entry. Sends none if nothing needs one."
  @spec build(Core.t()) :: Core.t()
  def build(core) do
    {core, entry} = next_entry(core)
    # From here on `ahead` stands for the state after this entry. Nothing of it is said before the commit.
    core = %{core | ahead: Fold.begin(core.ahead, entry)}
    {core, batch} = end_what_ended(core, entry)
    {core, batch} = fill(core, entry, batch)
    said = Enum.reverse(batch.said)

    if batch.count == 0 and not batch.tick do
      # Only ephemeral ones, if anything: ownership is proven, so they may leave at once.
      Speak.say_all(%{core | ahead: core.committed}, said)
    else
      kind = if batch.count == 0, do: :tick, else: :events
      entry = %{entry | kind: kind, envelopes: Enum.reverse(batch.encoded)}
      Commit.append(core, entry, Enum.reverse(batch.events), said, Enum.reverse(batch.taken))
    end
  end

  defp next_entry(%{now: {wall_ms, _}} = core) do
    tail = core.committed.tail
    {core, entry_id} = Core.next_entry_id(core)

    entry = %LogEntry{
      epoch: tail.epoch,
      term: tail.term,
      first_seq: Saturating.u64(tail.seq + 1),
      prev: tail.fence,
      prev_chain: tail.chain,
      gen: core.gen_id,
      at: max(wall_ms, tail.at),
      kind: :tick,
      entry_id: entry_id
    }

    {core, entry}
  end

  # Ttls that have ended are events, before any command that could see them.
  defp end_what_ended(core, entry) do
    core.ahead.state
    |> State.ended(entry.at)
    |> Enum.take(Chain.entry_events_max())
    |> Enum.reduce({core, %Batch{}}, fn ended, {core, batch} ->
      place = place(entry, Saturating.u64(core.ahead.tail.seq + 1))
      envelope = Answers.own_event(core.key, place, body_of(ended))
      take(core, batch, envelope, Codec.encode(envelope))
    end)
  end

  defp body_of({:key, key}), do: {:key_deleted, %KeyDeleted{key: key, expired: true}}
  defp body_of(:lock), do: {:unlocked, %Unlocked{expired: true}}

  defp fill(core, entry, batch) do
    with true <- batch.count < Chain.entry_events_max(),
         {waiting, queue} <- Queue.pop(core.queue),
         {:ok, core, batch} <- weigh(%{core | queue: queue}, entry, batch, waiting) do
      fill(core, entry, %{batch | taken: [waiting | batch.taken]})
    else
      # What did not fit was not popped: `core` is still the one before it.
      _ -> {core, batch}
    end
  end

  # Answered already, or waiting for a confirmation: not this entry's business.
  defp weigh(_core, _entry, _batch, {:sync, _, _, _}), do: :not_now

  defp weigh(core, _entry, batch, {:get, reply, caller}) do
    {:ok, core, %{batch | said: [{:get, reply, caller} | batch.said], tick: true}}
  end

  defp weigh(core, entry, batch, {:command, reply, command, _, _}) do
    with {:ok, core, batch, ack} <- judge(core, entry, batch, command) do
      said = {:ack, reply, command.caller.user, ack}
      {:ok, core, %{batch | said: [said | batch.said]}}
    end
  end

  # Judges one command; `:full` if the entry has no room left for its event.
  defp judge(core, entry, batch, command) do
    tail = core.ahead.tail

    case Decide.decide(core.ahead.state, tail, entry.at, command) do
      {:event, body} ->
        place = place(entry, Saturating.u64(tail.seq + 1))
        envelope = Answers.event(core.key, place, command, body)
        store(core, batch, command, envelope, Codec.encode(envelope), place)

      {:ephemeral, body} ->
        place = %{place(entry, 0) | prev: core.committed.tail.pos}
        envelope = Codec.encode(Answers.event(core.key, place, command, body))
        live_n = core.live_n + 1
        live = {:live, Answers.live(tail, live_n, [envelope])}
        batch = %{batch | said: [live | batch.said]}
        {:ok, %{core | live_n: live_n}, batch, Answers.stored(command.id, 0, 0, false)}

      {:repeat, seen} ->
        ack = Answers.stored(command.id, seen.epoch, seen.seq, true)
        {:ok, core, %{batch | tick: true}, ack}

      {:refuse, refusal} ->
        {:ok, core, %{batch | tick: true}, Answers.refused(command.id, refusal)}
    end
  end

  defp store(core, batch, command, envelope, encoded, place) do
    cond do
      fits?(batch, byte_size(encoded)) ->
        {core, batch} = take(core, batch, envelope, encoded)
        {:ok, core, batch, Answers.stored(command.id, place.epoch, place.seq, false)}

      batch.count == 0 ->
        refusal = Decide.Refusal.plain(:message_too_big)
        {:ok, core, %{batch | tick: true}, Answers.refused(command.id, refusal)}

      true ->
        :full
    end
  end

  defp fits?(batch, event) do
    @entry_overhead + batch.bytes + event + @event_overhead <= Chain.entry_bytes_max()
  end

  defp place(entry, seq) do
    %Answers.Place{
      epoch: entry.epoch,
      term: entry.term,
      seq: seq,
      at: entry.at,
      prev: entry.prev
    }
  end

  defp take(core, batch, envelope, encoded) do
    batch = %{
      batch
      | events: [envelope | batch.events],
        encoded: [encoded | batch.encoded],
        count: batch.count + 1,
        bytes: batch.bytes + byte_size(encoded) + @event_overhead
    }

    {%{core | ahead: Fold.event(core.ahead, envelope)}, batch}
  end
end
