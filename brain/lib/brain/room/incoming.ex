defmodule Brain.Room.Incoming do
  @moduledoc """
  What arrives on `in.…`, checked and decoded. The Brain applies the canonical rule again, takes tenant and room from the
  subject and the user from the `sender` that the Shield appended, and nothing else on trust.
  """

  alias Brain.{Codec, Envelope, Id}
  alias Brain.Proto.V1

  defmodule Caller do
    @moduledoc "Who asks: the user, verified by the Shield, and the rights granted for this room."
    @enforce_keys [:user, :rights]
    defstruct [:user, :rights]

    @type t :: %__MODULE__{user: binary(), rights: Brain.Rights.t()}
  end

  defmodule Command do
    @moduledoc """
    A client's command: who sent it, its idempotency key (`id`, 16 bytes), the sender's clock (`timestamp`, ms), what is
    kept in the event and its envelope (`trace_id`; `signature`, empty after a redaction; `key`; `redacted_by`; `raw`, the
    payload as received), and what to do: `ephemeral`, only at this head (`if_head`), `op`. `op: nil`: nothing this
    version knows.
    """
    alias Brain.Proto.V1
    alias Brain.Room.{Chain, Dedupe}
    alias Brain.Room.Incoming.Caller

    @enforce_keys [:caller, :id, :timestamp]
    defstruct [
      :caller,
      :id,
      :timestamp,
      trace_id: "",
      signature: <<>>,
      key: <<>>,
      redacted_by: <<>>,
      raw: <<>>,
      ephemeral: false,
      if_head: nil,
      op: nil
    ]

    @type t :: %__MODULE__{
            caller: Caller.t(),
            id: binary(),
            timestamp: integer(),
            trace_id: binary(),
            signature: binary(),
            key: binary(),
            redacted_by: binary(),
            raw: binary(),
            ephemeral: boolean(),
            if_head: nil | V1.Head.t(),
            op: nil | {atom(), struct()}
          }

    @doc """
    True if it may be the one that is remembered as `seen` under its id: the same timestamp and bytes. What a policy rewrote
    is known by its id alone.
    """
    @spec repeats?(t(), Dedupe.Seen.t()) :: boolean()
    def repeats?(command, seen) do
      seen.fingerprint == 0 or command.redacted_by != "" or
        seen.fingerprint == Chain.fingerprint(command.timestamp, command.raw)
    end

    @doc "True if the other one, of the same user and id, says something else."
    @spec differs?(t(), t()) :: boolean()
    def differs?(%{redacted_by: "", timestamp: timestamp, raw: raw}, %{redacted_by: ""} = other),
      do: other.timestamp != timestamp or other.raw != raw

    def differs?(_one, _other), do: false
  end

  defmodule SyncAsk do
    @moduledoc "A SUB's question: who subscribes, and what is asked."
    alias Brain.Proto.V1
    alias Brain.Room.Incoming.Caller

    @enforce_keys [:caller, :sync]
    defstruct [:caller, :sync]

    @type t :: %__MODULE__{caller: Caller.t(), sync: V1.Sync.t()}
  end

  defmodule Unreadable do
    @moduledoc """
    Why a request was refused before it came to the room: what to answer, a detail for people, and the message id if it
    was read before the fault.
    """
    @enforce_keys [:code]
    defstruct [:code, detail: "", message_id: nil]

    @type t :: %__MODULE__{code: atom(), detail: binary(), message_id: nil | binary()}
  end

  @typedoc """
  One of a Shield's requests: a client's command; leave to subscribe, and what is needed to begin; the current state.
  """
  @type t :: {:command, Command.t()} | {:sync, SyncAsk.t()} | {:get, Caller.t()}

  @doc "Checks and decodes one message. What the command keeps of `body` is a part of it, not a copy."
  @spec read(binary()) :: {:ok, t()} | {:error, Unreadable.t()}
  def read(body) do
    case Envelope.forwarded(body) do
      {:ok, view} -> read_view(view)
      {:error, error} -> refuse(error.message_id, error.code, error.detail)
    end
  end

  defp read_view(view) do
    with {:ok, sender} <- decode(V1.Sender, view.sender, "the sender is unreadable"),
         {:ok, caller} <- caller(sender),
         {:ok, incoming} <- payload(view, sender, caller) do
      {:ok, incoming}
    else
      {:refuse, code, detail} -> refuse(message_id(view), code, detail)
    end
  end

  defp caller(sender) do
    if Id.valid?(:user, sender.user),
      do: {:ok, %Caller{user: sender.user, rights: sender.rights}},
      else: {:refuse, :missing_field, "the sender has no user"}
  end

  defp payload(%{payload: {:signal, raw}}, _sender, caller) do
    with {:ok, signal} <- decode(V1.SystemSignal, raw, "no signal") do
      case signal.ask do
        # It may wait, and counts as the few bytes that it is: it must not keep the whole message.
        {:sync, sync} -> {:ok, {:sync, %SyncAsk{caller: %{caller | user: :binary.copy(caller.user)}, sync: sync}}}
        {:get, _} -> {:ok, {:get, %{caller | user: :binary.copy(caller.user)}}}
        nil -> {:refuse, :bad_command, "a signal must ask sync or get"}
      end
    end
  end

  defp payload(%{payload: {:cmd, raw}} = view, sender, caller) do
    with {:ok, command} <- decode(V1.Command, raw, "no command") do
      {:ok,
       {:command,
        %Command{
          caller: caller,
          id: view.message_id,
          timestamp: view.timestamp,
          trace_id: view.trace_id,
          signature: view.signature,
          key: sender.public_key,
          redacted_by: sender.redacted_by,
          raw: raw,
          ephemeral: command.ephemeral,
          if_head: command.if_head,
          op: command.op
        }}}
    end
  end

  defp decode(module, bytes, detail) do
    case Codec.decode(module, bytes) do
      {:ok, message} -> {:ok, message}
      {:error, _} -> {:refuse, :malformed_envelope, detail}
    end
  end

  defp message_id(%{message_id: id}) when byte_size(id) == 16, do: id
  defp message_id(_view), do: nil

  defp refuse(message_id, code, detail),
    do: {:error, %Unreadable{code: code, detail: detail, message_id: message_id}}
end
