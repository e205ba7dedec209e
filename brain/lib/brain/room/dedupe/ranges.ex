defmodule Brain.Room.Dedupe.Ranges do
  @moduledoc """
  Timestamps of forgotten commands: few closed ranges that hold every one of them, and as little else as they can. They are
  ascending, and between two of them lies at least one timestamp.
  """

  # The most ranges of one user.
  @ranges_max 8

  @type t :: [{lo :: integer(), hi :: integer()}]

  @doc "True if one of them holds it."
  @spec hold?(t(), integer()) :: boolean()
  def hold?([{lo, _hi} | _rest], timestamp) when timestamp < lo, do: false
  def hold?([{_lo, hi} | _rest], timestamp) when timestamp <= hi, do: true
  def hold?([_below | rest], timestamp), do: hold?(rest, timestamp)
  def hold?([], _timestamp), do: false

  @doc "The highest timestamp that they hold; `nil`: there are none."
  @spec highest(t()) :: nil | integer()
  def highest([]), do: nil
  def highest(ranges), do: elem(List.last(ranges), 1)

  @doc "Adds one. Beyond 8 the two neighbours with the smallest gap become one, of several the lowest."
  @spec add(t(), integer(), integer()) :: t()
  def add(ranges, lo, hi) do
    ranges = put(ranges, lo, hi)
    if length(ranges) > @ranges_max, do: join(ranges, smallest_gap(ranges)), else: ranges
  end

  defp put([{_, below} = range | rest], lo, hi) when below + 1 < lo, do: [range | put(rest, lo, hi)]
  defp put([{above, _} | _] = ranges, lo, hi) when above > hi + 1, do: [{lo, hi} | ranges]
  defp put([{first, last} | rest], lo, hi), do: put(rest, min(lo, first), max(hi, last))
  defp put([], lo, hi), do: [{lo, hi}]

  defp smallest_gap([{_, hi}, {lo, _} = next | rest]), do: smallest_gap([next | rest], lo - hi)
  defp smallest_gap([{_, hi}, {lo, _} = next | rest], least), do: smallest_gap([next | rest], min(lo - hi, least))
  defp smallest_gap([_last], least), do: least

  defp join([{first, hi}, {lo, last} | rest], gap) when lo - hi == gap, do: [{first, last} | rest]
  defp join([range | rest], gap), do: [range | join(rest, gap)]

  @doc "Drops those that end below `limit`; the highest timestamp of them, or `nil`, and what is left."
  @spec drop_below(t(), integer()) :: {nil | integer(), t()}
  def drop_below(ranges, limit), do: drop_below(ranges, limit, nil)

  defp drop_below([{_, hi} | rest], limit, _gone) when hi < limit, do: drop_below(rest, limit, hi)
  defp drop_below(ranges, _limit, gone), do: {gone, ranges}
end
