defmodule Brain.Room.Saturating do
  @moduledoc """
  The ends of the wire's numbers. Elixir's integers have none, so what the model keeps within 64 bits is kept there by
  name: a number of a foreign log must not make of an entry what no decoder reads back.
  """

  @u64_max 0xFFFF_FFFF_FFFF_FFFF
  @i64_max 0x7FFF_FFFF_FFFF_FFFF
  @i64_min -0x8000_0000_0000_0000

  @doc "The nearest number that an unsigned 64-bit field holds."
  @spec u64(integer()) :: non_neg_integer()
  def u64(n) when n < 0, do: 0
  def u64(n) when n > @u64_max, do: @u64_max
  def u64(n), do: n

  @doc "The nearest number that a signed 64-bit field holds."
  @spec i64(integer()) :: integer()
  def i64(n) when n > @i64_max, do: @i64_max
  def i64(n) when n < @i64_min, do: @i64_min
  def i64(n), do: n
end
