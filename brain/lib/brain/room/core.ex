defmodule Brain.Room.Core do
  @moduledoc """
  One room's core at one owner: opening it, judging commands, committing them, answering. Pure: `step/3` takes what
  happened and returns what to do; it reads no clock, draws nothing and calls nobody. The twin of `brain-model`'s `Room`.

  The rules, each of which answers a scenario that breaks without it:

  1. An entry is written expecting the position of the room's last message, and names its predecessor's chain.
  2. One entry is in flight at a time. What arrives meanwhile goes out together in the next (group commit).
  3. Answers, refusals included, leave after the commit of the entry that they were judged on.
  4. An append without a clear outcome is *unresolved*: it is looked for in the log. Mine: committed. A valid other
     entry in its place: surely lost. Nothing: undecided, so the same bytes are sent again. Until then nothing is
     answered, written or read.
  5. After a reconnect, or 2 s without proof, generation and head are read again before anything is written or said.
  6. Taking over is a write; the generation is read again after it; only then is the room served.

  A room begins by reading the generation of its log, and its snapshots:

      iex> me = %{node: "brain-1", incarnation: 7, session: 1}
      iex> core = Brain.Room.Core.new({"acme", "lobby"}, me, Brain.Room.Core.rules())
      iex> {_core, effects} =
      ...>   Brain.Room.Core.step(core, {1_760_000_000_000, 0}, {:open, "_INBOX.s.shield-1.0", true})
      iex> effects
      [{:read, 1, true, true, nil}]
  """

  alias Brain.Room.{Chain, Dedupe, Fold, Folded, Ring, Saturating, State}
  alias Brain.Room.Core.{Commit, Confirm, Open, Parts, Queue, Requests, Snapshot, Turn}

  # Without a PubAck or a confirmation for this long, nothing is written or said before a new confirmation.
  @proof_ms 2000

  @typedoc "Both clocks of the host, read once per step: the wall clock in ms since 1970, and one that only advances."
  @type now :: {wall_ms :: integer, mono_ms :: non_neg_integer}

  @typedoc "Ties an answer to its question: an outcome whose token is not the one waited for is ignored."
  @type token :: non_neg_integer

  @typedoc "Who this owner is. `session`: which of this process' cores of any room; so no entry id is used twice."
  @type identity :: %{node: String.t(), incarnation: non_neg_integer, session: non_neg_integer}

  @typedoc """
  Durations and sizes from the configuration: without a request for `idle_ms` a room becomes dormant; a snapshot is
  written once the log since the last one has `snapshot_entries`, or `snapshot_bytes` and more than the snapshot itself;
  the log is trimmed to the newest snapshot that is `trim_age_ms` old and not above the older of the two stored ones;
  `dedupe` commands of each user are remembered to tell a repeat.
  """
  @type rules :: %{
          idle_ms: non_neg_integer,
          snapshot_entries: non_neg_integer,
          snapshot_bytes: non_neg_integer,
          trim_age_ms: integer,
          dedupe: pos_integer
        }

  @typedoc "A message of a stream: its position and its bytes."
  @type stored :: {pos :: non_neg_integer, body :: binary}

  @typedoc "What a read found. `log` is ascending, without holes; `more`: there is more of it."
  @type found :: %{
          gen_id: nil | non_neg_integer,
          snapshots: [stored],
          log: [stored],
          more: boolean
        }

  @typedoc "What became of an append."
  @type outcome :: {:stored, non_neg_integer} | :wrong_last | :unresolved | :full | :unavailable | :too_big

  @typedoc "What happened."
  @type input ::
          {:open, reply :: binary, create? :: boolean}
          | {:message, reply :: nil | binary, body :: binary}
          | {:read, token, draw :: non_neg_integer, nil | found}
          | {:gen_written, token}
          | {:appended, token, outcome}
          | {:snapshot_written, token, outcome}
          | {:subscribed, token, ok? :: boolean}
          | :reconnected
          | :wake
          | :stop

  @typedoc "Why a room is served no longer here."
  @type why :: :fenced | :absent | :clock_behind | :refused | :idle | :stopped

  @typedoc "What is worth telling: for the trace and the metrics."
  @type note ::
          {:owned, epoch :: non_neg_integer, term :: non_neg_integer, pos :: non_neg_integer}
          | {:committed, epoch :: non_neg_integer, seq :: non_neg_integer, message_id :: nil | binary, user :: binary,
             envelope :: binary}
          | {:head, epoch :: non_neg_integer, term :: non_neg_integer, pos :: non_neg_integer,
             events :: non_neg_integer}
          | {:answered, user :: nil | binary, message_id :: binary, code :: non_neg_integer, duplicate? :: boolean}
          | {:fenced, term :: non_neg_integer}
          | :unresolved
          | {:void, pos :: non_neg_integer}
          | {:refused, Brain.Code.t()}

  @typedoc "What to do. The order within one step counts. `step_down` is the last effect of a room."
  @type effect ::
          {:read, token, gen_id? :: boolean, snapshots? :: boolean, log_from :: nil | non_neg_integer}
          | {:write_gen, token, value :: non_neg_integer}
          | {:append, token, expect :: non_neg_integer, body :: binary}
          | {:write_snapshot, token, expect :: non_neg_integer, body :: binary}
          | {:trim, keep :: non_neg_integer}
          | {:subscribe, token}
          | {:reply, to :: binary, body :: binary}
          | {:live, body :: binary}
          | {:step_down, why}
          | {:note, note}

  # `committed`: the fold of everything that is known to be stored. `ahead`: the same with the entry in flight applied,
  # what the next commands are judged on. `opens`, `held` and `out` are newest first. `held`: what must not leave before
  # the next confirmation. `awaited`: the question that is open. `sent`: how many entries were sent. `alone_before`: what
  # arrived before the entry of this number was sent came to no other owner, for that entry was stored, so nobody had
  # taken the room by then. `proof_ms`: when ownership was last proven. `steady`: no reconnect since the confirmation,
  # or load, that the proof goes back to. `confirms`: how many there were. `renew_above`: an `owned` with a new epoch,
  # above this one, is to be written. `broken_at`: own place when continuity broke: what follows begins a new epoch,
  # unless another owner went on meanwhile.
  @enforce_keys [:key, :me, :rules]
  defstruct key: nil,
            me: nil,
            rules: nil,
            phase: :new,
            committed: nil,
            ahead: nil,
            ring: nil,
            inflight: nil,
            queue: nil,
            opens: [],
            held: [],
            out: [],
            now: {0, 0},
            token: 0,
            awaited: nil,
            counter: 0,
            sent: 0,
            alone_before: 0,
            retry: nil,
            gen_id: 0,
            proof_ms: nil,
            steady: false,
            confirms: 0,
            serving: false,
            renew_above: nil,
            broken_at: nil,
            live_n: 0,
            active_ms: 0,
            snap: nil,
            stopping: false

  @type t :: %__MODULE__{
          key: {tenant :: String.t(), room :: String.t()},
          me: identity,
          rules: rules,
          phase: Parts.phase(),
          committed: Folded.t(),
          ahead: Folded.t(),
          ring: Ring.t(),
          inflight: nil | Parts.Inflight.t(),
          queue: Queue.t(),
          opens: [{binary, boolean}],
          held: [Parts.said()],
          out: [effect],
          now: now,
          token: token,
          awaited: nil | token,
          counter: non_neg_integer,
          sent: non_neg_integer,
          alone_before: non_neg_integer,
          retry: Parts.Backoff.t(),
          gen_id: non_neg_integer,
          proof_ms: nil | non_neg_integer,
          steady: boolean,
          confirms: non_neg_integer,
          serving: boolean,
          renew_above: nil | non_neg_integer,
          broken_at: nil | Brain.Room.Tail.t(),
          live_n: non_neg_integer,
          active_ms: non_neg_integer,
          snap: Snapshot.Known.t(),
          stopping: boolean
        }

  @doc "The rules of a configuration that says nothing."
  @spec rules() :: rules
  def rules do
    %{
      idle_ms: 60_000,
      snapshot_entries: 1024,
      snapshot_bytes: 64 * 1024,
      trim_age_ms: 300_000,
      dedupe: Dedupe.user_entries()
    }
  end

  @doc "A core that owns nothing yet."
  @spec new({String.t(), String.t()}, identity, rules) :: t
  def new({_tenant, _room} = key, me, rules) do
    %__MODULE__{
      key: key,
      me: me,
      rules: rules,
      committed: Fold.new(rules.dedupe),
      ahead: Fold.new(rules.dedupe),
      ring: %Ring{},
      queue: Queue.new(),
      retry: %Parts.Backoff{},
      snap: %Snapshot.Known{}
    }
  end

  @doc "The room as far as it is known to be stored."
  @spec committed(t) :: Folded.t()
  def committed(core), do: core.committed

  @doc "True while commands are taken."
  @spec serving?(t) :: boolean
  def serving?(core), do: core.serving

  @doc "True after `step_down`."
  @spec gone?(t) :: boolean
  def gone?(core), do: core.phase == :gone

  @doc "True if more requests may be given to the room now; else they would be refused as `busy`."
  @spec has_room?(t) :: boolean
  def has_room?(core), do: Queue.has_room?(core.queue)

  @doc "When the room wants `:wake`, by the advancing clock."
  @spec wake_at(t) :: nil | non_neg_integer
  def wake_at(%{phase: :gone}), do: nil

  def wake_at(%{phase: :ready, serving: true, retry: %{at: nil}} = core) do
    core |> idle_at() |> sooner(next_end_at(core)) |> sooner(core.snap.retry.at)
  end

  def wake_at(core), do: sooner(core.retry.at, core.snap.retry.at)

  defp idle_at(core) do
    if Snapshot.pending?(core.snap), do: nil, else: Saturating.u64(core.active_ms + core.rules.idle_ms)
  end

  defp next_end_at(core) do
    case State.next_end(core.committed.state) do
      nil ->
        nil

      ends ->
        {wall_ms, mono_ms} = core.now
        left = ends - max(wall_ms, core.committed.tail.at)
        Saturating.u64(mono_ms + Saturating.i64(max(left, 0)))
    end
  end

  defp sooner(nil, other), do: other
  defp sooner(one, nil), do: one
  defp sooner(one, other), do: min(one, other)

  @doc "One step: the effects of `input` at `now`, in their order."
  @spec step(t, now, input) :: {t, [effect]}
  def step(%{phase: :gone} = core, _now, _input), do: {core, []}

  def step(core, {wall_ms, mono_ms}, input) do
    {_, before_ms} = core.now
    core = %{core | now: {wall_ms, max(before_ms, mono_ms)}}
    core = core |> take(input) |> Turn.pump()
    {%{core | out: []}, Enum.reverse(core.out)}
  end

  defp take(core, {:message, reply, body}), do: Requests.on_message(core, reply, body)
  defp take(core, {:open, reply, create?}), do: Open.on_open(core, reply, create?)
  defp take(core, :reconnected), do: %{core | steady: false}
  defp take(core, :wake), do: Turn.on_wake(core)
  defp take(core, :stop), do: Turn.on_stop(core)

  defp take(core, {:snapshot_written, token, outcome}) do
    Snapshot.on_snapshot_written(core, token, outcome)
  end

  defp take(%{snap: %{asked: token}} = core, {:read, token, _draw, found}) do
    Snapshot.on_snapshots_read(core, found)
  end

  # What is left are answers to the question that is open. An answer closes it; what answers a question of another kind
  # is none, whatever its token.
  defp take(%{awaited: token} = core, input) when elem(input, 1) == token do
    if asked?(core.phase, elem(input, 0)), do: answered(%{core | awaited: nil}, input), else: core
  end

  defp take(core, _late), do: core

  defp asked?(phase, :read) when phase in [:load_head, :recheck], do: true
  defp asked?({phase, _}, :read) when phase in [:load_log, :resolving, :confirming], do: true
  defp asked?(phase, :gen_written) when phase in [:load_gen, :confirm_gen], do: true
  defp asked?(:appending, :appended), do: true
  defp asked?(:subscribing, :subscribed), do: true
  defp asked?(_phase, _kind), do: false

  defp answered(core, {:read, _token, draw, found}), do: Confirm.on_read(core, draw, found)
  defp answered(core, {:gen_written, _token}), do: Confirm.retry_now(core)
  defp answered(core, {:appended, _token, outcome}), do: Commit.on_appended(core, outcome)
  defp answered(core, {:subscribed, _token, ok?}), do: Open.on_subscribed(core, ok?)

  # What the parts of this machine share.

  @doc "Adds an effect to this step's."
  @spec emit(t, effect) :: t
  def emit(core, effect), do: %{core | out: [effect | core.out]}

  @doc "Adds a note to this step's effects."
  @spec note(t, note) :: t
  def note(core, note), do: emit(core, {:note, note})

  @doc "True if ownership was proven lately enough to write and to speak."
  @spec proven?(t) :: boolean
  def proven?(%{steady: true, proof_ms: proof_ms, now: {_, mono_ms}}) when proof_ms != nil do
    mono_ms - proof_ms <= @proof_ms
  end

  def proven?(_core), do: false

  @doc "True if the entry in flight was sent more than once."
  @spec unresolved?(t) :: boolean
  def unresolved?(%{inflight: %{attempts: attempts}}), do: attempts > 1
  def unresolved?(_core), do: false

  @doc "The room's clock now: never behind what the log says."
  @spec room_time(t) :: integer
  def room_time(%{now: {wall_ms, _}, ahead: ahead}), do: max(wall_ms, ahead.tail.at)

  @doc "A token that was not used yet."
  @spec next_token(t) :: {t, token}
  def next_token(core) do
    token = core.token + 1
    {%{core | token: token}, token}
  end

  @doc "Opens a question; the one before it is closed."
  @spec ask(t) :: {t, token}
  def ask(core) do
    token = core.token + 1
    {%{core | token: token, awaited: token, retry: %{core.retry | at: nil}}, token}
  end

  @doc "Tries the present phase again, after a pause."
  @spec pause(t) :: t
  def pause(%{now: {_, mono_ms}} = core) do
    %{core | retry: Parts.Backoff.begin(core.retry, mono_ms)}
  end

  @doc "The id of the next entry."
  @spec next_entry_id(t) :: {t, binary}
  def next_entry_id(core) do
    counter = core.counter + 1
    number = Bitwise.bsl(core.me.session, 32) + counter
    {%{core | counter: counter}, Chain.entry_id(core.me.incarnation, number)}
  end
end
