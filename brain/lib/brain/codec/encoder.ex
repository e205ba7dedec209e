defmodule Brain.Codec.Encoder do
  @moduledoc """
  Makes a message's encoder from its table. It builds an iolist from its end: each member is put before what follows it, so
  nothing is appended and nothing copied before the whole becomes one binary. A message within may be its bytes already.
  """

  import Bitwise

  alias Brain.Codec.{Table, Wire}

  @doc "The definition of `__encode__/1`."
  @spec make([Table.member()]) :: Macro.t()
  def make(members) do
    pattern = for {name, _, _} <- members, do: {name, variable(name)}
    tail = quote(do: tail)

    puts =
      for {name, shape, row} <- Enum.reverse(members) do
        quote(do: unquote(tail) = unquote(put(shape, row, variable(name), tail)))
      end

    quote do
      @doc false
      @spec __encode__(t() | binary()) :: iodata()
      def __encode__(encoded) when is_binary(encoded), do: encoded

      def __encode__(%__MODULE__{unquote_splicing(pattern)}) do
        unquote(tail) = []
        unquote_splicing(puts)
        unquote(tail)
      end
    end
  end

  defp put(:single, {_, _, kind, _} = row, value, tail) do
    # An enum's 0 may come by its name or as the number.
    zeros = if match?({:enum, _}, kind), do: [Table.zero(kind), 0], else: [Table.zero(kind)]

    quote do
      case unquote(value) do
        zero when zero in unquote(zeros) -> unquote(tail)
        value -> unquote(write(row, quote(do: value), tail))
      end
    end
  end

  defp put(:optional, row, value, tail) do
    quote do
      case unquote(value) do
        nil -> unquote(tail)
        value -> unquote(write(row, quote(do: value), tail))
      end
    end
  end

  defp put(:oneof, rows, value, tail) do
    absent = quote(do: (nil -> unquote(tail)))
    {:case, [], [value, [do: absent ++ Enum.flat_map(rows, &clause(&1, tail))]]}
  end

  defp put(:repeated, {number, _, kind, _} = row, value, tail) do
    if Table.packed?(row) do
      quote do
        case unquote(value) do
          [] ->
            unquote(tail)

          values ->
            packed = Enum.map(values, fn value -> unquote(number(kind, quote(do: value))) end)
            unquote(cons(number <<< 3 ||| 2, sized(quote(do: packed), tail)))
        end
      end
    else
      quote do
        List.foldr(unquote(value), unquote(tail), fn value, tail ->
          unquote(write(row, quote(do: value), quote(do: tail)))
        end)
      end
    end
  end

  defp clause({_, name, _, _} = row, tail) do
    quote do
      {unquote(name), value} -> unquote(write(row, quote(do: value), tail))
    end
  end

  # Key and value before `tail`.
  defp write({_, _, kind, _} = row, value, tail) when kind in [:string, :bytes] do
    cons(Table.key(row), quote(do: [Wire.put_varint(byte_size(unquote(value))), unquote(value) | unquote(tail)]))
  end

  defp write({_, _, {:message, module}, _} = row, value, tail) do
    quote do
      inner = unquote(module).__encode__(unquote(value))
      unquote(cons(Table.key(row), sized(quote(do: inner), tail)))
    end
  end

  defp write({_, _, kind, _} = row, value, tail) do
    cons(Table.key(row), quote(do: [unquote(number(kind, value)) | unquote(tail)]))
  end

  defp sized(inner, tail) do
    quote(do: [Wire.put_varint(:erlang.iolist_size(unquote(inner))), unquote(inner) | unquote(tail)])
  end

  defp cons(key, list) when key < 0x80, do: quote(do: [unquote(key) | unquote(list)])
  defp cons(key, list), do: quote(do: [unquote(Wire.put_varint(key)) | unquote(list)])

  defp number(:bool, value), do: quote(do: Wire.put_bool(unquote(value)))
  defp number(:uint32, value), do: quote(do: Wire.put_uint32(unquote(value)))
  defp number(:uint64, value), do: quote(do: Wire.put_varint(unquote(value)))
  defp number(:int64, value), do: quote(do: Wire.put_int64(unquote(value)))
  defp number(:fixed64, value), do: quote(do: Wire.put_fixed64(unquote(value)))
  defp number({:enum, module}, value), do: quote(do: Wire.put_int64(unquote(module).number(unquote(value))))

  defp variable(name), do: Macro.var(:"#{name}_", __MODULE__)
end
