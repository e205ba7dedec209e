defmodule Brain.Room.Core.Snapshot do
  @moduledoc """
  Snapshots: when one is due, and what may be trimmed after it. A snapshot only ever shortens a load; the log is the
  truth, so a failed one is no harm.
  """

  alias Brain.Codec
  alias Brain.Proto.Internal.RoomSnapshot
  alias Brain.Room.{Core, Fold}
  alias Brain.Room.Core.Open

  @typedoc "A stored snapshot: where in the room's log it stands, and the room's time there."
  @type stored :: {log_pos :: non_neg_integer, at :: integer}

  defmodule Known do
    @moduledoc """
    What is known of the room's snapshots. `fence`: position of the last one in its stream; `nil`: not known, so none can
    be written. `older`: the older of the two that are kept. `pending`: one on its way, with its size. `entries` and
    `bytes`: how far the log grew since the newest. `anchoring`: one must be stored before the room is served.
    """

    alias Brain.Room.Core.Snapshot

    defstruct fence: nil,
              newest: nil,
              older: nil,
              trimmed: 0,
              pending: nil,
              entries: 0,
              bytes: 0,
              size: 0,
              anchoring: false

    @type t :: %__MODULE__{
            fence: nil | non_neg_integer,
            newest: nil | Snapshot.stored(),
            older: nil | Snapshot.stored(),
            trimmed: non_neg_integer,
            pending: nil | {Brain.Room.Core.token(), Snapshot.stored(), non_neg_integer},
            entries: non_neg_integer,
            bytes: non_neg_integer,
            size: non_neg_integer,
            anchoring: boolean
          }
  end

  @doc "What a load found, newest first, each with what could be decoded of it."
  @spec found([{Core.stored(), nil | RoomSnapshot.t()}]) :: Known.t()
  def found([]), do: %Known{fence: 0}

  def found([{{pos, body}, newest} | older]) do
    older =
      case older do
        [{_stored, snapshot} | _] -> stored(snapshot)
        [] -> nil
      end

    %Known{fence: pos, newest: stored(newest), older: older, size: byte_size(body)}
  end

  defp stored(nil), do: nil
  defp stored(%{pos: pos, state: nil}), do: {pos, 0}
  defp stored(%{pos: pos, state: state}), do: {pos, state.at}

  @doc "The fold begins, from the newest snapshot or from the room's first entry."
  @spec begin(Known.t(), boolean) :: Known.t()
  def begin(known, true), do: %{known | entries: 0, bytes: 0}
  def begin(known, false), do: %{known | entries: 0, bytes: 0, newest: nil, older: nil}

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
      snap.fence == nil or match?({^pos, _at}, snap.newest) -> {:quiet, core}
      true -> {:pending, write_snapshot(core)}
    end
  end

  @doc "Sends the committed state on its way."
  @spec write_snapshot(Core.t()) :: Core.t()
  def write_snapshot(core) do
    {core, token} = Core.next_token(core)
    body = core.committed |> Fold.snapshot() |> Codec.encode()
    stored = {core.committed.tail.pos, core.committed.tail.at}
    snap = %{core.snap | pending: {token, stored, byte_size(body)}}
    Core.emit(%{core | snap: snap}, {:write_snapshot, token, snap.fence || 0, body})
  end

  @doc "A snapshot's append ended."
  @spec on_snapshot_written(Core.t(), Core.token(), Core.outcome()) :: Core.t()
  def on_snapshot_written(%{snap: %{pending: {token, stored, size}}} = core, token, outcome) do
    case outcome do
      {:stored, pos} -> written(core, pos, stored, size)
      _ -> lost(core)
    end
  end

  def on_snapshot_written(core, _token, _outcome), do: core

  # Perhaps stored, perhaps another owner's turn: nothing is known until the next load.
  defp lost(core) do
    core = %{core | snap: %{core.snap | pending: nil, fence: nil}}
    if core.phase == :anchoring, do: Core.pause(core), else: core
  end

  defp written(core, pos, stored, size) do
    snap = %{
      core.snap
      | pending: nil,
        fence: pos,
        older: core.snap.newest,
        newest: stored,
        size: size,
        entries: 0,
        bytes: 0,
        anchoring: false
    }

    core = trim(%{core | snap: snap})
    if core.phase == :anchoring, do: Open.begin_serving(core), else: core
  end

  # The log below the *older* snapshot may go, once that one is old enough for every reader to have passed it.
  defp trim(%{snap: %{older: nil}} = core), do: core

  defp trim(%{snap: %{older: {log_pos, at}} = snap} = core) do
    old_enough? = core.committed.tail.at - at >= core.rules.trim_age_ms

    if old_enough? and log_pos > snap.trimmed,
      do: Core.emit(%{core | snap: %{snap | trimmed: log_pos}}, {:trim, log_pos}),
      else: core
  end
end
