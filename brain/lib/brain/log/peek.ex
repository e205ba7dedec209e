defmodule Brain.Log.Peek do
  @moduledoc """
  Which command an event came from and which trace it belongs to, read from the event's own bytes without decoding the
  rest: a log line per command must cost less than the command.

  The bytes are those that this node has just stored; bytes that cannot be walked give no fields.
  """

  import Bitwise

  # Fields of `arqon.v1.Envelope`, and the bodies of its `Event`.
  @trace_id 1
  @event 21
  @bodies %{
    10 => "say",
    11 => "set",
    12 => "delete",
    13 => "lock",
    14 => "unlock",
    18 => "playlist",
    23 => "playback",
    28 => "kick",
    29 => "ban",
    30 => "unban",
    31 => "mute",
    32 => "unmute",
    33 => "configure",
    34 => "close"
  }

  @doc "The command's name and the trace id of an event's envelope; `nil` and `\"\"` if it names none."
  @spec event(binary) :: {nil | binary, binary}
  def event(envelope), do: envelope(field(envelope), nil, "")

  defp envelope({@trace_id, trace_id, rest}, op, _) when is_binary(trace_id), do: envelope(field(rest), op, trace_id)
  defp envelope({@event, event, rest}, _, id) when is_binary(event), do: envelope(field(rest), body(field(event)), id)
  defp envelope({_, _, rest}, op, trace_id), do: envelope(field(rest), op, trace_id)
  defp envelope(:none, op, trace_id), do: {op, trace_id}

  # One field of an event is its body; the others have lower numbers.
  defp body({number, _, _}) when is_map_key(@bodies, number), do: Map.fetch!(@bodies, number)
  defp body({_, _, rest}), do: body(field(rest))
  defp body(:none), do: nil

  # The next field: its number, its bytes (nil if it is a number), what follows it. First the usual: one byte of tag, one of
  # length.
  defp field(<<0::1, number::4, 2::3, 0::1, size::7, value::binary-size(size), rest::binary>>),
    do: {number, value, rest}

  defp field(<<0::1, number::4, 0::3, rest::binary>>), do: number(number, rest)
  defp field(""), do: :none

  defp field(bytes) do
    with {tag, rest} <- varint(bytes, 0, 0), do: value(tag >>> 3, tag &&& 7, rest)
  end

  defp value(number, 0, rest), do: number(number, rest)
  defp value(number, 1, <<_::64, rest::binary>>), do: {number, nil, rest}
  defp value(number, 5, <<_::32, rest::binary>>), do: {number, nil, rest}

  defp value(number, 2, rest) do
    with {size, rest} <- varint(rest, 0, 0),
         <<value::binary-size(size), rest::binary>> <- rest do
      {number, value, rest}
    else
      _ -> :none
    end
  end

  defp value(_, _, _), do: :none

  defp number(number, <<0::1, _::7, rest::binary>>), do: {number, nil, rest}
  defp number(number, <<1::1, _::7, rest::binary>>), do: number(number, rest)
  defp number(_, ""), do: :none

  defp varint(<<0::1, bits::7, rest::binary>>, shift, sum) when shift < 64, do: {sum ||| bits <<< shift, rest}
  defp varint(<<1::1, bits::7, rest::binary>>, shift, sum), do: varint(rest, shift + 7, sum ||| bits <<< shift)
  defp varint(_, _, _), do: :none
end
