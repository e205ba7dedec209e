defmodule Brain.Room.Core.Snapshot do
  @moduledoc """
  Snapshots: when one is due, and up to where the log may be trimmed. A snapshot only ever shortens a load; the log is the
  truth, so a failed one is no harm.

  1. A snapshot is due once the log since the newest one is long. That is looked at whenever nothing is in flight, so after
     each commit of a saturated room, too.
  2. The log is trimmed to the newest snapshot's place that is old enough and not above the older of the two stored
     snapshots. In a busy room that older one is never old enough, so the places of earlier ones are remembered: at most
     24, about an eighth of the age apart (`Brain.Room.Core.TrimPoints`). Each stored snapshot carries them to the next
     owner.
  3. After an append that failed, SNAP's head is read again, with back-off, before the next one is written.

  So the log of a served room begins at or above the newest snapshot that is older than 9/8 of the age, or at the older of
  the two stored ones if that is lower: it holds what is younger than that, and two snapshots' worth of entries. What is
  in flight or fails meanwhile comes on top: a snapshot is late by up to a minute after the last of its failures.
  """

  alias Brain.Codec
  alias Brain.Proto.Internal.RoomSnapshot
  alias Brain.Room.{Core, Fold}
  alias Brain.Room.Core.{Open, Parts, TrimPoints}

  # First and longest pause before SNAP's head is read again after a failed append.
  @retry_min_ms 1000
  @retry_max_ms 60_000

  @typedoc "A stored snapshot: its writer's epoch and term, where in the room's log it stands, and the room's time there."
  @type stored ::
          {epoch :: non_neg_integer, term :: non_neg_integer, log_pos :: non_neg_integer, at :: integer}

  @typedoc "A snapshot on its way, with what of the log it covers."
  @type pending :: %{
          token: Core.token(),
          stored: stored,
          size: non_neg_integer,
          entries: non_neg_integer,
          bytes: non_neg_integer
        }

  defmodule Known do
    @moduledoc """
    What is known of the room's snapshots. `fence`: position of the last one in its stream; `nil`: not known, so none can
    be written. `older`: the older of the two that are kept, if the log surely holds it. `points`: places of earlier ones.
    `trimmed`: up to where this owner has asked for the log to be trimmed; `untold`: that is to be asked again, for a trim
    that failed is told to nobody. `pending`: one on its way. `unclear`: the last one that failed, it may be stored all
    the same. `asked`: SNAP's head is being read. `retry`: when it is read again. `entries` and `bytes`: how far the log
    grew since the newest. `anchoring`: one must be stored before the room is served. `loaded`: SNAP's head when the room
    was loaded.
    """

    alias Brain.Room.Core.{Parts, Snapshot, TrimPoints}

    defstruct fence: nil,
              newest: nil,
              older: nil,
              points: [],
              trimmed: 0,
              untold: false,
              pending: nil,
              unclear: nil,
              asked: nil,
              retry: %Parts.Backoff{},
              entries: 0,
              bytes: 0,
              size: 0,
              anchoring: false,
              loaded: 0

    @type t :: %__MODULE__{
            fence: nil | non_neg_integer,
            newest: nil | Snapshot.stored(),
            older: nil | Snapshot.stored(),
            points: TrimPoints.t(),
            trimmed: non_neg_integer,
            untold: boolean,
            pending: nil | Snapshot.pending(),
            unclear: nil | Snapshot.pending(),
            asked: nil | Brain.Room.Core.token(),
            retry: Parts.Backoff.t(),
            entries: non_neg_integer,
            bytes: non_neg_integer,
            size: non_neg_integer,
            anchoring: boolean,
            loaded: non_neg_integer
          }
  end

  @doc "What a load found, newest first, each with what could be decoded of it."
  @spec found([{Core.stored(), nil | RoomSnapshot.t()}]) :: Known.t()
  def found([]), do: %Known{fence: 0}

  def found([{{pos, body}, newest} | older]) do
    %Known{fence: pos, loaded: pos, newest: stored(newest), older: second(older), size: byte_size(body)}
  end

  defp second([{_stored, snapshot} | _]), do: stored(snapshot)
  defp second([]), do: nil

  @doc "What is known of a snapshot."
  @spec stored(nil | RoomSnapshot.t()) :: nil | stored
  def stored(nil), do: nil
  def stored(%{state: nil} = snapshot), do: {snapshot.epoch, snapshot.term, snapshot.pos, 0}
  def stored(%{state: state} = snapshot), do: {snapshot.epoch, snapshot.term, snapshot.pos, state.at}

  @doc """
  The fold begins from `anchor`, or from the room's first entry. The log surely holds what the anchor followed in its own
  epoch, and nothing else.
  """
  @spec begin(Known.t(), nil | RoomSnapshot.t(), integer) :: Known.t()
  def begin(known, anchor, age_ms) do
    newest = if known.newest == stored(anchor), do: known.newest, else: nil
    points = if anchor == nil, do: [], else: TrimPoints.of(anchor, age_ms)
    %{known | entries: 0, bytes: 0, newest: newest, older: followed(known.older, newest), points: points}
  end

  defp followed({epoch, _, older_pos, _} = older, {epoch, _, newest_pos, _}) when older_pos < newest_pos, do: older
  defp followed(_older, _newest), do: nil

  @doc "True while one is on its way."
  @spec pending?(Known.t()) :: boolean
  def pending?(known), do: known.pending != nil

  @doc "The log grew by an entry."
  @spec grew(Known.t(), non_neg_integer) :: Known.t()
  def grew(known, bytes), do: %{known | entries: known.entries + 1, bytes: known.bytes + bytes}

  @doc "Writes one if the log since the last one is long."
  @spec snapshot_if_due(Core.t()) :: Core.t()
  def snapshot_if_due(%{snap: snap, rules: rules} = core) do
    due? =
      snap.entries >= rules.snapshot_entries or
        snap.bytes > max(rules.snapshot_bytes, snap.size)

    if due? and core.serving and snap.pending == nil and snap.fence != nil and Core.proven?(core),
      do: write_snapshot(core),
      else: core
  end

  @doc "`:quiet` if nothing keeps the room from going dormant; else a snapshot is on its way."
  @spec snapshot_for_dormancy(Core.t()) :: {:quiet | :pending, Core.t()}
  def snapshot_for_dormancy(%{snap: snap} = core) do
    pos = core.committed.tail.pos

    cond do
      snap.pending != nil -> {:pending, core}
      snap.fence == nil or match?({_epoch, _term, ^pos, _at}, snap.newest) -> {:quiet, core}
      true -> {:pending, write_snapshot(core)}
    end
  end

  @doc "Sends the committed state on its way."
  @spec write_snapshot(Core.t()) :: Core.t()
  def write_snapshot(core) do
    {core, token} = Core.next_token(core)
    snapshot = %{Fold.snapshot(core.committed) | trims: TrimPoints.encode(core.snap.points)}
    body = Codec.encode(snapshot)

    pending = %{
      token: token,
      stored: stored(snapshot),
      size: byte_size(body),
      entries: core.snap.entries,
      bytes: core.snap.bytes
    }

    snap = %{core.snap | pending: pending}
    Core.emit(%{core | snap: snap}, {:write_snapshot, token, snap.fence || 0, body})
  end

  @doc "A snapshot's append ended."
  @spec on_snapshot_written(Core.t(), Core.token(), Core.outcome()) :: Core.t()
  def on_snapshot_written(%{snap: %{pending: %{token: token} = pending} = snap} = core, token, outcome) do
    snap = %{snap | pending: nil}

    case outcome do
      {:stored, pos} ->
        snap = %{snap | fence: pos, older: snap.newest, newest: pending.stored}
        anchored(%{core | snap: snap |> covers(pending) |> mark_newest(core.rules.trim_age_ms)})

      # Perhaps stored, perhaps another owner's turn.
      _ ->
        read_snapshots_later(%{core | snap: %{snap | fence: nil, unclear: pending}})
    end
  end

  def on_snapshot_written(core, _token, _outcome), do: core

  # This one is stored as the newest: the log since it is what grew after it was taken.
  defp covers(snap, pending) do
    %{
      snap
      | size: pending.size,
        entries: max(snap.entries - pending.entries, 0),
        bytes: max(snap.bytes - pending.bytes, 0),
        unclear: nil,
        retry: %Parts.Backoff{}
    }
  end

  # Remembers the newest's place.
  defp mark_newest(%{newest: nil} = snap, _age_ms), do: %{snap | untold: true}

  defp mark_newest(%{newest: {_epoch, _term, pos, at}} = snap, age_ms) do
    %{snap | points: TrimPoints.push(snap.points, {pos, at}, age_ms), untold: true}
  end

  # The state that a new epoch begins with is stored: the room may be served.
  defp anchored(core) do
    core = %{core | snap: %{core.snap | anchoring: false}}
    if core.phase == :anchoring, do: Open.begin_serving(core), else: core
  end

  # A room that is not served yet cannot wait for long.
  defp read_snapshots_later(%{phase: :anchoring} = core), do: Core.pause(core)

  defp read_snapshots_later(%{now: {_, mono_ms}, snap: snap} = core) do
    retry = Parts.Backoff.begin(snap.retry, mono_ms, @retry_min_ms, @retry_max_ms)
    %{core | snap: %{snap | retry: retry}}
  end

  @doc "Reads SNAP's head again if it is time to."
  @spec read_snapshots_if_due(Core.t()) :: Core.t()
  def read_snapshots_if_due(%{now: {_, mono_ms}, snap: %{retry: %{at: at} = retry} = snap} = core)
      when at != nil and at <= mono_ms do
    read_snapshots(%{core | snap: %{snap | retry: %{retry | at: nil}}})
  end

  def read_snapshots_if_due(core), do: core

  @doc "Reads SNAP's head again, beside whatever else is awaited."
  @spec read_snapshots(Core.t()) :: Core.t()
  def read_snapshots(core) do
    {core, token} = Core.next_token(core)
    Core.emit(%{core | snap: %{core.snap | asked: token}}, {:read, token, false, true, nil})
  end

  @doc "SNAP's head was read after an append that failed; `nil`: that failed, too."
  @spec on_snapshots_read(Core.t(), nil | Core.found()) :: Core.t()
  def on_snapshots_read(%{snap: snap} = core, nil) do
    read_snapshots_later(%{core | snap: %{snap | asked: nil}})
  end

  def on_snapshots_read(%{snap: snap} = core, found) do
    core = %{core | snap: %{snap | asked: nil}}
    stored = found.snapshots |> Enum.reverse() |> Enum.map(fn {_pos, body} -> stored(decode(body)) end)

    head = if found.snapshots == [], do: 0, else: found.snapshots |> List.last() |> elem(0)
    tail = core.committed.tail

    cond do
      core.phase == :anchoring and overtaken?(snap, head, List.first(stored)) ->
        Open.load(%{core | broken_at: tail})

      # Another owner's: its place is not this one's to take, and the log will say so, too.
      match?([{epoch, term, _pos, _at} | _] when {epoch, term} > {tail.epoch, tail.term}, stored) ->
        read_snapshots_later(core)

      true ->
        learned(core, head, stored)
    end
  end

  # True if another owner stored a snapshot since the load. While no snapshot is confirmed, the log is walked for its head
  # alone: what that owner committed on top of its own snapshot is not in this one's state, and is lost if this one's
  # snapshot takes the place.
  defp overtaken?(snap, head, newest) do
    mine = if snap.unclear != nil, do: snap.unclear.stored
    head != snap.loaded and newest != mine
  end

  # Of what stands there, newest first, what this owner wrote or knew.
  defp learned(%{snap: snap} = core, head, stored) do
    unclear = snap.unclear
    newest = stored |> Enum.at(0) |> sure(core)
    older = if newest == nil, do: nil, else: stored |> Enum.at(1) |> sure(core)
    snap = %{snap | fence: head, newest: newest, older: older, unclear: nil}
    core = %{core | snap: mark_newest(snap, core.rules.trim_age_ms)}

    cond do
      unclear != nil and newest == unclear.stored -> anchored(%{core | snap: covers(core.snap, unclear)})
      core.phase == :anchoring -> write_snapshot(core)
      true -> core
    end
  end

  defp sure(nil, _core), do: nil

  defp sure({epoch, term, pos, _at} = stored, %{snap: snap, committed: %{tail: tail}}) do
    written? = {epoch, term} == {tail.epoch, tail.term} and pos <= tail.pos
    unclear? = snap.unclear != nil and snap.unclear.stored == stored
    if written? or unclear? or stored == snap.newest or stored == snap.older, do: stored
  end

  defp decode(body) do
    case Codec.decode(RoomSnapshot, body) do
      {:ok, snapshot} -> snapshot
      {:error, _} -> nil
    end
  end

  @doc "Trims the log to the newest place that is old enough for every reader to have passed it."
  @spec trim(Core.t()) :: Core.t()
  def trim(%{snap: %{older: nil}} = core), do: core

  def trim(%{snap: %{older: {_, _, older_pos, older_at}} = snap} = core) do
    {now, age_ms} = {core.committed.tail.at, core.rules.trim_age_ms}
    {point, points} = TrimPoints.take(snap.points, older_pos, now, age_ms)
    keep = if now - older_at >= age_ms, do: older_pos, else: point || 0
    snap = %{snap | points: points}
    snap = if keep > snap.trimmed, do: %{snap | trimmed: keep, untold: true}, else: snap

    cond do
      snap.trimmed > 0 and snap.untold ->
        Core.emit(%{core | snap: %{snap | untold: false}}, {:trim, snap.trimmed})

      point == nil ->
        core

      true ->
        %{core | snap: snap}
    end
  end
end
