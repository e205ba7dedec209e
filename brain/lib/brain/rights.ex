defmodule Brain.Rights do
  @moduledoc """
  What a user may do in one room: the bits of `Sender.rights`, resolved by the Shield from the token's grants.
  """

  import Bitwise

  @typedoc "A set of rights: the bits as they travel."
  @type t :: non_neg_integer()

  @typedoc "One right: subscribe; `say`; `set`, `delete`; moderate."
  @type right :: :sub | :pub | :state | :mod

  @doc "True if `right` is in the set."
  @spec has?(t(), right()) :: boolean()
  def has?(rights, :sub), do: (rights &&& 1) != 0
  def has?(rights, :pub), do: (rights &&& 2) != 0
  def has?(rights, :state), do: (rights &&& 4) != 0
  def has?(rights, :mod), do: (rights &&& 16) != 0
end
