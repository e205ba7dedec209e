defmodule Brain.Log do
  @moduledoc """
  Log lines, as text for people or as one JSON object a line, on standard error.

  One line per applied command says which trace it belongs to, where it was applied, by whom, and at which place:

      {"ts":"2026-11-22T22:00:00.000Z","level":"info","msg":"command applied","node":"brain-1","room":"acme/lobby",
       "user":"ann","op":"say","epoch":1795384800000,"seq":7,"message_id":"…","trace_id":"00-…-01"}

  It holds ids alone: never a payload, a key's value or a secret. The lines of one log entry go to the sink together; the
  sink is bounded, see `Brain.Log.Sink`. `[log] level` decides (`info` shows them), `[log] format` how they look.
  """

  alias Brain.Log.{Json, Peek, Sink}

  @enforce_keys [:node, :level, :format, :sink]
  defstruct [:node, :level, :format, :sink]

  @type level :: :off | :error | :warn | :info | :debug | :trace
  @type t :: %__MODULE__{node: binary, level: level, format: :text | :json, sink: Sink.handle()}
  @type fields :: [{atom, binary | atom | integer | boolean | nil}]

  @ranks %{off: 0, error: 1, warn: 2, info: 3, debug: 4, trace: 5}

  @doc "True if lines of this level are written."
  @spec on?(nil | t, level) :: boolean
  def on?(nil, _), do: false
  def on?(log, level), do: Map.fetch!(@ranks, level) <= Map.fetch!(@ranks, log.level)

  @doc """
  The lines of the commands that one entry applied: what their notes say, and what the events' envelopes do. One binary
  each, so that handing them over copies nothing; what they have in common is made once.
  """
  @spec applied(t, integer, binary, [tuple]) :: [binary]
  def applied(_log, _wall_ms, _room, []), do: []

  def applied(log, wall_ms, room, notes) do
    head = IO.iodata_to_binary(open(log, :info, wall_ms, "command applied", node: log.node, room: room))

    for {:committed, epoch, seq, message_id, user, envelope} <- notes do
      {op, trace_id} = Peek.event(envelope)
      trace_id = if trace_id != "", do: trace_id
      fields = [user: user, op: op, epoch: epoch, seq: seq, message_id: hex(message_id), trace_id: trace_id]
      IO.iodata_to_binary([head, fields(log, fields) | close(log)])
    end
  end

  @doc "Writes lines that were made before; returns how many were dropped."
  @spec write(t, [iodata]) :: non_neg_integer
  def write(_log, []), do: 0
  def write(log, lines), do: Sink.write(log.sink, lines)

  @doc "One line. Fields that are `nil` are left out."
  @spec line(t, level, integer, iodata, fields) :: iolist
  def line(log, level, wall_ms, message, fields) do
    [open(log, level, wall_ms, IO.iodata_to_binary(message), fields) | close(log)]
  end

  defp open(%{format: :json} = log, level, wall_ms, message, fields) do
    [?{, Json.members(ts: timestamp(wall_ms), level: level, msg: message), fields(log, fields)]
  end

  defp open(%{format: :text} = log, level, wall_ms, message, fields) do
    [timestamp(wall_ms), ?\s, label(level), ?\s, printable(message), fields(log, fields)]
  end

  defp fields(%{format: :json}, fields) do
    case Json.members(fields) do
      [] -> []
      members -> [?, | members]
    end
  end

  defp fields(%{format: :text}, fields) do
    for {key, value} <- fields, value != nil, do: [?\s, Atom.to_string(key), ?=, text(value)]
  end

  defp close(%{format: :json}), do: ["}\n"]
  defp close(%{format: :text}), do: ["\n"]

  @doc "As hex digits in lower case; `nil` stays `nil`."
  @spec hex(nil | binary) :: nil | binary
  def hex(nil), do: nil
  def hex(bytes), do: Base.encode16(bytes, case: :lower)

  defp timestamp(wall_ms) do
    case DateTime.from_unix(wall_ms, :millisecond) do
      {:ok, time} -> DateTime.to_iso8601(time)
      {:error, _} -> Integer.to_string(wall_ms)
    end
  end

  defp label(:error), do: "ERROR"
  defp label(:warn), do: " WARN"
  defp label(:info), do: " INFO"
  defp label(:debug), do: "DEBUG"
  defp label(_), do: "TRACE"

  defp text(value) when is_binary(value), do: printable(value)
  defp text(value), do: to_string(value)

  # One line stays one line, whatever a message holds.
  defp printable(text), do: if(text =~ ~r/[^\x20-\x7e]/, do: inspect(text), else: text)
end
