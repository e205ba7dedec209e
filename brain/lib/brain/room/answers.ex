defmodule Brain.Room.Answers do
  @moduledoc """
  The bytes of what a room says: acks, replies to sync and get, live events, and the events of its log. A `key` is the
  room's: `{tenant, room}`.
  """

  alias Brain.{Code, Codec}
  alias Brain.Proto.Internal.{Live, Opened, SyncReply}
  alias Brain.Proto.V1.{Ack, Envelope, Event}
  alias Brain.Room.{Decide, Folded, State, Tail}
  alias Brain.Room.Incoming.Command

  defmodule Place do
    @moduledoc "Where an event stands; `prev` is that of its entry."
    @enforce_keys [:epoch, :term, :seq, :at, :prev]
    defstruct [:epoch, :term, :seq, :at, :prev]

    @type t :: %__MODULE__{
            epoch: non_neg_integer(),
            term: non_neg_integer(),
            seq: non_neg_integer(),
            at: integer(),
            prev: non_neg_integer()
          }
  end

  @typedoc "The room: tenant and name."
  @type key :: {binary(), binary()}

  # `Live.kind` of ephemeral events.
  @live_ephemeral 1

  @doc "The most bytes of one SyncReply's events and snapshot."
  @spec sync_bytes_max() :: pos_integer()
  def sync_bytes_max, do: 896 * 1024

  @doc "Success, at a place."
  @spec stored(binary(), non_neg_integer(), non_neg_integer(), boolean()) :: Ack.t()
  def stored(id, epoch, seq, duplicate),
    do: %Ack{message_id: id, epoch: epoch, seq: seq, duplicate: duplicate}

  @doc "A refusal."
  @spec refused(nil | binary(), Decide.Refusal.t()) :: Ack.t()
  def refused(id, refusal) do
    %Ack{
      message_id: id || <<>>,
      code: Code.number(refusal.code),
      message: if(refusal.detail == "", do: Code.message(refusal.code), else: refusal.detail),
      retry_after_ms: refusal.retry_after_ms,
      ver: refusal.ver
    }
  end

  @doc "A command's event."
  @spec event(key(), Place.t(), Command.t(), Decide.body()) :: Envelope.t()
  def event(key, place, command, body) do
    event = %Event{
      bare(place, body)
      | user: command.caller.user,
        cmd: command.raw,
        key: command.key,
        redacted_by: command.redacted_by
    }

    %Envelope{
      envelope(key, event)
      | trace_id: command.trace_id,
        timestamp: command.timestamp,
        message_id: command.id,
        signature: command.signature
    }
  end

  @doc "What the room itself did."
  @spec own_event(key(), Place.t(), Decide.body()) :: Envelope.t()
  def own_event(key, place, body),
    do: %Envelope{envelope(key, bare(place, body)) | timestamp: place.at}

  defp bare(place, body) do
    %Event{
      epoch: place.epoch,
      seq: place.seq,
      term: place.term,
      at: place.at,
      prev: place.prev,
      body: body
    }
  end

  defp envelope({tenant, room}, event),
    do: %Envelope{tenant_id: tenant, room_id: room, payload: {:event, event}}

  @doc "A refusal of a sync or get."
  @spec sync_refused(atom(), Tail.t()) :: binary()
  def sync_refused(code, tail) do
    Codec.encode(%SyncReply{
      code: Code.number(code),
      message: Code.message(code),
      epoch: tail.epoch,
      term: tail.term
    })
  end

  @doc "The head alone: what every other reply begins with."
  @spec sync_head(Tail.t()) :: SyncReply.t()
  def sync_head(tail) do
    %SyncReply{
      epoch: tail.epoch,
      term: tail.term,
      seq: tail.seq,
      pos: tail.pos,
      chain: tail.chain
    }
  end

  @doc "The state in parts, each an envelope ready for clients."
  @spec snapshot(key(), Folded.t()) :: [binary()]
  def snapshot(key, %{tail: tail, state: state}) do
    place = %Place{epoch: tail.epoch, term: tail.term, seq: tail.seq, at: tail.at, prev: tail.pos}
    for part <- State.parts(state), do: Codec.encode(own_event(key, place, {:snapshot, part}))
  end

  @doc "A live message."
  @spec live(Tail.t(), non_neg_integer(), [binary()]) :: binary()
  def live(tail, n, envelopes) do
    Codec.encode(%Live{
      epoch: tail.epoch,
      term: tail.term,
      n: n,
      kind: @live_ephemeral,
      envelopes: envelopes
    })
  end

  @doc "The answer to an open."
  @spec opened(binary(), Tail.t(), nil | atom()) :: binary()
  def opened(node, tail, refused) do
    Codec.encode(%Opened{
      code: if(refused, do: Code.number(refused), else: 0),
      node: node,
      epoch: tail.epoch,
      term: tail.term,
      seq: tail.seq,
      pos: tail.pos,
      message: if(refused, do: Code.message(refused), else: "")
    })
  end
end
