defmodule Brain.Room.AnswersTest do
  use ExUnit.Case, async: true

  import Brain.RoomGen, except: [key: 0]

  alias Brain.{Code, Codec}
  alias Brain.Proto.Internal.{Live, Opened, SyncReply}
  alias Brain.Proto.V1
  alias Brain.Room.{Answers, Decide.Refusal, Folded, State, Tail}
  alias Brain.Room.Answers.Place

  @key {"acme", "lobby"}
  @tail %Tail{epoch: 9, term: 2, seq: 7, pos: 40, chain: 0xFFFF_FFFF_FFFF_FFFF, fence: 41, at: 1000}
  @place %Place{epoch: 9, term: 2, seq: 8, at: 1000, prev: 41}

  test "acks" do
    assert Answers.stored(mid(1), 9, 8, true) == %V1.Ack{message_id: mid(1), epoch: 9, seq: 8, duplicate: true}
    refusal = %Refusal{code: :version_conflict, detail: "why", ver: 5, retry_after_ms: 7}
    ack = Answers.refused(mid(1), refusal)
    assert ack == %V1.Ack{message_id: mid(1), code: 5005, message: "why", ver: 5, retry_after_ms: 7}
    ack = Answers.refused(nil, Refusal.plain(:not_found))
    assert ack == %V1.Ack{code: 5009, message: Code.message(:not_found)}
  end

  test "a command's event keeps what was signed" do
    command = command("ann", 1, say("hi"), raw: "raw", key: "key", redacted_by: "r", signature: "s", trace_id: "t")
    body = {:said, %V1.Said{data: "hi", type: "text"}}
    envelope = Answers.event(@key, @place, command, body)
    assert %V1.Envelope{tenant_id: "acme", room_id: "lobby", trace_id: "t", signature: "s"} = envelope
    assert {envelope.message_id, envelope.timestamp} == {mid(1), start_ms()}

    assert envelope.payload ==
             {:event,
              %V1.Event{
                epoch: 9,
                seq: 8,
                user: "ann",
                term: 2,
                at: 1000,
                prev: 41,
                cmd: "raw",
                key: "key",
                redacted_by: "r",
                body: body
              }}
  end

  test "the room's own event has its time and nobody's name" do
    body = {:unlocked, %V1.Unlocked{expired: true}}
    envelope = Answers.own_event(@key, @place, body)
    event = %V1.Event{epoch: 9, seq: 8, term: 2, at: 1000, prev: 41, body: body}
    assert envelope == %V1.Envelope{tenant_id: "acme", room_id: "lobby", timestamp: 1000, payload: {:event, event}}
  end

  test "replies to sync and get" do
    refused = %SyncReply{code: 5003, message: Code.message(:room_locked), epoch: 9, term: 2}
    assert Answers.sync_refused(:room_locked, @tail) == Codec.encode(refused)
    head = %SyncReply{epoch: 9, term: 2, seq: 7, pos: 40, chain: 0xFFFF_FFFF_FFFF_FFFF}
    assert Answers.sync_head(@tail) == head
  end

  test "the state goes in parts, each at the head's place" do
    value = String.duplicate("x", 16 * 1024)

    state =
      for n <- 1..5, reduce: %State{} do
        state ->
          event = %V1.Event{body: {:key_set, %V1.KeySet{key: "k#{n}", value: value}}}
          State.apply(state, %V1.Envelope{}, event)
      end

    envelopes = Answers.snapshot(@key, %Folded{tail: @tail, state: state})
    assert length(envelopes) == 2

    parts =
      for bytes <- envelopes do
        {:ok, %{timestamp: 1000, payload: {:event, event}}} = Codec.decode(V1.Envelope, bytes)
        assert %V1.Event{epoch: 9, seq: 7, term: 2, at: 1000, prev: 40, body: {:snapshot, part}} = event
        part
      end

    assert parts == State.parts(state)
  end

  test "live messages and answers to open" do
    live = Codec.encode(%Live{epoch: 9, term: 2, n: 3, kind: 1, envelopes: ["e"]})
    assert Answers.live(@tail, 3, ["e"]) == live
    opened = %Opened{node: "brain-1", epoch: 9, term: 2, seq: 7, pos: 40}
    assert Answers.opened("brain-1", @tail, nil) == Codec.encode(opened)
    absent = %{opened | code: 5001, message: Code.message(:room_absent)}
    assert Answers.opened("brain-1", @tail, :room_absent) == Codec.encode(absent)
    assert Answers.sync_bytes_max() == 917_504
  end
end
