defmodule Brain.Room.Core.Parts do
  @moduledoc "What a room's core is made of: its phase, what waits in it, what is in flight, and what is said after."

  alias Brain.Proto.{Internal, V1}
  alias Brain.Room.Core.{Confirm, Open}
  alias Brain.Room.{Incoming, Tail}

  @typedoc """
  What a room is waiting for. One question is open at a time, the snapshot's append aside.

  - `new`: nobody has asked for the room yet.
  - `load_head`: generation and snapshots are being read. `load_gen`: no generation was there, one is being written.
    `load_log`: the log is being read.
  - `appending`: an entry was sent. `resolving`: the log is being read for the unresolved entry, from its predecessor on,
    or from behind what was walked.
  - `recheck`: the generation is being read again after `owned`.
  - `anchoring`: the state that a new epoch begins with is being written, for the log alone does not yield it.
  - `subscribing`: `in.…` is being subscribed to.
  - `ready`: nothing is in flight.
  - `confirming`: generation and head are being confirmed. `confirm_gen`: a generation vanished while the room was
    served, a new one is being written.
  - `gone`: served no longer.
  """
  @type phase ::
          :new
          | :load_head
          | :load_gen
          | {:load_log, Open.Load.t()}
          | :appending
          | {:resolving, nil | Tail.t()}
          | :recheck
          | :anchoring
          | :subscribing
          | :ready
          | {:confirming, Confirm.progress()}
          | :confirm_gen
          | :gone

  @typedoc "A request that waits for its turn. `arrived`: how many entries had been sent by then."
  @type waiting ::
          {:command, reply :: binary, Incoming.Command.t(), bytes :: non_neg_integer, arrived :: non_neg_integer}
          | {:get, reply :: binary, Incoming.Caller.t()}
          | {:sync, reply :: binary, Incoming.SyncAsk.t(), confirms :: non_neg_integer}

  @typedoc "What is said once the entry in flight is committed."
  @type said ::
          {:ack, reply :: binary, user :: nil | binary, V1.Ack.t()}
          | {:live, binary}
          | {:get, reply :: binary, Incoming.Caller.t()}

  defmodule Backoff do
    @moduledoc "A retry to come: when, by the advancing clock; `nil`: an answer is awaited."

    alias Brain.Room.Saturating

    # First pause before something that failed is tried again; it doubles up to the longest.
    @retry_min_ms 10
    @retry_max_ms 500

    defstruct at: nil, pause_ms: 0
    @type t :: %__MODULE__{at: nil | non_neg_integer, pause_ms: non_neg_integer}

    @doc "The next pause begins, between these two."
    @spec begin(t, non_neg_integer, non_neg_integer, non_neg_integer) :: t
    def begin(backoff, mono_ms, min_ms \\ @retry_min_ms, max_ms \\ @retry_max_ms) do
      pause_ms = (backoff.pause_ms * 2) |> max(min_ms) |> min(max_ms)
      %__MODULE__{at: Saturating.u64(mono_ms + pause_ms), pause_ms: pause_ms}
    end
  end

  defmodule Inflight do
    @moduledoc "The entry in flight. `taken`: what was taken from the queue for it, judged again if it is built anew."

    @enforce_keys [:entry, :events, :body, :chain, :said, :taken]
    defstruct [:entry, :events, :body, :chain, :said, :taken, attempts: 0]

    @type t :: %__MODULE__{
            entry: Internal.LogEntry.t(),
            events: [V1.Envelope.t()],
            body: binary,
            chain: non_neg_integer,
            attempts: non_neg_integer,
            said: [Brain.Room.Core.Parts.said()],
            taken: [Brain.Room.Core.Parts.waiting()]
          }
  end
end
