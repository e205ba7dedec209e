defmodule Brain.Id do
  @moduledoc """
  Identifiers, as in `proto/src/id.rs`: `[A-Za-z0-9][A-Za-z0-9_-]*` up to a length. Nothing that passes holds `.`, `*`,
  `>`, a space or a line break, so it cannot change the shape of a subject.

      iex> Brain.Id.parse(:room, "lobby-1")
      {:ok, "lobby-1"}
      iex> Brain.Id.parse(:room, "a.*")
      {:error, "a room id must be [A-Za-z0-9][A-Za-z0-9_-]{0,127}"}
  """

  @typedoc "What is named: a customer, a room of it, a user of it, one of our own processes."
  @type kind :: :tenant | :room | :user | :node

  @typedoc "An accepted id."
  @type t :: binary()

  @typedoc "A room anywhere."
  @type room_key :: {tenant :: t(), room :: t()}

  @doc "The longest id of a kind, in bytes."
  @spec max(kind()) :: pos_integer()
  def max(kind) when kind in [:tenant, :node], do: 64
  def max(kind) when kind in [:room, :user], do: 128

  @doc "The text if it is an id, else why not."
  @spec parse(kind(), binary()) :: {:ok, t()} | {:error, binary()}
  def parse(kind, text) do
    if valid?(kind, text) do
      {:ok, text}
    else
      {:error, "a #{kind} id must be [A-Za-z0-9][A-Za-z0-9_-]{0,#{max(kind) - 1}}"}
    end
  end

  @doc "True if the text is an id of this kind."
  @spec valid?(kind(), binary()) :: boolean()
  def valid?(kind, text), do: id?(text, max(kind))

  @doc "True for `[A-Za-z0-9][A-Za-z0-9_-]{0,max-1}`."
  @spec id?(binary(), pos_integer()) :: boolean()
  def id?(<<first, rest::binary>>, max) when first in ?A..?Z or first in ?a..?z or first in ?0..?9 do
    byte_size(rest) < max and rest?(rest)
  end

  def id?(_text, _max), do: false

  defp rest?(<<c, rest::binary>>) when c in ?a..?z or c in ?0..?9 or c in ?A..?Z or c == ?_ or c == ?-, do: rest?(rest)
  defp rest?(rest), do: rest == <<>>
end
