defmodule Brain.RoomWorld do
  @moduledoc """
  A tiny reference of what the room's core stands on: one room's log, its snapshots and its generation, as plain lists,
  and some owners that call on them. Every call can be held back, answered wrongly, or stored late. The twin of the Rust
  model's test support; a world is a value, so a story may be told on from any of its moments.
  """

  alias Brain.Codec
  alias Brain.Proto.{Internal, V1}
  alias Brain.Room.{Core, Fold, Folded}

  @start_ms 1_760_000_000_000
  @all_rights 127
  # Small pages, so that paging is tested.
  @page 7

  defmodule Streams do
    @moduledoc """
    The room's streams, as the leader of a stream has them; lists of `{pos, body}`, the log newest first. `late`: appends
    on their way that nobody waits for any more: each may be stored yet. `full`: the log takes nothing.
    """
    defstruct log: [], next: 0, snaps: [], next_snap: 0, gen_id: nil, late: [], refuse: nil, page: nil
  end

  defmodule Owner do
    @moduledoc "One owner, or would-be owner; what it said is newest first, what it calls for oldest first."
    defstruct [:core, calls: [], acks: [], replies: [], notes: [], live: [], gone: nil]
  end

  defstruct streams: nil, owners: %{}, now: {@start_ms, 1000}, draws: 0

  @doc "Nothing stored and nobody there."
  def new, do: %__MODULE__{streams: %Streams{}}

  def start_ms, do: @start_ms
  def all_rights, do: @all_rights
  def slot(n), do: "_INBOX.s.shield-1.#{n}"

  # === streams

  def head(%{log: [{pos, _} | _]}), do: pos
  def head(%{log: []}), do: 0

  def append(%{refuse: refusal} = streams, _expect, _body) when refusal != nil, do: {streams, refusal}

  def append(streams, expect, body) do
    if head(streams) == expect do
      streams = append_any(streams, body)
      {streams, {:stored, streams.next}}
    else
      {streams, :wrong_last}
    end
  end

  @doc "What is written past the fence by nobody we know: a void entry."
  def append_any(streams, body) do
    pos = streams.next + 1
    %{streams | next: pos, log: [{pos, body} | streams.log]}
  end

  @doc "A power cut: the newest messages and what only memory holds are gone; positions are handed out again."
  def lose_tail(streams, count) do
    streams = %{streams | log: Enum.drop(streams.log, count), gen_id: nil}
    %{streams | next: head(streams)}
  end

  def entries(streams) do
    for {_pos, body} <- Enum.reverse(streams.log) do
      case Codec.decode(Internal.LogEntry, body) do
        {:ok, entry} -> entry
        {:error, _} -> %Internal.LogEntry{}
      end
    end
  end

  @doc "The whole log folded from nothing, with the valid entries in their order."
  def fold(streams) do
    {folded, valid} =
      streams.log
      |> Enum.reverse()
      |> Enum.reduce({%Folded{}, []}, fn {pos, body}, {folded, valid} ->
        case Fold.entry(folded, pos, body) do
          {folded, {:ok, applied}} -> {folded, [{pos, applied.entry} | valid]}
          {folded, {:error, _}} -> {folded, valid}
        end
      end)

    {folded, Enum.reverse(valid)}
  end

  @doc "Every valid event in the log's order, with its envelope."
  def events(streams) do
    {_, valid} = fold(streams)

    for {_pos, entry} <- valid, bytes <- entry.envelopes do
      {:ok, %{payload: {:event, event}} = envelope} = Codec.decode(V1.Envelope, bytes)
      {envelope, event}
    end
  end

  def kinds(world), do: Enum.map(entries(world.streams), & &1.kind)

  # === owners

  def add(world, rules \\ Core.rules()) do
    a = map_size(world.owners)
    me = %{node: "brain-#{a + 1}", incarnation: 0x1000 + a + 1, session: 1}
    core = Core.new({"acme", "lobby"}, me, rules)
    {%{world | owners: Map.put(world.owners, a, %Owner{core: core})}, a}
  end

  def owner(world, a), do: Map.fetch!(world.owners, a)
  def update_owner(world, a, fun), do: %{world | owners: Map.update!(world.owners, a, fun)}
  def acks(world, a), do: Enum.reverse(owner(world, a).acks)
  def last_ack(world, a), do: hd(owner(world, a).acks)

  def input(world, a, input) do
    owner = owner(world, a)
    {core, effects} = Core.step(owner.core, world.now, input)
    owner = Enum.reduce(effects, %{owner | core: core}, &effect(&2, &1))
    %{world | owners: Map.put(world.owners, a, owner)}
  end

  defp effect(owner, {:reply, to, body}) do
    owner = %{owner | replies: [{to, body} | owner.replies]}

    case Codec.decode(V1.Ack, body) do
      {:ok, %{message_id: <<_::128>>} = ack} -> %{owner | acks: [ack | owner.acks]}
      _ -> owner
    end
  end

  defp effect(owner, {:live, body}), do: %{owner | live: [body | owner.live]}
  defp effect(owner, {:note, note}), do: %{owner | notes: [note | owner.notes]}
  defp effect(owner, {:step_down, why}), do: %{owner | gone: why}
  defp effect(owner, call), do: %{owner | calls: owner.calls ++ [call]}

  @doc "Takes an owner's oldest call, undone; nil if there is none."
  def take_call(world, a) do
    case owner(world, a).calls do
      [] -> {world, nil}
      [call | calls] -> {update_owner(world, a, &%{&1 | calls: calls}), call}
    end
  end

  @doc "Does an owner's oldest call and tells it the outcome."
  def call(world, a) do
    {world, call} = take_call(world, a)

    case if(call, do: perform(world, call), else: {world, nil}) do
      {world, nil} -> world
      {world, outcome} -> input(world, a, outcome)
    end
  end

  @doc "Does a call; with the outcome that its owner would hear."
  def perform(world, call) do
    world = %{world | draws: world.draws + 1}
    {streams, outcome} = perform(world.streams, call, 0xD0D0_0000 + world.draws)
    {%{world | streams: streams}, outcome}
  end

  defp perform(streams, {:read, token, gen_id?, snapshots?, from}, draw) do
    log = if from, do: streams.log |> Enum.take_while(&(elem(&1, 0) >= from)) |> Enum.reverse(), else: []

    found = %{
      gen_id: if(gen_id?, do: streams.gen_id),
      snapshots: if(snapshots?, do: streams.snaps, else: []),
      log: Enum.take(log, streams.page || @page),
      more: length(log) > (streams.page || @page)
    }

    {streams, {:read, token, draw, found}}
  end

  defp perform(streams, {:write_gen, token, value}, _draw) do
    {%{streams | gen_id: streams.gen_id || value}, {:gen_written, token}}
  end

  defp perform(streams, {:append, token, expect, body}, _draw) do
    {streams, outcome} = append(streams, expect, body)
    {streams, {:appended, token, outcome}}
  end

  defp perform(streams, {:write_snapshot, token, expect, body}, _draw) do
    if last_pos(streams.snaps) == expect do
      pos = streams.next_snap + 1
      snaps = Enum.take(streams.snaps ++ [{pos, body}], -2)
      {%{streams | next_snap: pos, snaps: snaps}, {:snapshot_written, token, {:stored, pos}}}
    else
      {streams, {:snapshot_written, token, :wrong_last}}
    end
  end

  defp perform(streams, {:trim, keep}, _draw) do
    {%{streams | log: Enum.filter(streams.log, &(elem(&1, 0) >= keep))}, nil}
  end

  defp perform(streams, {:subscribe, token}, _draw), do: {streams, {:subscribed, token, true}}

  defp last_pos([]), do: 0
  defp last_pos(snaps), do: snaps |> List.last() |> elem(0)

  @doc "Until nobody has a call to make."
  def settle(world, turns \\ 100_000)
  def settle(_world, 0), do: raise("the owners call for ever")

  def settle(world, turns) do
    if Enum.all?(world.owners, fn {_, owner} -> owner.calls == [] end) do
      world
    else
      names(world) |> Enum.reduce(world, &call(&2, &1)) |> settle(turns - 1)
    end
  end

  defp names(world), do: Enum.to_list(0..(map_size(world.owners) - 1)//1)

  def pass(%{now: {wall_ms, mono_ms}} = world, ms), do: %{world | now: {wall_ms + ms, mono_ms + ms}}

  @doc "Lets time pass to each owner's own deadlines, until `ms` are over and everything is quiet."
  def run(%{now: {_, mono_ms}} = world, ms), do: run_to(world, mono_ms + ms, 10_000)

  defp run_to(_world, _end_ms, 0), do: raise("the owners wake for ever")

  defp run_to(world, end_ms, turns) do
    %{now: {_, mono_ms}} = world = settle(world)
    wakes = for {_, owner} <- world.owners, at = Core.wake_at(owner.core), do: at

    case Enum.min(wakes, fn -> nil end) do
      next when next != nil and next <= end_ms ->
        world = pass(world, max(next - mono_ms, 0))
        names(world) |> Enum.reduce(world, &wake(&2, &1)) |> run_to(end_ms, turns - 1)

      _ ->
        pass(world, end_ms - mono_ms)
    end
  end

  defp wake(%{now: {_, mono_ms}} = world, a) do
    at = Core.wake_at(owner(world, a).core)
    if at != nil and at <= mono_ms, do: input(world, a, :wake), else: world
  end

  # === what is asked of them

  def open(world, a), do: world |> input(a, {:open, slot(9000), true}) |> settle()

  @doc "A world with one owner that serves the room."
  def served(rules \\ Core.rules()) do
    {world, a} = add(new(), rules)
    {open(world, a), a}
  end

  def opened(world, a) do
    with {_, body} <- List.keyfind(owner(world, a).replies, slot(9000), 0) do
      {:ok, opened} = Codec.decode(Internal.Opened, body)
      opened
    end
  end

  def send_to(world, a, reply, body), do: input(world, a, {:message, slot(reply), body})

  @doc "Sends, settles; with the ack."
  def ask(world, a, body) do
    world = world |> send_to(a, 1, body) |> settle()
    {world, last_ack(world, a)}
  end

  def sync(world, a, user, sync) do
    world = world |> send_to(a, 2, signal(user, @all_rights, {:sync, sync})) |> settle()
    {world, last_sync(world, a)}
  end

  def last_sync(world, a) do
    {_, body} = List.keyfind(owner(world, a).replies, slot(2), 0)
    {:ok, reply} = Codec.decode(Internal.SyncReply, body)
    reply
  end

  # === messages

  @doc "A message id from a small number, and the number of one."
  def mid(n), do: <<0xA5, n::120>>
  def number(<<0xA5, n::120>>), do: n

  def command_at(user, rights, id, timestamp, command) do
    sealed(
      %V1.Envelope{
        room_id: "lobby",
        timestamp: timestamp,
        message_id: mid(id),
        ack_requested: true,
        payload: {:cmd, command}
      },
      user,
      rights
    )
  end

  def command(user, id, op), do: with_rights(user, @all_rights, id, op)
  def with_rights(user, rights, id, op), do: command_at(user, rights, id, @start_ms, %V1.Command{op: op})
  def say(text), do: {:say, %V1.Say{data: text, type: "text"}}
  def set(key, value), do: {:set, %V1.Set{key: key, value: value}}

  def signal(user, rights, ask) do
    sealed(%V1.Envelope{room_id: "lobby", payload: {:signal, %V1.SystemSignal{ask: ask}}}, user, rights)
  end

  defp sealed(envelope, user, rights) do
    sender = %V1.Sender{user: user, conn: "c1", rights: rights}
    Codec.encode(%{envelope | sender: sender})
  end
end
