defmodule Brain.Room.Core.TrimPoints do
  @moduledoc """
  Earlier snapshots' places that the log may be trimmed to once they are old enough, each with the room's time there,
  ascending. At most 24, and any two with one between them are at least an eighth of the age apart.
  """

  alias Brain.Proto.Internal.{RoomSnapshot, TrimPoint}

  @points_max 24
  # Trim points are this part of the age apart.
  @gaps 8

  @type point :: {pos :: non_neg_integer, at :: integer}
  @type t :: [point]

  @doc "Those that a snapshot carries, and its own. What no writer of ours could have written is left out."
  @spec of(RoomSnapshot.t(), integer) :: t
  def of(snapshot, age_ms) do
    at = if snapshot.state == nil, do: 0, else: snapshot.state.at
    carried = for point <- snapshot.trims, point.pos < snapshot.pos, point.at <= at, do: {point.pos, point.at}
    Enum.reduce(carried ++ [{snapshot.pos, at}], [], &push(&2, &1, age_ms))
  end

  @doc "For a snapshot to carry."
  @spec encode(t) :: [TrimPoint.t()]
  def encode(points), do: for({pos, at} <- points, do: %TrimPoint{pos: pos, at: at})

  @doc """
  Another one. The last gives way to it if the one before the last is close, so the last one before a pause stays. A full
  list spans more than the age, so that its first may go: the second is old enough as well.
  """
  @spec push(t, point, integer) :: t
  def push(points, {pos, at} = point, age_ms) do
    gap_ms = max(div(age_ms, @gaps), 1)

    case Enum.reverse(points) do
      [{last_pos, last_at} | _] when pos <= last_pos or at < last_at -> points
      [_last, {_, before_at} = before | rest] when at - before_at < gap_ms -> Enum.reverse([point, before | rest])
      newest_first when length(newest_first) >= @points_max -> tl(points) ++ [point]
      _ -> points ++ [point]
    end
  end

  @doc "Takes the newest that is old enough at the room's time `now` and not above `limit`, and all before it."
  @spec take(t, non_neg_integer, integer, integer) :: {nil | non_neg_integer, t}
  def take(points, limit, now, age_ms), do: take(points, limit, now, age_ms, nil)

  defp take([{pos, at} | rest], limit, now, age_ms, _keep) when pos <= limit and now - at >= age_ms do
    take(rest, limit, now, age_ms, pos)
  end

  defp take(points, _limit, _now, _age_ms, keep), do: {keep, points}
end
