defmodule Brain.Room.Decide do
  @moduledoc """
  Judges one command against one state: an event, or a refusal with its code. Nothing here changes anything.
  """

  alias Brain.Proto.V1.{KeyDeleted, KeySet, Locked, Said, Unlocked}
  alias Brain.Rights
  alias Brain.Room.{Dedupe, Saturating, State, Tail}
  alias Brain.Room.Incoming.Command

  defmodule Refusal do
    @moduledoc """
    Why a command changes nothing: what to answer, a detail for people (empty: the registry's text), the key's current
    version for `version_conflict`, and when to repeat.
    """
    @enforce_keys [:code]
    defstruct [:code, detail: "", ver: 0, retry_after_ms: 0]

    @type t :: %__MODULE__{
            code: atom(),
            detail: binary(),
            ver: non_neg_integer(),
            retry_after_ms: non_neg_integer()
          }

    @doc "With no more to say than its code."
    @spec plain(atom()) :: t()
    def plain(code), do: %__MODULE__{code: code}

    @doc "With a detail for people."
    @spec because(atom(), binary()) :: t()
    def because(code, detail), do: %__MODULE__{code: code, detail: detail}
  end

  # The longest reason of a lock and the longest type of a `say`, in bytes.
  @reason_bytes_max 256
  @type_bytes_max 64
  # The longest that a key, a lock, a ban or a mute may be asked to last: 366 days, so that a leap year fits. What must last
  # longer lasts until it is ended (0). The bound keeps every end, and every timer to it, far from where a clock or a
  # runtime's timers end: Erlang's take less than 50 days at a time, and so few steps reach any end.
  @ttl_max_ms 366 * 86_400_000
  # How long a sender waits when the window is full: by then some of it may have left.
  @busy_retry_ms 1000

  @keys_max State.keys_max()
  @key_bytes_max State.key_bytes_max()
  @value_bytes_max State.value_bytes_max()
  @state_bytes_max State.state_bytes_max()

  @typedoc "What happened, as the member of `Event.body` that says so."
  @type body :: {atom(), struct()}

  @typedoc """
  What becomes of a command: it is stored as this event; it is sent to whoever listens, and not stored; it was stored
  before, there; it changes nothing.
  """
  @type decision ::
          {:event, body()}
          | {:ephemeral, body()}
          | {:repeat, Dedupe.Seen.t()}
          | {:refuse, Refusal.t()}

  @doc "The longest that something may be asked to last, ms."
  @spec ttl_max_ms() :: pos_integer()
  def ttl_max_ms, do: @ttl_max_ms

  @doc "Judges `command` at the room's time `at`, as the event `tail.seq + 1`."
  @spec decide(State.t(), Tail.t(), integer(), Command.t()) :: decision()
  def decide(state, tail, at, command) do
    with :new <- known(state, at, command),
         {:ok, needs} <- needs(command.op),
         :ok <- may(command, needs),
         :ok <- ephemeral(command),
         :ok <- at_head(command.if_head, tail),
         :ok <- unlocked(state, command),
         {:ok, body} <- judge(command.op, state, tail, at, command) do
      {if(command.ephemeral, do: :ephemeral, else: :event), body}
    end
  end

  defp known(_state, _at, %{ephemeral: true}), do: :new

  defp known(state, at, command) do
    case Dedupe.judge(state.dedupe, command.caller.user, command.id, command.timestamp, at) do
      :expired -> refuse(:outcome_expired)
      :full -> {:refuse, %Refusal{code: :busy, retry_after_ms: @busy_retry_ms}}
      {:repeat, seen} -> if Command.repeats?(command, seen), do: {:repeat, seen}, else: refuse(:message_id_reused)
      :new -> :new
    end
  end

  defp needs({:say, _}), do: {:ok, :pub}
  defp needs({op, _}) when op in [:set, :delete], do: {:ok, :state}
  defp needs({op, _}) when op in [:lock, :unlock], do: {:ok, :mod}
  defp needs(nil), do: refuse(:bad_command, "the command names no operation")
  defp needs(_later), do: refuse(:unsupported_operation)

  defp may(command, right) do
    if Rights.has?(command.caller.rights, right), do: :ok, else: refuse(:permission_denied)
  end

  defp ephemeral(%{ephemeral: true, op: {op, _}}) when op != :say,
    do: refuse(:bad_command, "only say can be ephemeral")

  defp ephemeral(_command), do: :ok

  defp at_head(nil, _tail), do: :ok
  defp at_head(%{epoch: epoch, seq: seq}, %{epoch: epoch, seq: seq}), do: :ok
  defp at_head(_head, _tail), do: refuse(:version_conflict, "the room's head is not if_head")

  defp unlocked(%{lock: nil}, _command), do: :ok

  defp unlocked(%{lock: lock}, command) do
    if State.LockState.bars_write?(lock) and not Rights.has?(command.caller.rights, :mod),
      do: refuse(:room_locked),
      else: :ok
  end

  defp judge({:say, say}, _state, _tail, _at, _command) do
    if byte_size(say.type) > @type_bytes_max,
      do: refuse(:bad_command, "say.type is at most 64 bytes"),
      else: {:ok, {:said, %Said{data: say.data, type: say.type}}}
  end

  defp judge({:set, set}, state, tail, at, _command) do
    old = State.get(state, set.key)

    with :ok <- fits(set),
         :ok <- expected(old, set.expect),
         :ok <- within_quota(state, set, old),
         {:ok, expires_at} <- end_after(at, set.ttl_ms) do
      {:ok,
       {:key_set,
        %KeySet{
          key: set.key,
          value: set.value,
          ver: Saturating.u64(tail.seq + 1),
          expires_at: expires_at
        }}}
    end
  end

  defp judge({:delete, delete}, state, _tail, _at, _command) do
    old = State.get(state, delete.key)

    with :ok <- expected(old, delete.expect) do
      if old,
        do: {:ok, {:key_deleted, %KeyDeleted{key: delete.key}}},
        else: refuse(:not_found)
    end
  end

  defp judge({:lock, lock}, _state, _tail, at, command) do
    cond do
      lock.mode not in [:join, :write, :all] ->
        refuse(:bad_command, "lock.mode is join, write or all")

      byte_size(lock.reason) > @reason_bytes_max ->
        refuse(:bad_command, "lock.reason is at most 256 bytes")

      true ->
        with {:ok, until} <- end_after(at, lock.ttl_ms) do
          locked = %Locked{mode: lock.mode, reason: lock.reason, until: until, user: command.caller.user}
          {:ok, {:locked, locked}}
        end
    end
  end

  defp judge({:unlock, _unlock}, %{lock: nil}, _tail, _at, _command), do: refuse(:not_found)

  defp judge({:unlock, unlock}, %{lock: lock}, _tail, _at, command) do
    if lock.user == command.caller.user or unlock.force,
      do: {:ok, {:unlocked, %Unlocked{}}},
      else: refuse(:permission_denied, "another moderator locked the room: unlock with force")
  end

  defp fits(%{key: key, value: value})
       when key == "" or byte_size(key) > @key_bytes_max or byte_size(value) > @value_bytes_max,
       do: refuse(:value_too_large)

  defp fits(_set), do: :ok

  # `expect`: absent = any, 0 = must not exist, n = must equal the key's version.
  defp expected(_old, nil), do: :ok
  defp expected(%{ver: ver}, ver), do: :ok
  defp expected(nil, 0), do: :ok

  defp expected(old, _expect) do
    ver = if old, do: old.ver, else: 0
    {:refuse, %{Refusal.because(:version_conflict, "the key has another version") | ver: ver}}
  end

  defp within_quota(state, set, old) do
    freed = if old, do: State.slot_cost(set.key, byte_size(old.value)), else: 0
    bytes = State.bytes(state) - freed + State.slot_cost(set.key, byte_size(set.value))

    cond do
      old == nil and State.len(state) >= @keys_max ->
        refuse(:state_quota, "a room has at most 256 keys")

      bytes > @state_bytes_max ->
        refuse(:state_quota, "a room's state is at most 512 KiB")

      true ->
        :ok
    end
  end

  # When what lasts for `ttl_ms` from `at` on ends; 0: never.
  defp end_after(_at, 0), do: {:ok, 0}
  defp end_after(at, ttl_ms) when ttl_ms <= @ttl_max_ms, do: {:ok, State.after_ttl(at, ttl_ms)}
  defp end_after(_at, _ttl_ms), do: refuse(:ttl_too_long)

  defp refuse(code), do: {:refuse, Refusal.plain(code)}
  defp refuse(code, detail), do: {:refuse, Refusal.because(code, detail)}
end
