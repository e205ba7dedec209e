defmodule Brain.RoomManager do
  @moduledoc """
  The rooms of a node: one process each, which none restarts. A room whose process died is opened by the next command
  for it, from the log; a restart without anybody asking could only fight the owner that took the room meanwhile.
  """

  use DynamicSupervisor

  alias Brain.{Context, Room}

  @doc """
  Starts it under the name `:rooms` of the node's bus, for so many rooms. Beyond, an open is answered `unavailable`, and
  the Shield asks again until another node, or this one, has room.
  """
  @spec start_link({Context.t(), pos_integer}) :: Supervisor.on_start()
  def start_link({context, max}), do: DynamicSupervisor.start_link(__MODULE__, max, name: Context.via(context, :rooms))

  @doc "Starts a room's process. `:max_children`: the node is full."
  @spec start_room(Context.t(), {binary, binary}, pid) :: {:ok, pid} | {:error, term}
  def start_room(context, key, mesh) do
    case DynamicSupervisor.start_child(Context.via(context, :rooms), {Room, {context, key, mesh}}) do
      {:ok, pid} -> {:ok, pid}
      {:error, {:already_started, pid}} -> {:ok, pid}
      other -> {:error, other}
    end
  catch
    # It is being restarted: the next command finds it.
    :exit, reason -> {:error, reason}
  end

  @doc "The process of a room here, if there is one."
  @spec whereis(Context.t(), {binary, binary}) :: nil | pid
  def whereis(context, key) do
    case Registry.lookup(context.bus, {:room, key}) do
      [{room, _}] -> room
      [] -> nil
    end
  end

  @impl true
  def init(max), do: DynamicSupervisor.init(strategy: :one_for_one, max_children: max)
end
