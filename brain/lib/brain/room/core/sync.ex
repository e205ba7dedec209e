defmodule Brain.Room.Core.Sync do
  @moduledoc """
  A SUB's question: may this user join, and what does a subscriber need to begin: the events it missed, or the state.
  """

  alias Brain.Codec
  alias Brain.Room.{Answers, Core, Ring}
  alias Brain.Room.Core.{Queue, Speak}

  # The most events of a `history`.
  @history_max 256

  # No Shield has seen a higher epoch: they are milliseconds since 1970, or a little more. A cursor above it must not
  # drive a room to where no epoch is left.
  @epoch_max 0x20_0000_0000_0000

  @doc """
  Answers every sync that can be answered from the committed state. May find that the epoch must be renewed, or that a
  confirmation is needed; the sync then stays.
  """
  @spec answer_syncs(Core.t()) :: Core.t()
  def answer_syncs(%{queue: %{syncs: 0}} = core), do: core

  def answer_syncs(core) do
    core.queue
    |> Queue.to_list()
    |> Enum.reduce(%{core | queue: Queue.new()}, fn
      {:sync, reply, ask, confirms} = waiting, core ->
        case leave(core, ask.sync, confirms) do
          {true, core} -> answer_sync(core, reply, ask)
          {false, core} -> wait_on(core, waiting)
        end

      waiting, core ->
        wait_on(core, waiting)
    end)
  end

  defp wait_on(core, waiting), do: %{core | queue: Queue.push(core.queue, waiting)}

  # False if the Shield's cursor, or the client's, must be looked into first.
  defp leave(core, sync, confirms) do
    contradicts = contradicting(core, sync.shield)

    cond do
      contradicts == nil and not ahead?(core, sync.since) ->
        {true, core}

      # It may have seen the entry in flight before this owner heard of it.
      core.inflight != nil ->
        {false, core}

      # Not confirmed since it asked: perhaps this owner is the one that is behind.
      core.confirms == confirms ->
        {false, %{core | proof_ms: nil}}

      # A client's word alone begins no epoch: it gets a snapshot.
      contradicts == nil ->
        {true, core}

      true ->
        {false, %{core | renew_above: max(core.renew_above || 0, contradicts.epoch)}}
    end
  end

  # The Shield's cursor, if it is plausible and does not fit this log.
  defp contradicting(core, %{pos: pos, epoch: epoch} = cursor)
       when pos > 0 and epoch <= @epoch_max do
    if compare(core, cursor) == :contradicts, do: cursor
  end

  defp contradicting(_core, _no_plausible_cursor), do: nil

  # True if the client has seen more of the room than is known to be stored.
  defp ahead?(_core, nil), do: false

  defp ahead?(core, since) do
    tail = core.committed.tail
    since.epoch <= @epoch_max and {since.epoch, since.seq} > {tail.epoch, tail.seq}
  end

  # What the asking Shield's own cursor says of this log: nothing against it, or more or something else than it holds.
  defp compare(core, cursor) do
    tail = core.committed.tail

    cond do
      cursor.epoch < tail.epoch -> :fits
      {cursor.epoch, cursor.term} > {tail.epoch, tail.term} -> :contradicts
      cursor.pos > tail.pos -> :contradicts
      Ring.chain_at(core.ring, cursor.pos) in [:older, {:ok, cursor.chain}] -> :fits
      true -> :contradicts
    end
  end

  defp answer_sync(core, reply, %{caller: caller, sync: sync}) do
    case Speak.barred(core, caller) do
      nil ->
        answer = core.committed.tail |> Answers.sync_head() |> fill(core, sync)
        Core.emit(core, {:reply, reply, Codec.encode(answer)})

      code ->
        Speak.refuse_sync(core, reply, code)
    end
  end

  defp fill(answer, _core, %{leave_only: true}), do: answer

  defp fill(answer, core, sync) do
    case replay(core, sync.since) do
      nil ->
        snapshot = Answers.snapshot(core.key, core.committed)
        %{answer | snapshot: snapshot, events: history(core, sync, snapshot)}

      events ->
        %{answer | recovered: true, events: events}
    end
  end

  defp history(core, %{since: nil, history: count}, snapshot) when count > 0 do
    used = Enum.reduce(snapshot, 0, &(byte_size(&1) + &2))
    left = max(Answers.sync_bytes_max() - used, 0)
    Ring.newest(core.ring, core.committed.tail.epoch, min(count, @history_max), left)
  end

  defp history(_core, _sync, _snapshot), do: []

  # Every event after `since`, or none at all: a client never gets a part of what it missed.
  defp replay(_core, nil), do: nil

  defp replay(core, since) do
    tail = core.committed.tail

    with true <- since.epoch == tail.epoch and since.seq <= tail.seq,
         events when events != nil <- Ring.after_seq(core.ring, tail.epoch, since.seq) do
      bytes = Enum.reduce(events, 0, &(byte_size(&1) + 8 + &2))
      if bytes <= Answers.sync_bytes_max(), do: events
    else
      _ -> nil
    end
  end
end
