defmodule Brain.Mesh.Tails do
  @moduledoc """
  The heads of rooms that fell silent a moment ago, told in heartbeats: so a Shield notices that the last republish of
  a room was lost on its way.

  A table that the room processes write side by side. The caller gives the time.
  """

  alias Brain.Proto.Internal.Tail

  # The most tails of one heartbeat: about 400 KiB.
  @tails_max 8192

  @type t :: :ets.table()

  @doc "An empty table; it lives as long as the process that made it."
  @spec new :: t
  def new, do: :ets.new(__MODULE__, [:public, :set, write_concurrency: true])

  @doc "An entry of the room with this hash was committed."
  @spec moved(t, non_neg_integer, non_neg_integer, non_neg_integer, non_neg_integer, integer) :: true
  def moved(tails, room, epoch, term, pos, now) do
    :ets.insert(tails, {room, epoch, term, pos, now})
  end

  @doc "The tails whose last entry is one to three `round`s old, ascending by room; older ones are forgotten."
  @spec settled(t, pos_integer, integer) :: [Tail.t()]
  def settled(tails, round, now) do
    :ets.select_delete(tails, [{{:_, :_, :_, :_, :"$1"}, [{:<, :"$1", now - 3 * round}], [true]}])

    tails
    |> :ets.select([{{:_, :_, :_, :_, :"$1"}, [{:"=<", :"$1", now - round}], [:"$_"]}])
    |> Enum.sort()
    |> Enum.take(@tails_max)
    |> Enum.map(fn {room, epoch, term, pos, _} -> %Tail{room: room, epoch: epoch, term: term, pos: pos} end)
  end
end
