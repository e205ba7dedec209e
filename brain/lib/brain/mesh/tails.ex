defmodule Brain.Mesh.Tails do
  @moduledoc """
  The heads of rooms that fell silent a moment ago, told in heartbeats: so a Shield notices that the last republish of
  a room was lost on its way.

  A table that the room processes write side by side. The caller gives the time, and where the last heartbeat had to stop.
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

  @doc """
  The tails whose last entry is one to three `round`s old; older ones are forgotten. Ascending by room, from where the last
  heartbeat had to stop: more than fit into one take turns. Beside them the room told last, or nil if all were told.
  """
  @spec settled(t, pos_integer, integer, nil | non_neg_integer) :: {[Tail.t()], nil | non_neg_integer}
  def settled(tails, round, now, told) do
    :ets.select_delete(tails, [{{:_, :_, :_, :_, :"$1"}, [{:<, :"$1", now - 3 * round}], [true]}])

    {before, rest} =
      tails
      |> :ets.select([{{:_, :_, :_, :_, :"$1"}, [{:"=<", :"$1", now - round}], [:"$_"]}])
      |> Enum.sort()
      |> Enum.split_while(fn tail -> told != nil and elem(tail, 0) <= told end)

    {some, more} = Enum.split(rest ++ before, @tails_max)
    some = Enum.map(some, fn {room, epoch, term, pos, _} -> %Tail{room: room, epoch: epoch, term: term, pos: pos} end)
    {some, if(more != [], do: List.last(some).room)}
  end
end
