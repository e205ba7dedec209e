defmodule Brain.Log.Peek do
  @moduledoc """
  Which command an event came from and which trace it belongs to, read from the event's own bytes without decoding the
  rest: a log line per command must cost less than the command.

  The bytes are those that this node has just stored; bytes that cannot be walked give no fields.
  """

  import Bitwise

  # Fields of `arqon.v1.Envelope` and of its `Event`.
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
  def event(envelope) do
    fields(envelope, {nil, ""}, fn
      @trace_id, text, {op, _} -> {op, text}
      @event, event, {_, trace_id} -> {fields(event, nil, &body/3), trace_id}
      _, _, found -> found
    end)
  end

  defp body(number, _, found), do: Map.get(@bodies, number, found)

  defp fields("", found, _), do: found

  defp fields(bytes, found, each) do
    with {tag, rest} <- varint(bytes, 0, 0),
         {value, rest} <- value(tag &&& 7, rest) do
      fields(rest, each.(tag >>> 3, value, found), each)
    else
      :error -> found
    end
  end

  defp value(0, rest), do: varint(rest, 0, 0)
  defp value(1, <<value::binary-8, rest::binary>>), do: {value, rest}
  defp value(5, <<value::binary-4, rest::binary>>), do: {value, rest}

  defp value(2, rest) do
    with {size, rest} <- varint(rest, 0, 0) do
      case rest do
        <<value::binary-size(size), rest::binary>> -> {value, rest}
        _ -> :error
      end
    end
  end

  defp value(_, _), do: :error

  defp varint(<<0::1, bits::7, rest::binary>>, shift, sum) when shift < 64, do: {sum ||| bits <<< shift, rest}
  defp varint(<<1::1, bits::7, rest::binary>>, shift, sum), do: varint(rest, shift + 7, sum ||| bits <<< shift)
  defp varint(_, _, _), do: :error
end
