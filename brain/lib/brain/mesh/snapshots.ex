defmodule Brain.Mesh.Snapshots do
  @moduledoc """
  Which rooms of this node have a snapshot that is not stored yet, for the metrics: from the moment when a room wants it
  until it is stored or the room leaves. A table that the rooms write side by side.
  """

  alias Brain.{Context, Id, Metrics}

  @type t :: :ets.table()

  @doc "An empty table; it lives as long as the process that made it."
  @spec new :: t
  def new, do: :ets.new(__MODULE__, [:public, :set, write_concurrency: true])

  @doc "A room writes a snapshot."
  @spec begun(Context.t(), Id.room_key()) :: :ok
  def begun(context, key) do
    :ets.insert(context.snapshots, {key})
    shown(context)
  end

  @doc "A call of the room has this result; others than a snapshot's change nothing."
  @spec ended(Context.t(), Id.room_key(), term) :: :ok
  def ended(context, key, {:snapshot_written, _token, {:stored, _}}) do
    Metrics.add(context.metrics, :snapshots)
    left(context, key)
  end

  def ended(context, _key, {:snapshot_written, _token, _}), do: Metrics.add(context.metrics, :snapshots_failed)
  def ended(_context, _key, _), do: :ok

  @doc "The room is not here any more."
  @spec left(Context.t(), Id.room_key()) :: :ok
  def left(context, key) do
    :ets.delete(context.snapshots, key)
    shown(context)
  end

  @doc "No room is here any more."
  @spec none(Context.t()) :: :ok
  def none(context) do
    :ets.delete_all_objects(context.snapshots)
    shown(context)
  end

  @doc "Sets the gauge. Two rooms may set it in the wrong order, so every heartbeat sets it again."
  @spec shown(Context.t()) :: :ok
  def shown(context), do: Metrics.set(context.metrics, :snapshots_pending, :ets.info(context.snapshots, :size))
end
