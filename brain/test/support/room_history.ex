defmodule Brain.RoomHistory do
  @moduledoc """
  Random histories of one room: two owners on one log, commands, repeats, lost answers, late appends, void entries, power
  cuts, reconnects. Whatever happens, the laws in `look/1` and `settle/1` hold. The twin of the Rust model's histories.
  """

  import Brain.RoomWorld, except: [settle: 1]
  import ExUnit.Assertions
  import :proper_types, only: [bool: 0, integer: 2, frequency: 1, list: 1, non_neg_integer: 0]

  alias Brain.{Codec, RoomWorld}
  alias Brain.Proto.V1
  alias Brain.Room.{Core, Fold, Folded, State}

  # `sent`: id to {user, bytes}. `process`: which of the world's owners each of the two nodes is now. `acked`: positive
  # acks, id to place. `frames`: how often an id was sent, and how often that was answered with "surely not applied".
  # `seen`: how many acks of each process were judged. `places`: what stands where in the log as it was at `log`.
  defstruct world: nil,
            sent: %{},
            process: %{},
            acked: %{},
            frames: %{},
            seen: %{},
            cuts: false,
            opens: 0,
            log: [],
            folded: %Folded{},
            places: %{}

  @doc "The type of a history."
  def steps, do: list(step())

  @doc "The type of one step."
  def step do
    owner = integer(0, 1)

    frequency([
      # A new command to an owner.
      {20, {:new, owner, integer(0, 2), integer(0, 5)}},
      # The bytes of an earlier command again.
      {8, {:repeat, owner, non_neg_integer()}},
      # An owner's oldest call is done and answered; done and the answer lost; not done, an append may be done later.
      {60, {:call, owner}},
      {5, {:lose_answer, owner}},
      {5, {:lose_call, owner, bool()}},
      # An append that nobody waits for any more arrives.
      {4, :late},
      # Something arrives that is no valid entry.
      {1, :void},
      # Everything in memory and some of the tail is gone. Connections, too.
      {1, {:power_cut, integer(0, 3)}},
      # The connection is made again.
      {2, {:reconnect, owner}},
      {10, {:pass, integer(1, 699)}},
      # Somebody asks this node to serve the room.
      {3, {:open, owner}},
      # The process dies; another takes its place.
      {1, {:crash, owner}},
      # A SUB, with a cursor that may be far off.
      {3, {:sync, owner, integer(0, 5)}},
      # A read that must be current.
      {2, {:get, owner}}
    ])
  end

  @doc "Without the one event that may lose what was acknowledged."
  def calm(steps), do: Enum.reject(steps, &match?({:power_cut, _}, &1))

  @doc "Plays a history and checks the laws: raises if one is broken."
  def play(steps) do
    {world, a} = add(RoomWorld.new())
    {world, b} = add(world)
    run = %__MODULE__{world: open(world, a), process: %{0 => a, 1 => b}}
    steps |> Enum.reduce(run, &(&2 |> take(&1) |> look())) |> settle()
  end

  defp take(run, {:new, owner, user, op}) do
    id = map_size(run.sent) + 1
    {wall_ms, _} = run.world.now
    user = "user-#{user}"
    body = command_at(user, all_rights(), id, wall_ms, %V1.Command{op: op(op, "k#{rem(id, 3)}")})
    send_frame(%{run | sent: Map.put(run.sent, id, {user, body})}, owner, id, body)
  end

  defp take(%{sent: sent} = run, {:repeat, _, _}) when sent == %{}, do: run

  defp take(run, {:repeat, owner, which}) do
    id = rem(which, map_size(run.sent)) + 1
    send_frame(run, owner, id, elem(run.sent[id], 1))
  end

  defp take(run, {:call, owner}), do: %{run | world: call(run.world, run.process[owner])}

  defp take(run, {:lose_answer, owner}) do
    case take_call(run.world, run.process[owner]) do
      {_, nil} ->
        run

      {world, call} ->
        {world, outcome} = perform(world, call)
        hear(%{run | world: world}, owner, unheard(outcome))
    end
  end

  defp take(run, {:lose_call, owner, later?}) do
    {world, call} = take_call(run.world, run.process[owner])
    run = %{run | world: world}

    case call do
      nil ->
        run

      {:append, token, expect, body} ->
        run = if later?, do: delay(run, {expect, body}), else: run
        hear(run, owner, {:appended, token, :unresolved})

      {:read, token, _, _, _} ->
        hear(run, owner, {:read, token, 1, nil})

      other ->
        {world, outcome} = perform(world, other)
        hear(%{run | world: world}, owner, outcome)
    end
  end

  defp take(%{world: %{streams: streams}} = run, :late) do
    case streams.late do
      [] -> run
      [{expect, body} | late] -> put_streams(run, elem(append(%{streams | late: late}, expect, body), 0))
    end
  end

  defp take(run, :void), do: put_streams(run, append_any(run.world.streams, "\x01 no entry"))

  defp take(run, {:power_cut, lost}) do
    %{run | cuts: true}
    |> put_streams(lose_tail(run.world.streams, lost))
    |> hear(0, :reconnected)
    |> hear(1, :reconnected)
  end

  defp take(run, {:reconnect, owner}), do: hear(run, owner, :reconnected)
  defp take(run, {:pass, ms}), do: %{run | world: pass(run.world, ms)} |> hear(0, :wake) |> hear(1, :wake)

  defp take(run, {:open, owner}) do
    run = if owner(run.world, run.process[owner]).gone, do: replace(run, owner), else: run
    run = %{run | opens: run.opens + 1}
    hear(run, owner, {:open, slot(9000 + rem(run.opens, 100)), true})
  end

  # What it has sent may still arrive.
  defp take(run, {:crash, owner}) do
    appends = for {:append, _, expect, body} <- owner(run.world, run.process[owner]).calls, do: {expect, body}
    world = update_owner(run.world, run.process[owner], &%{&1 | calls: []})
    appends |> Enum.reduce(%{run | world: world}, &delay(&2, &1)) |> replace(owner)
  end

  defp take(run, {:sync, owner, back}) do
    tail = indexed(run).folded.tail
    since = %V1.Head{epoch: tail.epoch, seq: max(tail.seq - back, 0)}
    ask_of(run, owner, {:sync, %V1.Sync{since: since}})
  end

  defp take(run, {:get, owner}), do: ask_of(run, owner, {:get, %V1.Get{}})

  defp op(0, key), do: set(key, "value")
  defp op(1, key), do: {:set, %V1.Set{key: key, value: "x", ttl_ms: 300}}
  defp op(2, key), do: {:delete, %V1.Delete{key: key}}
  defp op(_, _key), do: say("something")

  # One publish: every second one comes to both nodes if both believe that they serve the room. A room that is not served
  # is not subscribed to: a 503 in the Shield.
  defp send_frame(run, owner, id, body) do
    nodes = if rem(id, 2) == 0, do: [owner, 1 - owner], else: [owner]
    nodes = Enum.filter(nodes, &serves?(run, &1))
    run = if nodes == [], do: run, else: count(run, id, 0)
    Enum.reduce(nodes, run, &hear(&2, &1, {:message, slot(1), body}))
  end

  defp serves?(run, owner), do: Core.serving?(owner(run.world, run.process[owner]).core)

  defp ask_of(run, owner, ask) do
    if serves?(run, owner),
      do: hear(run, owner, {:message, slot(2), signal("user-0", all_rights(), ask)}),
      else: run
  end

  defp hear(run, _owner, nil), do: run
  defp hear(run, owner, input), do: %{run | world: input(run.world, run.process[owner], input)}

  defp delay(%{world: %{streams: streams}} = run, append) do
    put_streams(run, %{streams | late: [append | streams.late]})
  end

  defp put_streams(run, streams), do: %{run | world: %{run.world | streams: streams}}

  defp replace(run, owner) do
    {world, process} = add(run.world)
    %{run | world: world, process: Map.put(run.process, owner, process)}
  end

  # The same outcome as its owner hears it when the answer is lost.
  defp unheard({:read, token, draw, _}), do: {:read, token, draw, nil}
  defp unheard({:appended, token, _}), do: {:appended, token, :unresolved}
  defp unheard({:snapshot_written, token, _}), do: {:snapshot_written, token, :unresolved}
  defp unheard(other), do: other

  defp count(run, id, which) do
    counts = Map.get(run.frames, id, {0, 0})
    %{run | frames: Map.put(run.frames, id, put_elem(counts, which, elem(counts, which) + 1))}
  end

  # Every new ack, judged the moment it leaves.
  defp look(run) do
    Enum.reduce(run.world.owners, run, fn {process, owner}, run ->
      new = length(owner.acks) - Map.get(run.seen, process, 0)
      run = %{run | seen: Map.put(run.seen, process, length(owner.acks))}
      owner.acks |> Enum.take(new) |> Enum.reverse() |> Enum.reduce(run, &judge(&2, &1))
    end)
  end

  defp judge(run, %{code: 0} = ack) do
    id = number(ack.message_id)
    place = {ack.epoch, ack.seq}
    run = indexed(run)
    assert run.places[place] == id or run.cuts, "#{id} was acked at #{inspect(place)} and is not there"
    before = Map.get(run.acked, id, place)
    assert before == place or run.cuts, "#{id} was acked at #{inspect(before)} and at #{inspect(place)}"
    %{run | acked: Map.put(run.acked, id, place)}
  end

  defp judge(run, %{code: 6002} = ack), do: count(run, number(ack.message_id), 1)
  defp judge(run, _refused), do: run

  # The log's fold and what stands where, of what came since it was last asked for; from the beginning if some is gone.
  defp indexed(%{world: %{streams: %{log: log}}} = run) do
    new = length(log) - length(run.log)
    kept? = new >= 0 and Enum.drop(log, new) == run.log
    run = if kept?, do: run, else: %{run | folded: %Folded{}, places: %{}}
    messages = if kept?, do: Enum.take(log, new), else: log
    messages |> Enum.reverse() |> Enum.reduce(%{run | log: log}, &index(&2, &1))
  end

  defp index(run, {pos, body}) do
    case Fold.entry(run.folded, pos, body) do
      {folded, {:ok, applied}} -> Enum.reduce(applied.entry.envelopes, %{run | folded: folded}, &stand(&2, &1))
      {folded, {:error, _}} -> %{run | folded: folded}
    end
  end

  defp stand(run, bytes) do
    {:ok, %{payload: {:event, event}} = envelope} = Codec.decode(V1.Envelope, bytes)
    id = if envelope.message_id != "", do: number(envelope.message_id)
    %{run | places: Map.put(run.places, {event.epoch, event.seq}, id)}
  end

  # Everything late arrives, everyone settles, and the room is opened once more.
  defp settle(run) do
    streams =
      Enum.reduce(run.world.streams.late, run.world.streams, fn {expect, body}, streams ->
        elem(append(streams, expect, body), 0)
      end)

    run = look(%{run | world: RoomWorld.run(%{run.world | streams: %{streams | late: []}}, 5_000)})
    {world, process} = add(run.world)
    run = look(%{run | world: world |> open(process) |> RoomWorld.run(100)})
    core = owner(run.world, process).core
    assert Core.serving?(core), "a room that nothing keeps from it is served"
    {folded, valid} = fold(run.world.streams)
    mine = Core.committed(core)
    # What arrived behind its back since, void as it is, the owner finds at its next write.
    assert %{folded.tail | fence: mine.tail.fence} == mine.tail, "the log's fold is the owner's state"
    assert bytes(folded) == bytes(mine), "the log's fold is the owner's state"
    valid = Enum.map(valid, &elem(&1, 1))
    lawful_entries(valid)
    once = lawful_events(run, events(run.world.streams))

    unless run.cuts do
      for {id, place} <- run.acked, do: assert(once[id] == place, "#{id} was acked at #{inspect(place)}")
      assert [_] = Enum.uniq_by(valid, & &1.epoch), "a new epoch without a loss"
    end

    run
  end

  defp bytes(folded), do: Codec.encode(State.encode(folded.state, folded.tail.at))

  defp lawful_entries(valid) do
    assert valid == Enum.uniq_by(valid, & &1.prev), "two valid entries follow one position"

    Enum.reduce(valid, {0, 0, 0, nil}, fn entry, {epoch, term, seq, at} ->
      assert at == nil or entry.at >= at, "the room's clock fell"
      assert {entry.epoch, entry.term} >= {epoch, term}, "(epoch, term) fell"

      if entry.kind == :owned,
        do: assert(entry.term == term + 1, "a take-over is term + 1"),
        else: assert({entry.epoch, entry.term} == {epoch, term}, "only a take-over changes the term")

      seq = if entry.epoch > epoch, do: 0, else: seq
      assert entry.first_seq == seq + 1
      assert length(entry.envelopes) <= 256
      {entry.epoch, entry.term, seq + length(entry.envelopes), entry.at}
    end)
  end

  # With the place of each command that is in the log.
  defp lawful_events(run, events) do
    {once, _} =
      Enum.reduce(events, {%{}, {0, 0}}, fn {envelope, event}, {once, {epoch, seq}} ->
        place = {event.epoch, event.seq}
        assert place == {epoch, seq + 1} or (event.epoch > epoch and event.seq == 1), "a hole at #{inspect(place)}"
        if event.user == "", do: {once, place}, else: {put_once(run, once, envelope, event, place), place}
      end)

    once
  end

  defp put_once(run, once, envelope, event, place) do
    id = number(envelope.message_id)
    assert once[id] == nil, "#{id} is in the log twice: #{inspect(once[id])} and #{inspect(place)}"
    {sent, refused} = run.frames[id]
    assert refused < sent or run.cuts, "#{id} was surely not applied each time, and is in the log"
    assert elem(run.sent[id], 0) == event.user
    Map.put(once, id, place)
  end
end
