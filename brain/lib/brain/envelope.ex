defmodule Brain.Envelope do
  @moduledoc """
  The gate, the twin of `proto/src/view.rs`: a strict reading of an envelope. What is accepted every decoder reads alike
  (`Brain.Codec.Canonical`), its lengths are right, and what every command needs is there. Payload and sender stay bytes:
  the payload is what was signed.

  `forwarded/1` is the Brain's door; the other two are there because one rule reads all three, and the vectors prove it.
  """

  alias Brain.Codec.{Canonical, Wire}
  alias Brain.Proto.V1

  defstruct trace_id: "",
            tenant_id: "",
            room_id: "",
            timestamp: 0,
            message_id: "",
            ack_requested: false,
            signature: "",
            payload: nil,
            sender: nil

  @typedoc """
  An accepted envelope. `room_id` is not empty, but not yet an id; `message_id` is 16 bytes, or empty beside a signal or an
  event; `payload` holds the message's bytes without tag and length; `sender` those of `Brain.Proto.V1.Sender`, nil from
  clients and rooms.
  """
  @type t :: %__MODULE__{
          trace_id: binary(),
          tenant_id: binary(),
          room_id: binary(),
          timestamp: integer(),
          message_id: binary(),
          ack_requested: boolean(),
          signature: binary(),
          payload: nil | {:cmd | :event | :signal, binary()},
          sender: nil | binary()
        }

  @typedoc """
  Why an envelope is refused: what to answer, what is wrong (for people), the field number (0 where none was read), the
  offset in bytes, and the message id if it was read before the fault.
  """
  @type error :: %{
          code: Brain.Code.t(),
          detail: binary(),
          field: non_neg_integer(),
          at: non_neg_integer(),
          message_id: nil | binary()
        }

  @typep writer :: :client | :shield | :room

  @message_id 5
  @cmd 20
  @event 21
  @signal 22
  @sender 1000

  @doc "From a client: a command, no field from 1000 up."
  @spec client(binary()) :: {:ok, t()} | {:error, error()}
  def client(bytes), do: read(bytes, :client)

  @doc "From a Shield: a command or a signal, with `sender`. A signal may lack message id and timestamp."
  @spec forwarded(binary()) :: {:ok, t()} | {:error, error()}
  def forwarded(bytes), do: read(bytes, :shield)

  @doc "From a room, as subscribers and the log hold it: an event or a signal, without `sender`."
  @spec delivered(binary()) :: {:ok, t()} | {:error, error()}
  def delivered(bytes), do: read(bytes, :room)

  @spec read(binary(), writer()) :: {:ok, t()} | {:error, error()}
  defp read(bytes, from) do
    ending = byte_size(bytes)
    view = fill(bytes, ending, Canonical.start(), from, %__MODULE__{})

    case missing(view, from) do
      nil -> {:ok, view}
      {field, detail} -> refuse(%{code: :missing_field, detail: detail, field: field, at: ending}, view.message_id)
    end
  catch
    {Canonical, fault} -> refuse(fault, id(bytes, byte_size(bytes), Canonical.start()))
  end

  defp fill(<<>>, _ending, _state, _from, view), do: view

  defp fill(bytes, ending, state, from, view) do
    {number, row, value, rest, state} = item(bytes, ending, state, from)

    state =
      case row do
        {{:message, inner}, _, _} -> inner(inner, number, value, ending - byte_size(rest), state, from)
        _ -> state
      end

    fill(rest, ending, state, from, put(number, value, view))
  end

  # From a client, an unknown field of the envelope from 1000 up is the server's ground, not merely out of range.
  defp item(bytes, ending, state, :client) do
    Canonical.item(V1.Envelope, bytes, ending, state)
  catch
    {Canonical, %{code: :non_canonical_envelope, field: field, at: at}} when field > @sender ->
      Canonical.fail(:reserved_field, "a field that only the server writes", field, at)
  end

  defp item(bytes, ending, state, _from), do: Canonical.item(V1.Envelope, bytes, ending, state)

  defp inner(module, number, value, ending, {last, oneofs, budget}, from) do
    at = ending - byte_size(value)

    if number == @sender and from != :shield,
      do: Canonical.fail(:reserved_field, "a field that only the server writes", number, at)

    if not may?(from, number),
      do: Canonical.fail(:not_a_command, "a payload that this sender may not send", number, at)

    {last, oneofs, Canonical.check(module, value, ending, budget)}
  end

  # The message id if it was read before the fault: once more from the start, for faults are rare.
  defp id(bytes, ending, state) do
    case Canonical.item(V1.Envelope, bytes, ending, state) do
      {number, _, _, rest, state} when number < @message_id -> id(rest, ending, state)
      {@message_id, _, value, _, _} -> value
      _ -> ""
    end
  catch
    {Canonical, _fault} -> ""
  end

  # Which message fields of the envelope each writer may fill.
  defp may?(:client, number), do: number == @cmd
  defp may?(:shield, number), do: number in [@cmd, @signal, @sender]
  defp may?(:room, number), do: number in [@event, @signal]

  defp put(1, value, view), do: %{view | trace_id: value}
  defp put(2, value, view), do: %{view | tenant_id: value}
  defp put(3, value, view), do: %{view | room_id: value}
  defp put(4, value, view), do: %{view | timestamp: Wire.int64(value)}
  defp put(@message_id, value, view), do: %{view | message_id: value}
  defp put(6, value, view), do: %{view | ack_requested: value == 1}
  defp put(10, value, view), do: %{view | signature: value}
  defp put(@cmd, value, view), do: %{view | payload: {:cmd, value}}
  defp put(@event, value, view), do: %{view | payload: {:event, value}}
  defp put(@signal, value, view), do: %{view | payload: {:signal, value}}
  defp put(@sender, value, view), do: %{view | sender: value}
  defp put(_unknown, _value, view), do: view

  # What must be there and is not, or has another length: the field and why.
  defp missing(view, from) do
    id = byte_size(view.message_id)
    command = match?({:cmd, _}, view.payload)

    cond do
      view.payload == nil -> {@cmd, "no payload"}
      view.room_id == "" -> {3, "room_id is missing"}
      command and view.timestamp == 0 -> {4, "timestamp is missing"}
      id != 16 and (command or id != 0) -> {@message_id, "message_id is not 16 bytes"}
      byte_size(view.signature) not in [0, 64] -> {10, "signature is neither empty nor 64 bytes"}
      byte_size(view.trace_id) not in [0, 55] -> {1, "trace_id is neither empty nor 55 bytes"}
      from == :shield and view.sender == nil -> {@sender, "sender is missing"}
      true -> nil
    end
  end

  defp refuse(fault, message_id) do
    {:error, Map.put(fault, :message_id, if(byte_size(message_id) == 16, do: message_id))}
  end
end
