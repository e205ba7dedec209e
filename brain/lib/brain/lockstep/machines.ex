defmodule Brain.Lockstep.Machines do
  @moduledoc """
  Every core that a driver made, by (node, key), and the machines that need none: the twin of
  `sim-tests/src/lockstep/machines.rs`. At most 4,096 cores of a kind; a driver uses the same few again.
  """

  alias Brain.Lockstep.{Codecs, Words}
  alias Brain.Codec
  alias Brain.Mesh.Peers
  alias Brain.Proto.Internal.Heartbeat
  alias Brain.Proto.Lockstep.{Effect, HeardBeat, Living, Ranking, RoomDigest, Step, StepReply}
  alias Brain.Room.{Core, Dedupe, Fold, State}

  @cores_max 4096

  defstruct rooms: %{}, peers: %{}, codecs: %{}

  @typedoc "Which core: of which node, and which there."
  @type place :: {non_neg_integer(), binary()}

  @type t :: %__MODULE__{
          rooms: %{place() => Core.t()},
          peers: %{place() => Peers.t()},
          codecs: Codecs.t()
        }

  @doc "None yet."
  @spec new() :: t()
  def new, do: %__MODULE__{codecs: Codecs.all()}

  @doc "One step: its reply, and the machines after it. What a core raises is told, and changes nothing."
  @spec step(t(), Step.t()) :: {StepReply.t(), t()}
  def step(machines, step) do
    take(step.machine, machines, {step.node, step.key}, step)
  catch
    kind, reason -> {%StepReply{error: Exception.format(kind, reason, __STACKTRACE__)}, machines}
  end

  defp take(:room, machines, place, step), do: room(machines, place, step)
  defp take(:placement, machines, place, step), do: placement(machines, place, step)
  defp take(:codec, machines, _place, step), do: {effects([Codecs.step(machines.codecs, step.input)]), machines}
  defp take(_unknown, machines, _place, _step), do: {%StepReply{error: "no such machine"}, machines}

  # === rooms

  defp room(machines, place, %{reset: nil} = step) do
    case machines.rooms do
      %{^place => core} -> stepped(machines, place, core, step)
      _ -> {%StepReply{error: "no such core: reset makes one"}, machines}
    end
  end

  defp room(machines, place, step) do
    bounded!(machines.rooms, place)
    stepped(machines, place, new_core(step.reset), step)
  end

  defp bounded!(cores, place) do
    if map_size(cores) >= @cores_max and not is_map_key(cores, place), do: raise("too many cores")
  end

  defp new_core(%{identity: me, rules: rules} = reset) do
    me = %{node: me.node, incarnation: me.incarnation, session: me.session}

    rules = %{
      idle_ms: rules.idle_ms,
      snapshot_entries: rules.snapshot_entries,
      snapshot_bytes: rules.snapshot_bytes,
      trim_age_ms: rules.trim_age_ms,
      dedupe: rules.dedupe
    }

    Core.new({reset.tenant, reset.room}, me, rules)
  end

  defp stepped(machines, place, core, %{input: nil} = step) do
    {reply(core, [], step), put_room(machines, place, core)}
  end

  defp stepped(machines, place, core, step) do
    {core, effects} = Core.step(core, {step.wall_ms, step.mono_ms}, Words.input(step.input))
    {reply(core, effects, step), put_room(machines, place, core)}
  end

  defp put_room(machines, place, core), do: %{machines | rooms: Map.put(machines.rooms, place, core)}

  defp reply(core, effects, step) do
    reply = %StepReply{
      effects: Words.effects(effects),
      wake_at: Core.wake_at(core),
      serving: Core.serving?(core),
      gone: Core.gone?(core),
      has_room: Core.has_room?(core)
    }

    if step.digest or step.state, do: digest(reply, core, step), else: reply
  end

  defp digest(reply, core, step) do
    %{tail: tail, state: state} = folded = Core.committed(core)

    bytes =
      Codec.encode(%RoomDigest{
        committed: Fold.snapshot(folded),
        fence: tail.fence,
        deleted: tail.deleted,
        state_bytes: State.bytes(state),
        window_bytes: Dedupe.bytes(state.dedupe),
        window_len: Dedupe.len(state.dedupe)
      })

    reply = %{reply | digest: :crypto.hash(:sha256, bytes)}
    if step.state, do: %{reply | state: bytes}, else: reply
  end

  # === placement

  defp placement(machines, place, step) do
    machines = if step.reset == nil, do: machines, else: put_peers(machines, place, Peers.new(step.reset.down_after_ms))

    case {machines.peers, step.input} do
      {%{^place => _}, nil} ->
        {%StepReply{}, machines}

      {%{^place => peers}, {:heard, %{beat: beat}}} ->
        {brain?, peers} = heard(peers, beat, step.mono_ms)
        {effects([{:heard, %HeardBeat{brain: brain?}}]), put_peers(machines, place, peers)}

      {%{^place => peers}, {:lives, _}} ->
        {effects([{:ranking, ranking(Peers.living(peers, step.mono_ms))}]), machines}

      {%{^place => _}, {:rank, rank}} ->
        living = for %{node: node, incarnation: n} <- rank.living, do: %{node: node, incarnation: n}
        {effects([{:ranking, ranking(Peers.ranked({rank.tenant, rank.room}, rank.last_writer, living))}]), machines}

      _ ->
        {%StepReply{error: "no such peers, or not an input of placement"}, machines}
    end
  end

  defp put_peers(machines, place, peers) do
    bounded!(machines.peers, place)
    %{machines | peers: Map.put(machines.peers, place, peers)}
  end

  defp heard(peers, bytes, mono_ms) do
    case Codec.decode(Heartbeat, bytes) do
      {:ok, beat} -> Peers.heard(peers, beat, mono_ms)
      {:error, _} -> {false, peers}
    end
  end

  defp ranking(nodes) do
    %Ranking{living: for(%{node: node, incarnation: n} <- nodes, do: %Living{node: node, incarnation: n})}
  end

  defp effects(effects), do: %StepReply{effects: for(effect <- effects, do: %Effect{effect: effect})}
end
