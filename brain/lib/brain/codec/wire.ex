defmodule Brain.Codec.Wire do
  @moduledoc """
  The wire format below the messages: varints, lengths, what to skip. What cannot be read ends the whole decoding with a
  throw that `Brain.Codec.decode/2` catches, so that the readers' calls stay tail calls.
  """

  import Bitwise

  # As prost's RECURSION_LIMIT: levels of messages and groups.
  @depth_max 100
  @u32_max 0xFFFF_FFFF
  @u64_max 0xFFFF_FFFF_FFFF_FFFF

  @doc "How many levels a message may have."
  @spec depth_max() :: pos_integer()
  def depth_max, do: @depth_max

  @doc "One level further down."
  @spec deeper(non_neg_integer()) :: non_neg_integer()
  def deeper(0), do: fail(:too_deep)
  def deeper(depth) when is_integer(depth), do: depth - 1

  @doc "Ends the decoding."
  @spec fail(Brain.Codec.reason()) :: no_return()
  def fail(reason), do: throw({__MODULE__, reason})

  # === reading

  @doc "A number of at most 64 bits in at most 10 bytes, which need not be minimal."
  @spec varint(binary()) :: {non_neg_integer(), binary()}
  def varint(<<0::1, a::7, rest::binary>>), do: {a, rest}
  def varint(<<1::1, a::7, 0::1, b::7, rest::binary>>), do: {b <<< 7 ||| a, rest}
  def varint(<<1::1, a::7, 1::1, b::7, 0::1, c::7, rest::binary>>), do: {c <<< 14 ||| b <<< 7 ||| a, rest}

  def varint(<<1::1, a::7, 1::1, b::7, 1::1, c::7, 1::1, d::7, 1::1, e::7, 0::1, f::7, rest::binary>>) do
    {f <<< 35 ||| e <<< 28 ||| d <<< 21 ||| c <<< 14 ||| b <<< 7 ||| a, rest}
  end

  def varint(bytes), do: varint(bytes, 0, 0)

  # The tenth byte holds one bit.
  defp varint(<<0::7, bit::1, rest::binary>>, 63, value), do: {bit <<< 63 ||| value, rest}
  defp varint(<<_, _::binary>>, 63, _value), do: fail(:varint)
  defp varint(<<0::1, bits::7, rest::binary>>, shift, value), do: {bits <<< shift ||| value, rest}
  defp varint(<<1::1, bits::7, rest::binary>>, shift, value), do: varint(rest, shift + 7, bits <<< shift ||| value)
  defp varint(<<>>, _shift, _value), do: fail(:cut_short)

  @doc "A field's key: its number and wire type."
  @spec key(binary()) :: {non_neg_integer(), binary()}
  def key(bytes) do
    case varint(bytes) do
      {key, _rest} = read when key <= @u32_max -> read
      _ -> fail(:tag)
    end
  end

  @doc "A length and as many bytes."
  @spec bytes(binary()) :: {binary(), binary()}
  def bytes(bytes) do
    {length, rest} = varint(bytes)

    case rest do
      <<value::binary-size(length), rest::binary>> -> {value, rest}
      _ -> fail(:cut_short)
    end
  end

  @doc "Eight bytes, little-endian."
  @spec fixed64(binary()) :: {non_neg_integer(), binary()}
  def fixed64(<<value::little-64, rest::binary>>), do: {value, rest}
  def fixed64(_bytes), do: fail(:cut_short)

  @doc "The same bytes, which are UTF-8."
  @spec utf8(binary()) :: binary()
  def utf8(text), do: if(utf8?(text), do: text, else: fail(:utf8))

  @doc "True if the bytes are UTF-8. Most texts are ASCII: those go seven bytes at a time, which is a small integer."
  @spec utf8?(binary()) :: boolean()
  def utf8?(<<seven::56, rest::binary>>) when (seven &&& 0x80808080808080) == 0, do: utf8?(rest)
  def utf8?(<<byte, rest::binary>>) when byte < 0x80, do: utf8?(rest)
  def utf8?(<<_::utf8, rest::binary>>), do: utf8?(rest)
  def utf8?(rest), do: rest == <<>>

  @doc "What follows an unknown field whose key was read."
  @spec skip(non_neg_integer(), binary(), non_neg_integer()) :: binary()
  def skip(key, _rest, _depth) when key < 8, do: fail(:tag)
  def skip(_key, _rest, 0), do: fail(:too_deep)

  def skip(key, rest, depth) do
    case key &&& 7 do
      0 -> elem(varint(rest), 1)
      1 -> drop(rest, 8)
      2 -> elem(bytes(rest), 1)
      3 -> skip_group(key + 1, rest, depth - 1)
      4 -> fail(:group)
      5 -> drop(rest, 4)
      _ -> fail(:wire_type)
    end
  end

  defp skip_group(ending, bytes, depth) do
    case key(bytes) do
      {^ending, rest} -> rest
      {key, rest} -> skip_group(ending, skip(key, rest, depth), depth)
    end
  end

  defp drop(bytes, count) do
    case bytes do
      <<_::binary-size(count), rest::binary>> -> rest
      _ -> fail(:cut_short)
    end
  end

  @doc "The elements of a packed field before those of `reversed`, the last one first."
  @spec packed(binary(), (binary() -> {term(), binary()}), [term()]) :: [term()]
  def packed(<<>>, _read, reversed), do: reversed

  def packed(bytes, read, reversed) do
    {value, rest} = read.(bytes)
    packed(rest, read, [value | reversed])
  end

  @doc "Two's complement of 64 bits."
  @spec int64(non_neg_integer()) :: integer()
  def int64(value) when value < 0x8000_0000_0000_0000, do: value
  def int64(value), do: value - 0x1_0000_0000_0000_0000

  @doc "Two's complement of the low 32 bits."
  @spec int32(non_neg_integer()) :: integer()
  def int32(value) do
    case value &&& @u32_max do
      low when low < 0x8000_0000 -> low
      low -> low - 0x1_0000_0000
    end
  end

  # === writing

  @doc "The varint of a number of at most 64 bits, as part of an iolist."
  @spec put_varint(non_neg_integer()) :: byte() | binary()
  def put_varint(value) when value >= 0 and value < 0x80, do: value
  def put_varint(value) when value >= 0 and value < 0x4000, do: <<1::1, value::7, 0::1, value >>> 7::7>>

  def put_varint(value) when value >= 0 and value < 0x20_0000 do
    <<1::1, value::7, 1::1, value >>> 7::7, 0::1, value >>> 14::7>>
  end

  # Six bytes: every clock of our days, hence every epoch.
  def put_varint(value) when value >= 0x8_0000_0000 and value < 0x400_0000_0000 do
    <<1::1, value::7, 1::1, value >>> 7::7, 1::1, value >>> 14::7, 1::1, value >>> 21::7, 1::1, value >>> 28::7, 0::1,
      value >>> 35::7>>
  end

  def put_varint(value) when value >= 0 and value <= @u64_max, do: put_varint(value, <<>>)

  defp put_varint(value, bytes) when value < 0x80, do: <<bytes::binary, value>>
  defp put_varint(value, bytes), do: put_varint(value >>> 7, <<bytes::binary, 1::1, value::7>>)

  @doc "`put_varint/1` of a signed number: what is below 0 takes ten bytes."
  @spec put_int64(integer()) :: byte() | binary()
  def put_int64(value) when value >= 0 and value < 0x8000_0000_0000_0000, do: put_varint(value)
  def put_int64(value) when value < 0 and value >= -0x8000_0000_0000_0000, do: put_varint(value &&& @u64_max)

  @doc "`put_varint/1` of a number of at most 32 bits."
  @spec put_uint32(non_neg_integer()) :: byte() | binary()
  def put_uint32(value) when value <= @u32_max, do: put_varint(value)

  @doc "0 or 1."
  @spec put_bool(boolean()) :: byte()
  def put_bool(true), do: 1
  def put_bool(false), do: 0

  @doc "Eight bytes, little-endian."
  @spec put_fixed64(non_neg_integer()) :: binary()
  def put_fixed64(value) when value >= 0 and value <= @u64_max, do: <<value::little-64>>
end
