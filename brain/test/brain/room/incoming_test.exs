defmodule Brain.Room.IncomingTest do
  use ExUnit.Case, async: true

  import Brain.Prop
  import Brain.RoomGen

  alias Brain.Codec
  alias Brain.Proto.V1
  alias Brain.Room.Incoming
  alias Brain.Room.Incoming.{Caller, SyncAsk, Unreadable}

  test "a command is read with what its event keeps of it" do
    sent = %V1.Command{ephemeral: true, if_head: %V1.Head{epoch: 3, seq: 4}, op: say("hi")}

    body =
      forwarded("ann", 1, sent,
        trace_id: String.duplicate("t", 55),
        signature: :binary.copy(<<8>>, 64),
        sender: %V1.Sender{user: "ann", rights: 6, public_key: "key", redacted_by: "policy"}
      )

    assert {:ok, {:command, command}} = Incoming.read(body)
    assert command.caller == %Caller{user: "ann", rights: 6}
    assert {command.id, command.timestamp} == {mid(1), start_ms()}
    assert {command.ephemeral, command.if_head, command.op} == {true, sent.if_head, sent.op}
    assert command.raw == Codec.encode(sent)
    assert {command.key, command.redacted_by} == {"key", "policy"}
    assert {byte_size(command.trace_id), byte_size(command.signature)} == {55, 64}
  end

  test "sync and get are asked with a signal" do
    sync = %V1.Sync{since: %V1.Head{epoch: 1, seq: 2}, history: 5}
    caller = %Caller{user: "bob", rights: 127}
    assert Incoming.read(signal("bob", {:sync, sync})) == {:ok, {:sync, %SyncAsk{caller: caller, sync: sync}}}
    assert Incoming.read(signal("bob", {:get, %V1.Get{}})) == {:ok, {:get, caller}}
    asks_nothing = {:error, %Unreadable{code: :bad_command, detail: "a signal must ask sync or get"}}
    assert Incoming.read(signal("bob", nil)) == asks_nothing
  end

  test "a sync that waits does not keep its whole message in memory" do
    # Short ones are copied by the VM.
    name = String.duplicate("u", 100)
    assert {:ok, {:sync, %{caller: %{user: ^name = user}}}} = Incoming.read(signal(name, {:sync, %V1.Sync{}}))
    assert :binary.referenced_byte_size(user) == 100
  end

  test "a command of a later version has no operation" do
    # Field 99 is not known; the canonical rule lets it pass.
    later = <<0x9A, 0x06, 0>>
    sender = Codec.encode(%V1.Envelope{sender: %V1.Sender{user: "ann"}})
    envelope = Codec.encode(%V1.Envelope{room_id: "lobby", timestamp: 1, message_id: mid(1)})
    body = envelope <> <<0xA2, 0x01, byte_size(later)>> <> later <> sender
    assert {:ok, {:command, %{op: nil, raw: ^later}}} = Incoming.read(body)
  end

  test "a user's name must be one" do
    for user <- ["", "a.b", "a b", "*", String.duplicate("u", 129)] do
      refused = {:error, %Unreadable{code: :missing_field, detail: "the sender has no user", message_id: mid(1)}}
      assert Incoming.read(forwarded(user, 1, %V1.Command{op: say("hi")})) == refused
    end
  end

  test "what is not canonical is refused with its id, if that was read" do
    body = forwarded("ann", 1, %V1.Command{op: say("hi")})
    assert {:error, %Unreadable{code: code, message_id: id}} = Incoming.read(body <> <<0>>)
    assert code in [:malformed_envelope, :non_canonical_envelope] and id == mid(1)
    assert {:error, %Unreadable{message_id: nil}} = Incoming.read(<<>>)
    assert {:error, %Unreadable{}} = Incoming.read(forwarded("ann", 1, %V1.Command{}, sender: nil))
  end

  test "any bytes are read or refused" do
    check({:proper_types.binary(), :proper_types.integer(0, 90), any_command()}, fn {bytes, at, command} ->
      body = forwarded(command.caller.user, 1, %V1.Command{op: command.op, ephemeral: command.ephemeral})
      {head, tail} = split(body, at)

      for mixed <- [bytes, head, head <> bytes <> tail, body] do
        assert {kind, _} = Incoming.read(mixed)
        assert kind in [:ok, :error]
      end
    end)
  end

  defp split(body, at) do
    at = min(at, byte_size(body))
    {binary_part(body, 0, at), binary_part(body, at, byte_size(body) - at)}
  end
end
