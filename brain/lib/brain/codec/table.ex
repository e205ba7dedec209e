defmodule Brain.Codec.Table do
  @moduledoc """
  What the makers of the codec read from a message's field table, at compile time.

  A row is `{number, name, kind, shape}`. Kinds: `:bool :uint32 :uint64 :int64 :fixed64 :string :bytes`, `{:enum, module}`,
  `{:message, module}`. Shapes: `:single` (a default when absent), `:optional` (nil when absent), `:repeated`,
  `{:oneof, name}` (one member of the struct, nil or `{field, value}`).
  """

  import Bitwise

  @typedoc "What a field holds."
  @type kind ::
          :bool | :uint32 | :uint64 | :int64 | :fixed64 | :string | :bytes | {:enum, module()} | {:message, module()}
  @typedoc "How often it may occur."
  @type shape :: :single | :optional | :repeated | {:oneof, atom()}
  @typedoc "A row of the table."
  @type field :: {number :: pos_integer(), name :: atom(), kind(), shape()}
  @typedoc "A member of the struct, with its row; for a oneof all its rows."
  @type member :: {name :: atom(), :single | :optional | :repeated, field()} | {name :: atom(), :oneof, [field()]}

  @doc "The struct's members, ascending by number. The fields of a oneof stand together."
  @spec members([field()]) :: [member()]
  def members(fields) do
    fields
    |> Enum.chunk_by(fn
      {_, _, _, {:oneof, name}} -> {:oneof, name}
      {number, _, _, _} -> number
    end)
    |> Enum.map(fn
      [{_, _, _, {:oneof, name}} | _] = rows -> {name, :oneof, rows}
      [{_, name, _, shape} = row] -> {name, shape, row}
    end)
  end

  @doc "What the member holds when nothing was read."
  @spec default(member()) :: term()
  def default({_, :repeated, _}), do: []
  def default({_, :single, {_, _, kind, _}}), do: zero(kind)
  def default({_, _, _}), do: nil

  @doc "The value that is left out."
  @spec zero(kind()) :: term()
  def zero(:bool), do: false
  def zero(kind) when kind in [:string, :bytes], do: ""
  def zero({:enum, module}), do: Code.ensure_compiled!(module).name(0)
  def zero(_number), do: 0

  @doc "The key of a row's value on the wire; packed numbers have another one."
  @spec key(field()) :: pos_integer()
  def key({number, _, kind, _}), do: number <<< 3 ||| wire_type(kind)

  @doc "The wire type of a kind: 0 varint, 1 eight bytes, 2 length and bytes."
  @spec wire_type(kind()) :: 0..2
  def wire_type(:fixed64), do: 1
  def wire_type(kind) when kind in [:string, :bytes], do: 2
  def wire_type({:message, _}), do: 2
  def wire_type(_varint), do: 0

  @doc "True for a repeated field of numbers, which travels as one value."
  @spec packed?(field()) :: boolean()
  def packed?({_, _, kind, shape}), do: shape == :repeated and wire_type(kind) != 2
end
