defmodule Brain.Codec.Message do
  @moduledoc """
  Makes a message's module from its field table (`Brain.Codec.Table`), at compile time: the struct, its encoder, its
  decoder, and the rows that the canonical rule looks at.
  """

  import Bitwise

  alias Brain.Codec.{Decoder, Encoder, Table}

  @doc false
  defmacro __using__(_options) do
    quote do
      import Brain.Codec.Message, only: [message: 1]
    end
  end

  @doc """
  Defines the struct, `__fields__/0`, `__row__/1`, `__encode__/1`, `__decode__/2` and `__merge__/3` from the table, which
  ascends by number.
  """
  defmacro message(table) do
    {fields, _} = Code.eval_quoted(table, [], __CALLER__)
    members = Table.members(fields)

    quote do
      defstruct unquote(Macro.escape(for {name, _, _} = member <- members, do: {name, Table.default(member)}))

      @doc false
      @spec __fields__() :: [Brain.Codec.Table.field()]
      def __fields__, do: unquote(Macro.escape(fields))

      unquote(rows(fields, members))
      unquote(Encoder.make(members))
      unquote(Decoder.make(fields, members))
    end
  end

  # The canonical rule's view of the table: {kind, may repeat, bit of its oneof}. The rule knows no packed fields, as in
  # proto/build.rs; a message that has one has no rows.
  defp rows(fields, members) do
    unless Enum.any?(fields, &Table.packed?/1) do
      oneofs = for {name, :oneof, _} <- members, do: name

      clauses =
        for {number, _, kind, shape} <- fields do
          kind = if match?({:enum, _}, kind), do: :enum, else: kind

          bit =
            case shape do
              {:oneof, name} -> 1 <<< Enum.find_index(oneofs, &(&1 == name))
              _ -> 0
            end

          quote(do: def(__row__(unquote(number)), do: unquote(Macro.escape({kind, shape == :repeated, bit}))))
        end

      quote do
        @doc false
        @spec __row__(pos_integer()) :: Brain.Codec.Canonical.row() | nil
        unquote_splicing(clauses)
        def __row__(_number), do: nil
      end
    end
  end
end
