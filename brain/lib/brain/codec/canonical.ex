defmodule Brain.Codec.Canonical do
  @moduledoc """
  The canonical rule, the twin of `proto/src/canonical.rs`, which says why it is there: the one encoding that every decoder
  reads alike. Same faults, same places, same order of checks:

  * consumed exactly; every length within the rest; numbers 1 ..= 2^29−1;
  * tags and varints minimal, no groups, the wire type as the schema says;
  * fields ascending, a non-repeated one at most once, at most one member of a oneof;
  * strings UTF-8, bool 0 or 1, `uint32` within 32 bits, enums within 0 ..= 2^31−1;
  * fields that the schema does not know only with numbers 32 ..= 999 (they may repeat), at most 64 in the whole envelope.

  `item/4` applies the rule to one field of one message; `check/4` descends. The depth is bounded by the schema.
  """

  import Bitwise

  alias Brain.Codec.Wire

  @unknown_max 64
  @unknown_first 32
  @unknown_last 999
  @u32_max 0xFFFF_FFFF

  @typedoc """
  Where and how bytes break the rule: `:malformed_envelope` where every decoder refuses, `:non_canonical_envelope` where
  some would read on; the field number, 0 where none was read; the offset from the start of the outermost message.
  """
  @type fault :: %{code: Brain.Code.t(), detail: binary(), field: non_neg_integer(), at: non_neg_integer()}

  @typedoc """
  How far one message was read: the last number, a bit for each oneof that has a member, and how many unknown fields may
  still come, which one envelope and all messages within it share.
  """
  @type state :: {last :: non_neg_integer(), oneofs :: non_neg_integer(), budget :: non_neg_integer()}

  @typedoc "A row as the rule needs it: what it holds, true if it may repeat, the bit of its oneof or 0."
  @type row :: {atom() | {:message, module()}, boolean(), non_neg_integer()}

  @typedoc "One field as read; the row is nil for an unknown one, the value a number or bytes."
  @type item :: {number :: pos_integer(), row() | nil, value :: non_neg_integer() | binary(), rest :: binary(), state()}

  @doc "The state before an envelope's first field."
  @spec start() :: state()
  def start, do: {0, 0, @unknown_max}

  @doc "How many unknown fields one envelope may carry, over all its levels."
  @spec unknown_max() :: pos_integer()
  def unknown_max, do: @unknown_max

  @doc "Ends the reading with a fault."
  @spec fail(Brain.Code.t(), binary(), non_neg_integer(), non_neg_integer()) :: no_return()
  def fail(code, detail, field, at), do: throw({__MODULE__, %{code: code, detail: detail, field: field, at: at}})

  @doc """
  Checks `bytes` as a message of `module`, and every known message within. `ending` is the offset of its end in the
  outermost message, `budget` what is left for unknown fields; returned is what is left then.
  """
  @spec check(module(), binary(), non_neg_integer(), non_neg_integer()) :: non_neg_integer()
  def check(module, bytes, ending, budget), do: check_items(module, bytes, ending, {0, 0, budget})

  defp check_items(_module, <<>>, _ending, {_, _, budget}), do: budget

  defp check_items(module, bytes, ending, state) do
    case item(module, bytes, ending, state) do
      {_, {{:message, inner}, _, _}, value, rest, {last, oneofs, budget}} ->
        budget = check(inner, value, ending - byte_size(rest), budget)
        check_items(module, rest, ending, {last, oneofs, budget})

      {_, _, _, rest, state} ->
        check_items(module, rest, ending, state)
    end
  end

  @doc "The next field of bytes that are not at their end. Offsets are told by how far the rest is from `ending`."
  @spec item(module(), binary(), non_neg_integer(), state()) :: item()
  def item(module, bytes, ending, {last, _, _} = state) do
    # The three shapes of nearly every field are read at once. What is strange about them is found out the long way.
    case bytes do
      <<0::1, number::4, 2::3, 0::1, size::7, value::binary-size(size), rest::binary>> when number > last ->
        short(module, number, 2, value, rest, bytes, ending, state)

      <<0::1, number::4, 0::3, 0::1, value::7, rest::binary>> when number > last ->
        short(module, number, 0, value, rest, bytes, ending, state)

      <<1::1, low::4, 2::3, 0::1, high::7, 0::1, size::7, value::binary-size(size), rest::binary>>
      when high > 0 and (high <<< 4) + low > last ->
        short(module, (high <<< 4) + low, 2, value, rest, bytes, ending, state)

      _ ->
        long(module, bytes, ending, state)
    end
  end

  defp short(module, number, wire, value, rest, bytes, ending, {_, oneofs, budget} = state) do
    case module.__row__(number) do
      {kind, _, oneof} = row when (oneofs &&& oneof) == 0 ->
        if short?(kind, wire, value),
          do: {number, row, value, rest, {number, oneofs ||| oneof, budget}},
          else: long(module, bytes, ending, state)

      _ ->
        long(module, bytes, ending, state)
    end
  end

  defp short?(:bytes, 2, _value), do: true
  defp short?(:string, 2, value), do: Wire.utf8?(value)
  defp short?({:message, _}, 2, _value), do: true
  defp short?(:bool, 0, value), do: value <= 1
  defp short?(kind, 0, _value), do: kind in [:uint32, :uint64, :int64, :enum]
  defp short?(_kind, _wire, _value), do: false

  defp long(module, bytes, ending, {last, oneofs, budget}) do
    {tag, rest} = varint(bytes, 0, ending)
    if tag > @u32_max, do: malformed("a tag beyond 32 bits", 0, bytes, ending)
    number = tag >>> 3
    if number == 0, do: malformed("field number 0", 0, bytes, ending)
    if number < last, do: non_canonical("fields are not ascending", number, bytes, ending)

    case module.__row__(number) do
      nil ->
        if number not in @unknown_first..@unknown_last,
          do: non_canonical("an unknown field outside 32..=999", number, bytes, ending)

        if budget == 0, do: non_canonical("more than 64 unknown fields", number, bytes, ending)
        {value, rest} = value(tag &&& 7, number, rest, bytes, ending)
        {number, nil, value, rest, {number, oneofs, budget - 1}}

      {kind, repeated, oneof} = row ->
        if number == last and not repeated, do: non_canonical("a field twice", number, bytes, ending)

        if (oneofs &&& oneof) != 0,
          do: non_canonical("two members of a oneof", number, bytes, ending)

        {value, after_value} = value(tag &&& 7, number, rest, bytes, ending)
        fits(kind, tag &&& 7, value, number, rest, after_value, ending)
        {number, row, value, after_value, {number, oneofs ||| oneof, budget}}
    end
  end

  defp value(0, number, rest, _bytes, ending), do: varint(rest, number, ending)

  defp value(2, number, rest, _bytes, ending) do
    {length, rest} = varint(rest, number, ending)
    take(rest, length, number, ending)
  end

  defp value(1, number, rest, _bytes, ending), do: take(rest, 8, number, ending)
  defp value(5, number, rest, _bytes, ending), do: take(rest, 4, number, ending)
  defp value(3, number, _rest, bytes, ending), do: non_canonical("a group", number, bytes, ending)
  defp value(_wire, number, _rest, bytes, ending), do: malformed("an unknown wire type", number, bytes, ending)

  # The value is what the schema says. A fault lies where the value begins.
  defp fits(kind, 2, _value, _number, _rest, _after, _ending) when kind == :bytes or elem(kind, 0) == :message, do: :ok

  defp fits(:string, 2, value, number, _rest, after_value, ending) do
    if not Wire.utf8?(value) do
      at = ending - byte_size(after_value) - byte_size(value)
      fail(:malformed_envelope, "a string that is not UTF-8", number, at)
    end
  end

  defp fits(kind, 0, _value, _number, _rest, _after, _ending) when kind in [:uint64, :int64], do: :ok
  defp fits(:bool, 0, value, _number, _rest, _after, _ending) when value <= 1, do: :ok
  defp fits(:uint32, 0, value, _number, _rest, _after, _ending) when value <= @u32_max, do: :ok
  defp fits(:enum, 0, value, _number, _rest, _after, _ending) when value <= 0x7FFF_FFFF, do: :ok
  defp fits(:fixed64, 1, _value, _number, _rest, _after, _ending), do: :ok

  defp fits(kind, 0, _value, number, rest, _after, ending) when kind in [:bool, :uint32, :enum],
    do: non_canonical("a number beyond its type", number, rest, ending)

  defp fits(_kind, 2, value, number, _rest, after_value, ending) do
    at = ending - byte_size(after_value) - byte_size(value)
    fail(:malformed_envelope, "another wire type than the schema's", number, at)
  end

  defp fits(_kind, _wire, _value, number, rest, _after, ending),
    do: malformed("another wire type than the schema's", number, rest, ending)

  # A minimal varint of at most 64 bits.
  defp varint(<<0::1, value::7, rest::binary>>, _field, _ending), do: {value, rest}
  defp varint(<<1::1, a::7, 0::1, b::7, rest::binary>>, _field, _ending) when b > 0, do: {b <<< 7 ||| a, rest}

  # Six bytes: every clock of our days, hence every epoch.
  defp varint(<<1::1, a::7, 1::1, b::7, 1::1, c::7, 1::1, d::7, 1::1, e::7, 0::1, f::7, rest::binary>>, _field, _ending)
       when f > 0 do
    {f <<< 35 ||| e <<< 28 ||| d <<< 21 ||| c <<< 14 ||| b <<< 7 ||| a, rest}
  end

  defp varint(bytes, field, ending), do: varint(bytes, 0, 0, field, bytes, ending)

  defp varint(<<>>, _shift, _value, field, _start, ending), do: malformed("cut short", field, <<>>, ending)

  defp varint(<<_::1, bits::7, _::binary>>, 63, _value, field, start, ending) when bits > 1,
    do: malformed("a varint beyond 64 bits", field, start, ending)

  defp varint(<<0, _::binary>>, shift, _value, field, start, ending) when shift > 0,
    do: non_canonical("a varint that is not minimal", field, start, ending)

  defp varint(<<0::1, bits::7, rest::binary>>, shift, value, _field, _start, _ending),
    do: {bits <<< shift ||| value, rest}

  defp varint(<<1::1, _::7, _::binary>>, 63, _value, field, start, ending),
    do: malformed("a varint beyond 64 bits", field, start, ending)

  defp varint(<<1::1, bits::7, rest::binary>>, shift, value, field, start, ending),
    do: varint(rest, shift + 7, bits <<< shift ||| value, field, start, ending)

  defp take(bytes, length, field, ending) do
    case bytes do
      <<value::binary-size(length), rest::binary>> -> {value, rest}
      _ -> malformed("cut short", field, bytes, ending)
    end
  end

  @spec malformed(binary(), non_neg_integer(), binary(), non_neg_integer()) :: no_return()
  defp malformed(detail, field, from, ending), do: fail(:malformed_envelope, detail, field, ending - byte_size(from))

  @spec non_canonical(binary(), non_neg_integer(), binary(), non_neg_integer()) :: no_return()
  defp non_canonical(detail, field, from, ending),
    do: fail(:non_canonical_envelope, detail, field, ending - byte_size(from))
end
