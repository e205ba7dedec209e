defmodule Brain.Spine do
  @moduledoc """
  JetStream as the Brain needs it, over one `Brain.Nats` connection: the twin of the Rust trait `Spine` and of
  `spine/src/jetstream`, with the same outcomes for the same answers.

      spine = Brain.Spine.new(:writer, logs: 1, timeout_ms: 2_000)
      :ok = Brain.Spine.ensure(spine, Brain.Spine.StreamSpec.log(0, 1, 1, 0))
      {:stored, 1} = Brain.Spine.append(spine, "log.214.t.acme.r.lobby", 0, "entry")
      {:ok, %{entries: [%{seq: 1, body: "entry"}], more: false}} =
        Brain.Spine.read(spine, "log.214.t.acme.r.lobby", 1, 32, :leader)

  Every call exists a second time as `…_async`, with a tag last: it returns `:ok` at once, and the caller gets
  `{:spine, tag, result}`, once and surely, within the deadline. A process of its own makes the call, so no caller waits
  and no late answer reaches a mailbox.

  Reads wait for a connection, at most the deadline; an append does not: without one it is `:unresolved` at once and
  nothing is sent, now or later, because after a reconnect the log must be looked at first (LOG 2).
  """

  alias Brain.Nats
  alias Brain.Spine.{Append, Call, Read, StreamSpec, Streams}

  @enforce_keys [:conn, :api, :logs, :timeout_ms]
  defstruct [:conn, :api, :logs, :timeout_ms]

  @type t :: %__MODULE__{conn: Nats.conn(), api: binary, logs: pos_integer, timeout_ms: pos_integer}

  @typedoc "A position in a stream, from 1 on; 0 as an expectation: the subject has no message."
  @type seq :: non_neg_integer
  @type stored :: %{subject: binary, seq: seq, body: binary}
  @typedoc "Stored messages, ascending; whether more follow the last of them."
  @type batch :: %{entries: [stored], more: boolean}
  @typedoc "Direct Get (any replica) or `STREAM.MSG.GET` (the leader). Neither is linearizable."
  @type via :: :direct | :leader

  @typedoc "What the room's core is told."
  @type outcome :: {:stored, seq} | :wrong_last | :unresolved | :full | :unavailable | :too_big
  @typedoc """
  Why an append is not known to be stored. `:unresolved`: it may be, now or later. `:refused`: surely not by this attempt,
  with what that means; `code` is JetStream's err_code, or the status of an answer that is a status alone, or 0 if nothing
  was sent. `:full`: an operator must act. `:unavailable`: the same bytes may pass later. `:too_big`: they never do.
  """
  @type append_error ::
          {:unresolved, :timeout | :disconnected | :wrong_last | :undecided | {:failed, code :: non_neg_integer}}
          | {:refused, :full | :unavailable | :too_big | :no_stream | :closed, code :: non_neg_integer, binary}
  @typedoc """
  `:timeout`: no answer in time, or no connection. `:no_stream`: no stream holds the subject, by its name or because the
  server does not have the stream. `:unavailable`: not now, such as without a leader.
  """
  @type read_error ::
          :timeout
          | :no_stream
          | :closed
          | {:unavailable, code :: non_neg_integer, binary}
          | {:refused, code :: non_neg_integer, binary}
  @typedoc """
  The broker has not the room for a stream: it reserves so many bytes (0: none in advance) in its storage, on each of so
  many servers. Waiting does not help.
  """
  @type no_room ::
          {:no_room, stream :: binary, {non_neg_integer, :file | :memory, pos_integer}, code :: non_neg_integer, binary}
  @typedoc "A stream that is not as specified: the first property that differs."
  @type differs :: {:differs, stream :: binary, what :: binary, found :: term, expected :: term}

  @doc """
  A Spine over a connection. `logs`: how many log streams there are (1). `timeout_ms`: the longest that a call waits for
  all its answers (2,000). `api`: where JetStream's API begins in the account of the connection's user (`$JS.API`, as the
  writer has it).
  """
  @spec new(Nats.conn(), logs: pos_integer, timeout_ms: pos_integer, api: binary) :: t
  def new(conn, options \\ []) do
    struct!(%__MODULE__{conn: conn, api: "$JS.API", logs: 1, timeout_ms: 2_000}, options)
  end

  @doc """
  Appends to the stream that holds `subject`, only if the last message there of this very subject has the position
  `expect`. Never sets `Nats-Msg-Id`.
  """
  @spec append(t, binary, seq, binary) :: outcome
  def append(spine, subject, expect, body), do: Append.outcome(attempt(spine, subject, expect, body), subject)

  @doc "`append/4`, its outcome as `{:spine, tag, outcome}`."
  @spec append_async(t, binary, seq, binary, term) :: :ok
  def append_async(spine, subject, expect, body, tag) do
    # Whatever goes wrong on the way, "unknown" is true.
    Call.start(tag, :unresolved, fn -> append_here(spine, subject, expect, body) end)
  end

  defp append_here(spine, subject, expect, body) do
    Append.outcome(Append.run(spine, subject, expect, body), subject)
  end

  @doc """
  `append/4` without a process of its own, for who appends often: the caller gets the client's
  `{:nats_reply, tag, result}`, which `appended/3` reads. It comes surely unless the connection's process is killed, so the
  caller must not outlive that. `subject` must lie in a stream.
  """
  @spec append_direct(t, binary, seq, binary, term) :: :ok
  def append_direct(spine, subject, expect, body, tag), do: Append.begin(spine, subject, expect, body, tag)

  @doc "The outcome of an `append_direct/5` to `subject`, from its reply."
  @spec appended(t, binary, {:ok, Nats.message()} | {:error, Nats.request_error()}) :: outcome
  def appended(spine, subject, result), do: Append.finish(spine, subject, result)

  @doc "`append/4` with the reason why not."
  @spec attempt(t, binary, seq, binary) :: {:ok, seq} | {:error, append_error}
  def attempt(spine, subject, expect, body) do
    Call.wait({:error, {:unresolved, :timeout}}, fn -> Append.run(spine, subject, expect, body) end)
  end

  @doc "The last stored message of a subject; `nil` if there is none."
  @spec last(t, binary, via) :: {:ok, stored | nil} | {:error, read_error}
  def last(spine, subject, via), do: Call.wait({:error, :timeout}, fn -> Read.last(spine, subject, via) end)

  @doc "`last/3`, its result as `{:spine, tag, result}`."
  @spec last_async(t, binary, via, term) :: :ok
  def last_async(spine, subject, via, tag) do
    Call.start(tag, {:error, :timeout}, fn -> Read.last(spine, subject, via) end)
  end

  @doc """
  Stored messages of a subject from position `from` on, at most `max` of them and about 1 MiB (the first in any case). By
  the leader they are asked for one at a time: what has come by the deadline is given, and `more` says that it may go on.
  """
  @spec read(t, binary, seq, non_neg_integer, via) :: {:ok, batch} | {:error, read_error}
  def read(spine, subject, from, max, via) do
    Call.wait({:error, :timeout}, fn -> Read.read(spine, subject, from, max, via) end)
  end

  @doc "`read/5`, its result as `{:spine, tag, result}`."
  @spec read_async(t, binary, seq, non_neg_integer, via, term) :: :ok
  def read_async(spine, subject, from, max, via, tag) do
    Call.start(tag, {:error, :timeout}, fn -> Read.read(spine, subject, from, max, via) end)
  end

  @doc """
  The last stored message of each subject that matches, ascending by position. All of them lie in one stream. Up to 1,024
  subjects in one answer; beyond, the matching messages are read through, at most 65,536, else refused with code 413.
  """
  @spec last_of(t, binary) :: {:ok, batch} | {:error, read_error}
  def last_of(spine, pattern), do: Call.wait({:error, :timeout}, fn -> Read.last_of(spine, pattern) end)

  @doc "`last_of/2`, its result as `{:spine, tag, result}`."
  @spec last_of_async(t, binary, term) :: :ok
  def last_of_async(spine, pattern, tag) do
    Call.start(tag, {:error, :timeout}, fn -> Read.last_of(spine, pattern) end)
  end

  @doc "Deletes the messages of a subject below position `keep`. No purge without a position exists."
  @spec purge_below(t, binary, seq) :: :ok | {:error, read_error}
  def purge_below(spine, subject, keep) do
    Call.wait({:error, :timeout}, fn -> Streams.purge_below(spine, subject, keep) end)
  end

  @doc "`purge_below/3`, its result as `{:spine, tag, result}`."
  @spec purge_below_async(t, binary, seq, term) :: :ok
  def purge_below_async(spine, subject, keep, tag) do
    Call.start(tag, {:error, :timeout}, fn -> Streams.purge_below(spine, subject, keep) end)
  end

  @doc "Creates a stream, or verifies that the one there is has this specification."
  @spec ensure(t, StreamSpec.t()) :: :ok | {:error, differs | no_room | read_error}
  def ensure(spine, spec), do: Call.wait({:error, :timeout}, fn -> Streams.ensure(spine, spec) end)

  @doc "`ensure/2`, its result as `{:spine, tag, result}`."
  @spec ensure_async(t, StreamSpec.t(), term) :: :ok
  def ensure_async(spine, spec, tag), do: Call.start(tag, {:error, :timeout}, fn -> Streams.ensure(spine, spec) end)

  @doc "An error in words for the operator."
  @spec explain(append_error | read_error | differs | no_room) :: binary
  def explain({:unresolved, :timeout}), do: "unknown whether it was stored: no answer in time"
  def explain({:unresolved, :disconnected}), do: "unknown whether it was stored: the connection was lost"
  def explain({:unresolved, :wrong_last}), do: "unknown whether it was stored: wrong last sequence (10071)"
  def explain({:unresolved, :undecided}), do: "unknown whether it was stored: undecided in the cluster (10164)"

  def explain({:unresolved, {:failed, code}}) do
    "unknown whether it was stored: JetStream answered with err_code #{code}, which decides nothing"
  end

  def explain({:refused, why, code, text}), do: "refused, #{why} (err_code #{code}): #{text}"
  def explain({:refused, code, text}), do: "refused with err_code #{code}: #{text}"
  def explain({:unavailable, code, text}), do: "unavailable (err_code #{code}): #{text}"
  def explain(:timeout), do: "no answer in time"
  def explain(:no_stream), do: "no stream holds this subject"
  def explain(:closed), do: "the connection is closed"

  def explain({:no_room, stream, {reserves, storage, replicas}, code, text}) do
    "stream #{stream} cannot be made: it reserves #{bytes(reserves)} of #{storage(storage)} on each of #{replicas} " <>
      "server(s), and the broker refuses with err_code #{code}: #{text}; lower [nats] log_max_bytes or logs, or give " <>
      "JetStream more room"
  end

  def explain({:differs, stream, what, found, expected}) do
    "stream #{stream} exists with another #{what}: #{inspect(found)}, expected #{inspect(expected)}; change it with " <>
      "the nats tool or choose another account"
  end

  defp storage(:file), do: "disk"
  defp storage(:memory), do: "memory"

  defp bytes(n) when n >= 1_073_741_824, do: "#{Float.round(n / 1_073_741_824, 1)} GiB"
  defp bytes(n) when n >= 1_048_576, do: "#{Float.round(n / 1_048_576, 1)} MiB"
  defp bytes(n), do: "#{n} B"
end
