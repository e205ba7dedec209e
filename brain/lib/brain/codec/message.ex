defmodule Brain.Codec.Message do
  @moduledoc """
  Makes a message's struct, encoder and decoder from its field table, at compile time.

  A row is `{number, name, kind, shape}`. Kinds: `:bool :uint32 :uint64 :int64 :fixed64 :string :bytes`, `{:enum, module}`,
  `{:message, module}`. Shapes: `:single` (a default when absent), `:optional` (nil when absent), `:repeated`,
  `{:oneof, name}` (one member of the struct, nil or `{field, value}`).

  The decoder keeps every member in an argument of its own and goes through the bytes in tail calls: no struct is built
  before the end, and the binary's match context is used all along.
  """

  import Bitwise

  alias Brain.Codec.Wire

  @typedoc "What a field holds."
  @type kind ::
          :bool | :uint32 | :uint64 | :int64 | :fixed64 | :string | :bytes | {:enum, module()} | {:message, module()}
  @typedoc "How often it may occur."
  @type shape :: :single | :optional | :repeated | {:oneof, atom()}
  @typedoc "A row of the table."
  @type field :: {number :: pos_integer(), name :: atom(), kind(), shape()}

  @doc false
  defmacro __using__(_options) do
    quote do
      import Brain.Codec.Message, only: [message: 1]
    end
  end

  @doc "Defines the struct, `__fields__/0`, `__encode__/1`, `__decode__/2` and `__merge__/3` from the table, ascending by number."
  defmacro message(table) do
    {fields, _} = Code.eval_quoted(table, [], __CALLER__)
    members = members(fields)

    quote do
      defstruct unquote(Macro.escape(for {name, shape, row} <- members, do: {name, default(shape, row)}))

      @doc false
      @spec __fields__() :: [Brain.Codec.Message.field()]
      def __fields__, do: unquote(Macro.escape(fields))

      unquote(rows(fields, members))
      unquote(encoder(members))
      unquote(decoder(fields, members))
    end
  end

  # The struct's members, ascending by number: {name, shape, row}, for a oneof all its rows.
  defp members(fields) do
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

  defp default(:repeated, _row), do: []
  defp default(:single, {_, _, kind, _}), do: zero(kind)
  defp default(_shape, _row), do: nil

  defp zero(:bool), do: false
  defp zero(kind) when kind in [:string, :bytes], do: ""
  defp zero({:enum, module}), do: Code.ensure_compiled!(module).name(0)
  defp zero(_number), do: 0

  defp key({number, _, kind, _}), do: number <<< 3 ||| wire_type(kind)

  defp wire_type(:fixed64), do: 1
  defp wire_type(kind) when kind in [:string, :bytes], do: 2
  defp wire_type({:message, _}), do: 2
  defp wire_type(_varint), do: 0

  defp variable(name), do: Macro.var(:"#{name}_", __MODULE__)

  # === the canonical rule's view of the table: {kind, may repeat, bit of its oneof}

  # The rule knows no packed fields, as in proto/build.rs; a message that has one has no rows.
  defp rows(fields, members) do
    unless Enum.any?(fields, fn {_, _, kind, shape} -> shape == :repeated and packable?(kind) end) do
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

  # === the encoder: an iolist from its end, each member put before what follows it

  defp encoder(members) do
    pattern = for {name, _, _} <- members, do: {name, variable(name)}
    tail = quote(do: tail)

    puts =
      for {name, shape, row} <- Enum.reverse(members) do
        quote(do: unquote(tail) = unquote(put(shape, row, variable(name), tail)))
      end

    quote do
      @doc false
      @spec __encode__(t()) :: iolist()
      def __encode__(%__MODULE__{unquote_splicing(pattern)}) do
        unquote(tail) = []
        unquote_splicing(puts)
        unquote(tail)
      end
    end
  end

  defp put(:single, {_, _, kind, _} = row, value, tail) do
    quote do
      case unquote(value) do
        unquote(zero(kind)) -> unquote(tail)
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
    clauses =
      for {_, name, _, _} = row <- rows, [clause] = clause(name, row, tail) do
        clause
      end

    absent = quote(do: (nil -> unquote(tail)))
    {:case, [], [value, [do: absent ++ clauses]]}
  end

  defp put(:repeated, {number, _, kind, _} = row, value, tail) do
    case kind do
      kind when kind in [:string, :bytes] or elem(kind, 0) == :message ->
        quote do
          List.foldr(unquote(value), unquote(tail), fn value, tail ->
            unquote(write(row, quote(do: value), quote(do: tail)))
          end)
        end

      kind ->
        quote do
          case unquote(value) do
            [] ->
              unquote(tail)

            values ->
              packed = Enum.map(values, fn value -> unquote(number(kind, quote(do: value))) end)
              unquote(write({number, nil, :packed, :single}, quote(do: packed), tail))
          end
        end
    end
  end

  defp clause(name, row, tail) do
    quote do
      {unquote(name), value} -> unquote(write(row, quote(do: value), tail))
    end
  end

  # Key and value before `tail`.
  defp write({number, _, kind, _}, value, tail) when kind in [:string, :bytes] do
    cons(number <<< 3 ||| 2, quote(do: [Wire.put_varint(byte_size(unquote(value))), unquote(value) | unquote(tail)]))
  end

  defp write({number, _, {:message, module}, _}, value, tail) do
    quote do
      inner = unquote(module).__encode__(unquote(value))
      unquote(cons(number <<< 3 ||| 2, quote(do: [Wire.put_varint(:erlang.iolist_size(inner)), inner | unquote(tail)])))
    end
  end

  defp write({number, _, :packed, _}, value, tail) do
    cons(
      number <<< 3 ||| 2,
      quote(do: [Wire.put_varint(:erlang.iolist_size(unquote(value))), unquote(value) | unquote(tail)])
    )
  end

  defp write({_, _, kind, _} = row, value, tail) do
    cons(key(row), quote(do: [unquote(number(kind, value)) | unquote(tail)]))
  end

  defp cons(key, list) when key < 0x80, do: quote(do: [unquote(key) | unquote(list)])
  defp cons(key, list), do: quote(do: [unquote(Wire.put_varint(key)) | unquote(list)])

  defp number(:bool, value), do: quote(do: Wire.put_bool(unquote(value)))
  defp number(:uint32, value), do: quote(do: Wire.put_uint32(unquote(value)))
  defp number(:uint64, value), do: quote(do: Wire.put_varint(unquote(value)))
  defp number(:int64, value), do: quote(do: Wire.put_int64(unquote(value)))
  defp number(:fixed64, value), do: quote(do: Wire.put_fixed64(unquote(value)))
  defp number({:enum, module}, value), do: quote(do: Wire.put_int64(unquote(module).number(unquote(value))))

  # === the decoder

  defp decoder(fields, members) do
    names = for {name, _, _} <- members, do: variable(name)
    turned = for {name, shape, _} <- members, do: {name, turn(shape, variable(name))}
    pattern = for {name, _, _} <- members, do: {name, variable(name)}
    begin = for {name, shape, _} <- members, do: turn(shape, variable(name))
    defaults = for {_, shape, row} <- members, do: Macro.escape(default(shape, row))
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
  defp readers({_, _, kind, shape} = row, members, names) do
    {name, _, _} = Enum.find(members, fn {name, _, _} -> name == member(row) end)
    held = variable(name)
    key = key(row)

    quick =
      case wire_type(kind) do
        0 -> [reader(key, quote(do: <<0::1, value::7, rest::binary>>), nil, row, held, names)]
        2 -> [reader(key, quote(do: <<0::1, size::7, value::binary-size(size), rest::binary>>), nil, row, held, names)]
        1 -> []
      end

    slow = [reader(key, quote(do: rest), quote(do: {value, rest} = unquote(read(kind))), row, held, names)]
    quick ++ slow ++ if(shape == :repeated and packable?(kind), do: [packed(row, held, names)], else: [])
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

  defp packable?(kind), do: wire_type(kind) != 2

  defp read(kind) do
    case wire_type(kind) do
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
end
