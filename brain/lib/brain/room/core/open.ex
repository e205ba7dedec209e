defmodule Brain.Room.Core.Open do
  @moduledoc """
  Taking a room over: load, write `owned`, read the generation again, subscribe, and only then serve.

  1. Read the generation (write one if there is none) and the snapshots.
  2. Read the log from the newest snapshot that it confirms. Neither confirmed: the log was lost below them, so the
     newest state begins a new epoch.
  3. Write `owned` with term + 1, expecting the log's last message.
  4. Read the generation again. Another one than written: the log may have lost its tail in between. Back to 1.
  5. Subscribe to `in.…`; then answer who asked.
  """

  alias Brain.{Codec, Subject}
  alias Brain.Proto.Internal.{LogEntry, Owned, RoomSnapshot}
  alias Brain.Room.{Answers, Chain, Core, Fold, Ring, Saturating, State, Tail}
  alias Brain.Room.Core.{Commit, Parts, Snapshot, Speak}

  # The most that wait for one room to open.
  @opens_max 256
  # An owner whose clock is further behind the room's than this refuses the room.
  @clock_behind_ms 10_000

  defmodule Load do
    @moduledoc """
    A load in progress. `anchors`: snapshots that are not ruled out yet, newest first. `newest`: the newest of all, to
    begin a new epoch with if the log confirms none. `folded`: the fold so far; `nil` before the anchor is found.
    `refuted`: epoch of the newest snapshot that the log does not hold: its tail was lost after that one was written.
    `unanchored`: no snapshot is confirmed, the log is walked for its head alone. `from`: where to read on.
    """

    alias Brain.Proto.Internal.RoomSnapshot

    defstruct anchors: [],
              newest: nil,
              folded: nil,
              refuted: nil,
              unanchored: false,
              from: 0

    @type t :: %__MODULE__{
            anchors: [RoomSnapshot.t()],
            newest: nil | RoomSnapshot.t(),
            folded: nil | Brain.Room.Folded.t(),
            refuted: nil | non_neg_integer,
            unanchored: boolean,
            from: non_neg_integer
          }
  end

  @doc "Somebody wants the room to be served."
  @spec on_open(Core.t(), binary, boolean) :: Core.t()
  def on_open(%{now: {_, mono_ms}} = core, reply, create?) do
    cond do
      # Forwarded by another Brain, it is that one's inbox.
      not Subject.shield_inbox?(reply) and not String.starts_with?(reply, "_INBOX.b.") ->
        core

      length(core.opens) >= @opens_max ->
        Core.emit(
          core,
          {:reply, reply, Answers.opened(core.me.node, core.committed.tail, :busy)}
        )

      true ->
        core = %{core | active_ms: mono_ms, opens: [{reply, create?} | core.opens]}
        if core.phase == :new, do: load(core), else: core
    end
  end

  @doc "Begins to load, from nothing."
  @spec load(Core.t()) :: Core.t()
  def load(core) do
    {core, token} = Core.ask(core)

    Core.emit(
      %{core | steady: true, proof_ms: nil, phase: :load_head},
      {:read, token, true, true, nil}
    )
  end

  @doc "Generation and snapshots were read."
  @spec on_load_head(Core.t(), non_neg_integer, Core.found()) :: Core.t()
  def on_load_head(core, draw, %{gen_id: nil}) do
    # A draw of its own for each attempt: the same number twice would hide a loss.
    {core, token} = Core.ask(core)
    Core.emit(%{core | phase: :load_gen}, {:write_gen, token, draw})
  end

  def on_load_head(core, _draw, found) do
    decoded = found.snapshots |> Enum.reverse() |> Enum.map(&{&1, decode(RoomSnapshot, elem(&1, 1))})
    anchors = for {_stored, snapshot} <- decoded, snapshot != nil, snapshot.pos > 0, do: snapshot
    core = %{core | gen_id: found.gen_id, snap: Snapshot.found(decoded)}
    read_log(core, %Load{newest: List.first(anchors), anchors: anchors})
  end

  defp decode(module, body) do
    case Codec.decode(module, body) do
      {:ok, message} -> message
      {:error, _} -> nil
    end
  end

  @doc "Reads where `load` says, or where its next anchor stands."
  @spec read_log(Core.t(), Load.t()) :: Core.t()
  def read_log(core, load) do
    load =
      case load do
        %{from: 0, anchors: [anchor | _]} -> %{load | from: anchor.pos}
        %{from: 0} -> %{load | from: 1}
        _ -> load
      end

    {core, token} = Core.ask(core)
    Core.emit(%{core | phase: {:load_log, load}}, {:read, token, false, false, load.from})
  end

  @doc "A part of the log was read."
  @spec on_load_log(Core.t(), Load.t(), Core.found()) :: Core.t()
  def on_load_log(core, %{folded: nil, anchors: [anchor | older]} = load, found) do
    with [{pos, body} | rest] when pos == anchor.pos <- found.log,
         true <- Chain.chain(body) == anchor.chain do
      core
      |> begin_fold(anchor)
      |> load_messages(%{load | folded: Fold.restore(anchor, core.rules.dedupe)}, rest)
      |> load_on(found)
    else
      _ ->
        refuted = max(load.refuted || 0, anchor.epoch)
        load = %{load | anchors: older, refuted: refuted, unanchored: older == [], from: 0}
        read_log(core, load)
    end
  end

  def on_load_log(core, %{folded: nil} = load, found) do
    case tombstone(found.log) do
      nil ->
        without_anchor(core, load, found)

      # From there on the log is complete. It wins over every snapshot: a stream with a limit per subject may bring purged
      # ones back after a crash.
      entry ->
        start = Fold.new(core.rules.dedupe)
        start = %{start | tail: %{start.tail | fence: entry.prev, chain: entry.prev_chain}}
        refuted = if load.refuted != nil and load.refuted > entry.epoch, do: load.refuted

        core
        |> begin_fold(nil)
        |> load_messages(%{load | folded: start, unanchored: false, refuted: refuted}, found.log)
        |> load_on(found)
    end
  end

  def on_load_log(core, load, found), do: core |> load_messages(load, found.log) |> load_on(found)

  defp tombstone([{_pos, body} | _]) do
    with %LogEntry{kind: :deleted} = entry <- decode(LogEntry, body), do: entry, else: (_ -> nil)
  end

  defp tombstone([]), do: nil

  defp without_anchor(core, load, found) do
    dedupe = core.rules.dedupe
    start = if load.newest == nil, do: Fold.new(dedupe), else: Fold.restore(load.newest, dedupe)
    start = %{start | tail: %{start.tail | pos: 0, fence: 0, chain: 0}}

    core
    |> begin_fold(nil)
    |> load_messages(%{load | folded: start}, found.log)
    |> load_on(found)
  end

  defp load_on({core, load}, %{more: true, log: [_ | _] = log}) do
    {pos, _body} = List.last(log)
    read_log(core, %{load | from: Saturating.u64(pos + 1)})
  end

  defp load_on({core, load}, _found), do: loaded(core, load)

  defp begin_fold(core, anchor) do
    %{core | ring: Ring.clear(core.ring), snap: Snapshot.begin(core.snap, anchor, core.rules.trim_age_ms)}
  end

  defp load_messages(core, load, messages) do
    Enum.reduce(messages, {core, load}, fn {pos, body}, {core, load} ->
      if load.unanchored,
        do: {core, %{load | folded: walk(load.folded, pos, body)}},
        else: load_message(core, load, pos, body)
    end)
  end

  # Not to be folded: only the head counts, and what a new epoch must rise above.
  defp walk(%{tail: tail} = folded, pos, body) do
    tail = %{tail | fence: pos, pos: pos, chain: Chain.chain(body)}

    case decode(LogEntry, body) do
      nil ->
        %{folded | tail: tail}

      entry ->
        tail = %{
          tail
          | epoch: max(tail.epoch, entry.epoch),
            term: max(tail.term, entry.term),
            at: max(tail.at, entry.at),
            deleted: entry.kind == :deleted
        }

        %{folded | tail: tail, state: if(tail.deleted, do: State.new(folded.state.dedupe.limit), else: folded.state)}
    end
  end

  defp load_message(core, load, pos, body) do
    case Fold.entry(load.folded, pos, body) do
      {folded, {:ok, applied}} ->
        ring = Ring.push(core.ring, pos, applied.chain, applied.entry)
        snap = Snapshot.grew(core.snap, byte_size(body))
        {%{core | ring: ring, snap: snap}, %{load | folded: folded}}

      {folded, {:error, _void}} ->
        {Core.note(core, {:void, pos}), %{load | folded: folded}}
    end
  end

  defp loaded(%{now: {wall_ms, _}, broken_at: broken_at} = core, load) do
    tail = load.folded.tail
    absent? = tail.deleted or (tail.epoch == 0 and tail.fence == 0)
    wanted? = broken_at != nil or Enum.any?(core.opens, fn {_reply, create?} -> create? end)

    cond do
      broken_at != nil and {tail.epoch, tail.term} > {broken_at.epoch, broken_at.term} ->
        core |> Core.note({:fenced, tail.term}) |> Speak.step_down(:fenced, nil)

      absent? and not wanted? ->
        Speak.step_down(core, :absent, nil)

      wall_ms < tail.at - @clock_behind_ms ->
        Speak.step_down(core, :clock_behind, nil)

      true ->
        core = if load.refuted == nil, do: core, else: renew_above(core, load.refuted)
        lost? = tail.gen_id != core.gen_id or broken_at != nil or load.refuted != nil
        snap = %{core.snap | anchoring: load.unanchored}

        claim(
          %{core | snap: snap, committed: load.folded},
          absent? or lost? or tail.epoch == 0
        )
    end
  end

  defp renew_above(core, epoch), do: %{core | renew_above: max(core.renew_above || 0, epoch)}

  @doc "Writes `owned`: term + 1, and a new epoch if continuity was lost or cannot be proven."
  @spec claim(Core.t(), boolean) :: Core.t()
  def claim(%{now: {wall_ms, _}} = core, new_epoch?) do
    {core, tail} = if new_epoch?, do: renewed(core), else: {core, core.committed.tail}
    {core, entry_id} = Core.next_entry_id(core)

    entry = %LogEntry{
      epoch: tail.epoch,
      term: Saturating.u64(tail.term + 1),
      first_seq: Saturating.u64(tail.seq + 1),
      prev: tail.fence,
      prev_chain: tail.chain,
      gen: core.gen_id,
      at: max(wall_ms, tail.at),
      kind: :owned,
      owned: %Owned{node: core.me.node, incarnation: core.me.incarnation},
      entry_id: entry_id
    }

    Commit.append(
      %{core | ahead: Fold.begin(core.committed, entry), live_n: 0},
      entry,
      [],
      [],
      []
    )
  end

  defp renewed(%{now: {wall_ms, _}, committed: %{tail: tail}} = core) do
    broken = if core.broken_at == nil, do: 0, else: core.broken_at.epoch
    known = max(core.renew_above || 0, broken)
    tail = %{tail | epoch: max(tail.epoch, known)}
    {%{core | renew_above: nil}, %{tail | epoch: Tail.next_epoch(tail, wall_ms), seq: 0}}
  end

  @doc "`owned` is stored: was the log the same all the while?"
  @spec recheck(Core.t()) :: Core.t()
  def recheck(core) do
    {core, token} = Core.ask(core)
    Core.emit(%{core | phase: :recheck}, {:read, token, true, false, nil})
  end

  @doc "The generation was read again."
  @spec on_recheck(Core.t(), Core.found()) :: Core.t()
  def on_recheck(%{gen_id: same} = core, %{gen_id: same}) do
    core = %{core | broken_at: nil}

    if core.snap.anchoring,
      do: Snapshot.write_snapshot(%{core | phase: :anchoring}),
      else: begin_serving(core)
  end

  def on_recheck(core, _another), do: load(%{core | broken_at: core.committed.tail})

  @doc "The room is owned: subscribe, unless it is served already."
  @spec begin_serving(Core.t()) :: Core.t()
  def begin_serving(core) do
    tail = core.committed.tail
    core = Core.note(core, {:owned, tail.epoch, tail.term, tail.pos})
    if core.serving, do: %{core | phase: :ready}, else: subscribe(core)
  end

  @doc "Asks for what is sent to the room."
  @spec subscribe(Core.t()) :: Core.t()
  def subscribe(core) do
    {core, token} = Core.ask(core)
    Core.emit(%{core | phase: :subscribing}, {:subscribe, token})
  end

  @doc "The attempt to subscribe ended."
  @spec on_subscribed(Core.t(), boolean) :: Core.t()
  def on_subscribed(core, false), do: Core.pause(core)

  def on_subscribed(%{now: {_, mono_ms}} = core, true) do
    %{core | retry: %Parts.Backoff{}, serving: true, active_ms: mono_ms, phase: :ready}
  end

  @doc "Tells who asked that the room is served."
  @spec answer_opens(Core.t()) :: Core.t()
  def answer_opens(%{opens: []} = core), do: core

  def answer_opens(core) do
    core.opens
    |> Enum.reverse()
    |> Enum.reduce(%{core | opens: []}, fn {reply, _create?}, core ->
      body = Answers.opened(core.me.node, core.committed.tail, nil)
      Core.emit(core, {:reply, reply, body})
    end)
  end
end
