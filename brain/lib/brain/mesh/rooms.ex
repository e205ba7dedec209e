defmodule Brain.Mesh.Rooms do
  @moduledoc """
  The rooms of this node as the Mesh knows them: which are here, and which were lost to another owner a moment ago and are
  not taken again yet. Owned by the Mesh, whose monitors it holds.
  """

  require Logger

  alias Brain.{Context, Id, Metrics, Room, RoomManager}
  alias Brain.Mesh.Snapshots

  # A room that was lost to another owner is not taken again for this long, and a random part of it more.
  @keep_away_ms 5000

  @enforce_keys [:context]
  # `here`: key => its process and the monitor of it; `monitors`: which room a monitor is of; `tenants`: how many rooms of
  # each tenant are here; `away`: key => until when to stay away.
  defstruct [:context, here: %{}, monitors: %{}, tenants: %{}, away: %{}]

  @type t :: %__MODULE__{
          context: Context.t(),
          here: %{Id.room_key() => {pid, reference}},
          monitors: %{reference => Id.room_key()},
          tenants: %{Id.t() => pos_integer},
          away: %{Id.room_key() => integer}
        }

  @doc "None yet. What the metrics say of the rooms of a process before this one is corrected."
  @spec new(Context.t()) :: t
  def new(context) do
    Snapshots.none(context)
    count(%__MODULE__{context: context})
  end

  @doc "True if the room is here."
  @spec here?(t, Id.room_key()) :: boolean
  def here?(rooms, key), do: is_map_key(rooms.here, key)

  @doc "True if this node must not take the room now."
  @spec away?(t, Id.room_key()) :: boolean
  def away?(rooms, key), do: is_map_key(rooms.away, key)

  @doc "True if none is here."
  @spec empty?(t) :: boolean
  def empty?(rooms), do: rooms.here == %{}

  @doc "Has the room served here, and `reply` told so; `:unavailable` if that cannot be."
  @spec open(t, Id.room_key(), binary, boolean) :: {:ok | :unavailable, t}
  def open(rooms, key, reply, create) do
    room = here?(rooms, key) && RoomManager.whereis(rooms.context, key)

    cond do
      room ->
        Room.open(room, reply, create)
        {:ok, rooms}

      away?(rooms, key) ->
        {:unavailable, rooms}

      true ->
        start(rooms, key, reply, create)
    end
  end

  # A room that is here keeps its place, whatever became of its process.
  defp start(rooms, {tenant, _} = key, reply, create) do
    %{brain: %{tenant_rooms: max}} = rooms.context.config
    full? = not here?(rooms, key) and Map.get(rooms.tenants, tenant, 0) >= max
    if full?, do: refused(rooms, :tenant_rooms), else: start_room(rooms, key, reply, create)
  end

  defp refused(rooms, reason) do
    Metrics.add(rooms.context.metrics, :rooms_refused)
    Logger.warning("a room could not be started", error: reason)
    {:unavailable, rooms}
  end

  defp start_room(rooms, {tenant, _} = key, reply, create) do
    case RoomManager.start_room(rooms.context, key, self()) do
      {:ok, room} ->
        Room.open(room, reply, create)
        monitor = Process.monitor(room)
        rooms = forget(rooms, key)
        here = Map.put(rooms.here, key, {room, monitor})
        tenants = Map.update(rooms.tenants, tenant, 1, &(&1 + 1))
        {:ok, count(%{rooms | here: here, monitors: Map.put(rooms.monitors, monitor, key), tenants: tenants})}

      {:error, reason} ->
        refused(rooms, reason)
    end
  end

  @doc """
  A room's process says that it ends. It gave its name back before, so that a new one may stand in its place already:
  that one stays.
  """
  @spec ended(t, Id.room_key(), pid, Brain.Room.Core.why()) :: t
  def ended(%__MODULE__{} = rooms, key, process, why) do
    rooms = if why == :fenced, do: keep_away(rooms, key), else: rooms

    case rooms.here do
      %{^key => {^process, _}} -> forget(rooms, key)
      _ -> rooms
    end
  end

  defp keep_away(rooms, key) do
    until = Context.mono_ms(rooms.context) + @keep_away_ms + rem(rooms.context.random.(), @keep_away_ms)
    %{rooms | away: Map.put(rooms.away, key, until)}
  end

  @doc "A process that was monitored is gone; a room of ours that had not said so has crashed."
  @spec down(t, reference) :: t
  def down(%__MODULE__{} = rooms, monitor) do
    case rooms.monitors do
      %{^monitor => key} ->
        Metrics.add(rooms.context.metrics, :rooms_crashed)
        forget(rooms, key)

      _ ->
        rooms
    end
  end

  @doc "Forgets what need not be stayed away from any more."
  @spec tidy(t) :: t
  def tidy(rooms) do
    now = Context.mono_ms(rooms.context)
    %{rooms | away: for({key, until} <- rooms.away, until > now, into: %{}, do: {key, until})}
  end

  @doc "Asks every room to finish, answer and end."
  @spec stop(t) :: :ok
  def stop(rooms) do
    for {key, _} <- rooms.here, room = RoomManager.whereis(rooms.context, key), do: Room.stop(room)
    :ok
  end

  defp forget(rooms, key) do
    case Map.pop(rooms.here, key) do
      {nil, _} ->
        rooms

      {{_, monitor}, here} ->
        Process.demonitor(monitor, [:flush])
        Snapshots.left(rooms.context, key)
        tenants = fewer(rooms.tenants, elem(key, 0))
        count(%{rooms | here: here, monitors: Map.delete(rooms.monitors, monitor), tenants: tenants})
    end
  end

  defp fewer(tenants, tenant) do
    case tenants do
      %{^tenant => 1} -> Map.delete(tenants, tenant)
      %{^tenant => count} -> %{tenants | tenant => count - 1}
    end
  end

  defp count(rooms) do
    Metrics.set(rooms.context.metrics, :rooms, map_size(rooms.here))
    rooms
  end
end
