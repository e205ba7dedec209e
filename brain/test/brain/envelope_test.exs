defmodule Brain.EnvelopeTest do
  use ExUnit.Case, async: true

  alias Brain.{Code, Envelope, Vectors}

  for %{"name" => name, "door" => door} = vector <- Vectors.cases("envelopes.json") do
    @vector vector
    test "vector: #{door}: #{name}" do
      bytes = Vectors.bytes(@vector["hex"])

      read =
        case @vector["door"] do
          "client" -> Envelope.client(bytes)
          "forwarded" -> Envelope.forwarded(bytes)
          "delivered" -> Envelope.delivered(bytes)
        end

      case @vector do
        %{"code" => 0, "view" => view} ->
          assert {:ok, envelope} = read
          assert envelope.trace_id == view["trace_id"]
          assert envelope.tenant_id == view["tenant_id"]
          assert envelope.room_id == view["room_id"]
          assert envelope.timestamp == view["timestamp"]
          assert envelope.message_id == Vectors.bytes(view["message_id"])
          assert envelope.ack_requested == view["ack_requested"]
          assert envelope.signature == Vectors.bytes(view["signature"])
          field = %{20 => :cmd, 21 => :event, 22 => :signal}[view["field"]]
          assert envelope.payload == {field, Vectors.bytes(view["payload"])}
          sender = view["sender"]
          assert envelope.sender == if(sender, do: Vectors.bytes(sender))

        %{"code" => code} ->
          assert {:error, error} = read
          assert Code.number(error.code) == code
      end
    end
  end
end
