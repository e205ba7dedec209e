defmodule Brain.Codec.Decoder do
  @moduledoc """
  Makes a message's decoder from its table. Every member is kept in an argument of its own, and the bytes are gone through
  in tail calls: no struct is built before the end, and the binary's match context is used all along. Each row has a clause
  for the short form of its value (one byte of number or length) and one for all others.
  """

  import Bitwise

  alias Brain.Codec.{Table, Wire}

  @doc "The definitions of `__decode__/2` and `__merge__/3`."
  @spec make([Table.field()], [Table.member()]) :: Macro.t()
  def make(fields, members) do
    names = for {name, _, _} <- members, do: variable(name)
    turned = for {name, shape, _} <- members, do: {name, turn(shape, variable(name))}
    pattern = for {name, _, _} <- members, do: {name, variable(name)}
    begin = for {name, shape, _} <- members, do: turn(shape, variable(name))
    defaults = for member <- members, do: Macro.escape(Table.default(member))
    numbers = for {number, _, _, _} <- fields, do: number
    rest = quote(do: rest)
    depth = quote(do: depth)

    clauses = for row <- fields, clause <- readers(row, members, names), do: clause

    quote do
      @doc false
      @spec __decode__(binary(), non_neg_integer()) :: t()
      def __decode__(bytes, unquote(depth)), do: fields(bytes, unquote(depth), unquote_splicing(defaults))

      @doc false
      @spec __merge__(t(), binary(), non_neg_integer()) :: t()
      def __merge__(%__MODULE__{unquote_splicing(pattern)}, bytes, unquote(depth)) do
        fields(bytes, unquote(depth), unquote_splicing(begin))
      end

      defp fields(<<>>, _depth, unquote_splicing(names)), do: %__MODULE__{unquote_splicing(turned)}

      defp fields(<<0::1, key::7, unquote(rest)::binary>>, unquote(depth), unquote_splicing(names)) do
        field(key, unquote(rest), unquote(depth), unquote_splicing(names))
      end

      # Numbers 16 ..= 2047.
      defp fields(<<1::1, low::7, 0::1, high::7, unquote(rest)::binary>>, unquote(depth), unquote_splicing(names)) do
        field(Bitwise.bsl(high, 7) + low, unquote(rest), unquote(depth), unquote_splicing(names))
      end

      defp fields(bytes, unquote(depth), unquote_splicing(names)) do
        {key, unquote(rest)} = Wire.key(bytes)
        field(key, unquote(rest), unquote(depth), unquote_splicing(names))
      end

      unquote_splicing(clauses)

      # Another wire type than the schema's, or a field that it does not know.
      defp field(key, unquote(rest), unquote(depth), unquote_splicing(names)) do
        unquote(rest) =
          if Bitwise.bsr(key, 3) in unquote(numbers) do
            Wire.fail(:wire_type)
          else
            Wire.skip(key, unquote(rest), unquote(depth))
          end

        fields(unquote(rest), unquote(depth), unquote_splicing(names))
      end
    end
  end

  defp turn(:repeated, value), do: quote(do: :lists.reverse(unquote(value)))
  defp turn(_shape, value), do: value

  # The clauses of `field` for one row.
  defp readers({_, _, kind, _} = row, members, names) do
    {name, _, _} = Enum.find(members, fn {name, _, _} -> name == member(row) end)
    held = variable(name)
    key = Table.key(row)

    quick =
      case Table.wire_type(kind) do
        0 -> [reader(key, quote(do: <<0::1, value::7, rest::binary>>), nil, row, held, names)]
        2 -> [reader(key, quote(do: <<0::1, size::7, value::binary-size(size), rest::binary>>), nil, row, held, names)]
        1 -> []
      end

    slow = [reader(key, quote(do: rest), quote(do: {value, rest} = unquote(read(kind))), row, held, names)]
    quick ++ slow ++ if(Table.packed?(row), do: [packed(row, held, names)], else: [])
  end

  defp member({_, _, _, {:oneof, name}}), do: name
  defp member({_, name, _, _}), do: name

  defp reader(key, pattern, prepare, row, held, names) do
    quote do
      defp field(unquote(key), unquote(pattern), depth, unquote_splicing(names)) do
        unquote(prepare)
        unquote(held) = unquote(take(row, quote(do: value), held))
        fields(rest, depth, unquote_splicing(names))
      end
    end
  end

  defp packed({number, _, kind, _}, held, names) do
    quote do
      defp field(unquote(number <<< 3 ||| 2), rest, depth, unquote_splicing(names)) do
        {bytes, rest} = Wire.bytes(rest)

        read = fn rest ->
          {value, rest} = unquote(read(kind))
          {unquote(convert(kind, quote(do: value))), rest}
        end

        unquote(held) = Wire.packed(bytes, read, unquote(held))
        fields(rest, depth, unquote_splicing(names))
      end
    end
  end

  defp read(kind) do
    case Table.wire_type(kind) do
      0 -> quote(do: Wire.varint(rest))
      1 -> quote(do: Wire.fixed64(rest))
      2 -> quote(do: Wire.bytes(rest))
    end
  end

  # What the member holds after `value` was read.
  defp take({_, _, {:message, module}, shape} = row, value, held) do
    {_, name, _, _} = row
    merge = fn into -> quote(do: unquote(module).__merge__(unquote(into), unquote(value), Wire.deeper(depth))) end
    new = quote(do: unquote(module).__decode__(unquote(value), Wire.deeper(depth)))

    case shape do
      :repeated -> quote(do: [unquote(new) | unquote(held)])
      :optional -> quote(do: if(unquote(held) == nil, do: unquote(new), else: unquote(merge.(held))))
      {:oneof, _} -> oneof(name, held, new, merge)
    end
  end

  defp take({_, name, kind, shape}, value, held) do
    value = convert(kind, value)

    case shape do
      :repeated -> quote(do: [unquote(value) | unquote(held)])
      {:oneof, _} -> quote(do: {unquote(name), unquote(value)})
      _ -> value
    end
  end

  # A member that is there already is merged, another one is replaced.
  defp oneof(name, held, new, merge) do
    quote do
      case unquote(held) do
        {unquote(name), old} -> {unquote(name), unquote(merge.(quote(do: old)))}
        _ -> {unquote(name), unquote(new)}
      end
    end
  end

  defp convert(:bool, value), do: quote(do: unquote(value) != 0)
  defp convert(:uint32, value), do: quote(do: Bitwise.band(unquote(value), 0xFFFF_FFFF))
  defp convert(:int64, value), do: quote(do: Wire.int64(unquote(value)))
  defp convert(:string, value), do: quote(do: Wire.utf8(unquote(value)))
  defp convert({:enum, module}, value), do: quote(do: unquote(module).name(Wire.int32(unquote(value))))
  defp convert(_kind, value), do: value

  defp variable(name), do: Macro.var(:"#{name}_", __MODULE__)
end
