defmodule Brain.Room.Core.SnapshotsTest do
  @moduledoc "Scripted stories of a room and its snapshots: dormancy, trimming, and a log that lost what they stand on."
  use ExUnit.Case, async: true

  import Brain.RoomWorld

  alias Brain.{Codec, RoomWorld}
  alias Brain.Proto.{Internal, V1}
  alias Brain.Room.{Core, State}

  test "a dormant room comes back from its snapshot and the log is trimmed below the older one" do
    rules = %{Core.rules() | idle_ms: 500, trim_age_ms: 1000}

    {world, _} =
      for round <- 0..3, reduce: {RoomWorld.new(), nil} do
        {world, state} ->
          {world, a} = add(world, rules)
          world = open(world, a)
          opened = opened(world, a)
          assert {opened.term, opened.epoch} == {round + 1, start_ms()}
          assert state == nil or bytes(state) == bytes(Core.committed(owner(world, a).core).state)
          {world, ack} = ask(world, a, command("ann", round + 1, set("k#{round}", "v")))
          assert ack.seq == round + 1
          state = Core.committed(owner(world, a).core).state
          world = run(world, 2000)
          assert owner(world, a).gone == :idle
          {world, state}
      end

    {:ok, older} = Codec.decode(Internal.RoomSnapshot, elem(hd(world.streams.snaps), 1))

    assert elem(List.last(world.streams.log), 0) == older.pos,
           "the older snapshot's entry is the oldest that stays"

    {world, a} = add(world, rules)
    world = open(world, a)
    {_, ack} = ask(world, a, command("ann", 1, set("k0", "v")))
    assert {ack.seq, ack.duplicate} == {1, true}, "the window survives in the snapshot"
  end

  defp bytes(state), do: Codec.encode(State.encode(state, 0))

  test "a long log is shortened by a snapshot while the room is served" do
    {world, a} = served(%{Core.rules() | snapshot_entries: 3})
    world = Enum.reduce(1..4, world, &elem(ask(&2, a, command("ann", &1, say("#{&1}"))), 0))
    assert [{1, _}] = world.streams.snaps
    {world, b} = add(world)
    world = world |> input(b, {:open, slot(9000), true}) |> call(b)
    assert [{:read, _, false, false, from}] = owner(world, b).calls
    assert from > 1, "the load begins where the snapshot stands"
    world = settle(world)
    assert {opened(world, b).term, opened(world, b).seq} == {2, 4}
  end

  test "a snapshot whose fate is unknown is no harm" do
    {world, a} = served(%{Core.rules() | idle_ms: 500})
    world = world |> pass(600) |> input(a, :wake)
    {world, {:write_snapshot, token, 0, _}} = take_call(world, a)
    assert Core.wake_at(owner(world, a).core) == nil, "nothing else is waited for"
    world = input(world, a, {:snapshot_written, token + 1, {:stored, 1}})
    world = input(world, a, {:snapshot_written, token, :unresolved})
    assert owner(world, a).gone == :idle
  end

  # Small snapshots; the room never goes dormant.
  @entries 8
  @age_ms 300_000
  defp often, do: %{Core.rules() | snapshot_entries: @entries, idle_ms: 1_000_000_000}

  defp said(world, a, id) do
    {wall_ms, _} = world.now
    body = command_at("ann", all_rights(), id, wall_ms, %V1.Command{op: say("x")})
    {world, ack} = ask(world, a, body)
    assert ack.code == 0
    world
  end

  # What is older than 9/8 of the age is at most two snapshots' worth.
  defp bounded(world) do
    entries = entries(world.streams)
    cut = List.last(entries).at - div(@age_ms * 9, 8)
    assert Enum.count(entries, &(&1.at < cut)) <= 2 * @entries
    world
  end

  test "the log of a busy room is trimmed all day" do
    # An entry each 5 s: a snapshot each 40 s, so that the older of two is never 300 s old. From the second hour on the
    # owner changes more often than a snapshot is old enough, too.
    {world, _} =
      for id <- 1..1440, reduce: served(often()) do
        {world, a} ->
          world = world |> run(5000) |> said(a, id) |> bounded()

          if id > 720 and rem(id, 45) == 0 do
            {world, a} = add(%{world | owners: %{0 => owner(world, a)}}, often())
            {open(world, a), a}
          else
            {world, a}
          end
      end

    {wall_ms, _} = world.now
    assert wall_ms - hd(entries(world.streams)).at >= @age_ms, "what is younger stays"
    {:ok, newest} = Codec.decode(Internal.RoomSnapshot, elem(List.last(world.streams.snaps), 1))
    assert length(newest.trims) in 1..24
  end

  test "a burst before a pause is trimmed after it" do
    {world, a} = served(often())
    world = Enum.reduce(1..200, world, &(&2 |> run(100) |> said(a, &1) |> bounded()))
    world = Enum.reduce(201..240, world, &(&2 |> run(30_000) |> said(a, &1) |> bounded()))
    assert length(world.streams.log) < 30
  end

  # Performs what is called for, but for snapshots, and says something until one of those is called for.
  defp until_snapshot(world, a, id, left \\ 2 * @entries)
  defp until_snapshot(_world, _a, _id, 0), do: flunk("no snapshot")

  defp until_snapshot(world, a, id, left) do
    {wall_ms, _} = world.now
    world = send_to(world, a, 1, command_at("ann", all_rights(), id, wall_ms, %V1.Command{op: say("x")}))
    world = calls_but_snapshots(world, a)
    if owner(world, a).calls == [], do: world |> pass(10) |> until_snapshot(a, id + 1, left - 1), else: {world, id + 1}
  end

  defp calls_but_snapshots(world, a) do
    case Enum.find(owner(world, a).calls, &(elem(&1, 0) != :write_snapshot)) do
      nil ->
        world

      call ->
        {world, outcome} = world |> update_owner(a, &%{&1 | calls: List.delete(&1.calls, call)}) |> perform(call)
        world = if outcome, do: input(world, a, outcome), else: world
        calls_but_snapshots(world, a)
    end
  end

  test "after a failed append snapshots go on" do
    for outcome <- [:unresolved, :refused, :wrong_last], stored? <- [false, true] do
      {world, a} = served(often())
      {world, id} = until_snapshot(world, a, 1)
      {world, {:write_snapshot, token, 0, _} = call} = take_call(world, a)
      world = if stored?, do: world |> perform(call) |> elem(0), else: world
      {_, failed_ms} = world.now
      world = input(world, a, {:snapshot_written, token, outcome})
      assert Core.wake_at(owner(world, a).core) == failed_ms + 1000, "SNAP's head is read after a pause"
      world = run(world, 1000)
      assert length(world.streams.snaps) == 1
      {world, _} = until_snapshot(world, a, id)
      assert length(settle(world).streams.snaps) == 2
    end
  end

  test "the pauses after failed appends grow to a minute" do
    {world, a} = served(often())

    {_, _, pauses} =
      for _ <- 1..8, reduce: {world, 1, []} do
        {world, id, pauses} ->
          {world, id} = until_snapshot(world, a, id)
          {world, {:write_snapshot, token, _, _}} = take_call(world, a)
          world = input(world, a, {:snapshot_written, token, :full})
          {_, mono_ms} = world.now
          pause = Core.wake_at(owner(world, a).core) - mono_ms
          world = world |> pass(pause) |> input(a, :wake)
          {calls_but_snapshots(world, a), id, [pause | pauses]}
      end

    assert Enum.reverse(pauses) == [1000, 2000, 4000, 8000, 16_000, 32_000, 60_000, 60_000]
  end

  test "a saturated room writes snapshots" do
    {world, a} = served(often())
    world = send_to(world, a, 1, command("ann", 1, say("x")))

    for id <- 2..(10 * @entries), reduce: world do
      world ->
        # While one entry is in flight the next command waits already: the room never rests.
        world = send_to(world, a, 1, command("ann", id, say("x")))
        {world, {:append, _, _, _} = append} = take_call(world, a)
        {world, outcome} = perform(world, append)
        world = world |> input(a, outcome) |> snapshots(a)
        newest = if world.streams.snaps == [], do: 0, else: newest_pos(world)
        assert Enum.count(world.streams.log, &(elem(&1, 0) > newest)) <= @entries + 1
        world
    end
  end

  defp snapshots(world, a) do
    for {:write_snapshot, _, _, _} = call <- owner(world, a).calls, reduce: world do
      world ->
        world = update_owner(world, a, &%{&1 | calls: List.delete(&1.calls, call)})
        {world, outcome} = perform(world, call)
        input(world, a, outcome)
    end
  end

  defp newest_pos(world) do
    {:ok, snapshot} = Codec.decode(Internal.RoomSnapshot, elem(List.last(world.streams.snaps), 1))
    snapshot.pos
  end

  test "the state that a new epoch begins with is written until it is stored" do
    rules = %{Core.rules() | idle_ms: 500}
    {world, a} = served(rules)
    {world, _} = ask(world, a, command("ann", 1, set("k", "v")))
    world = run(world, 1000)
    {world, b} = add(%{world | streams: lose_tail(world.streams, 100)}, rules)
    world = world |> input(b, {:open, slot(9000), true}) |> calls_but_snapshots(b)
    entries = length(world.streams.log)

    world =
      for stored? <- [false, true], reduce: world do
        world ->
          {world, {:write_snapshot, token, _, _} = call} = take_call(world, b)
          world = if stored?, do: world |> perform(call) |> elem(0), else: world
          world = input(world, b, {:snapshot_written, token, :unresolved})
          {_, mono_ms} = world.now
          pause = Core.wake_at(owner(world, b).core) - mono_ms
          assert pause <= 500, "nobody is served meanwhile"
          world |> pass(pause) |> input(b, :wake) |> call(b)
      end

    world = settle(world)
    assert opened(world, b).code == 0
    assert length(world.streams.log) == entries, "no further entry was written for it"
  end

  test "a log lost below its snapshots begins a new epoch from the newest state" do
    rules = %{Core.rules() | idle_ms: 500}
    {world, a} = served(rules)
    {world, %{epoch: epoch}} = ask(world, a, command("ann", 1, set("k", "v")))
    world = run(world, 1000)
    world = %{world | streams: lose_tail(world.streams, 100)}
    {world, b} = add(world, rules)
    world = open(world, b)
    opened = opened(world, b)
    assert opened.epoch > epoch and opened.term == 2
    assert State.get(Core.committed(owner(world, b).core).state, "k")
    # The snapshot that the new epoch begins with was stored before anybody was served.
    {world, c} = add(world, rules)
    world = open(world, c)
    assert {opened(world, c).epoch, opened(world, c).term} == {opened.epoch, 3}
    assert State.get(Core.committed(owner(world, c).core).state, "k")
  end

  test "a snapshot of an old state does not bury what another owner committed" do
    rules = %{Core.rules() | idle_ms: 500}
    {world, a} = served(rules)
    {world, _} = ask(world, a, command("ann", 1, set("k", "v")))
    world = run(world, 1000)

    # The slow one reads the snapshots before the quick one has stored its own, and the log after the quick one's commit.
    {world, slow} = add(%{world | streams: lose_tail(world.streams, 100)}, rules)
    # The generation, which the loss took, too; a new one; all again; and the newest snapshot's place in the log.
    world = world |> input(slow, {:open, slot(9000), true}) |> call(slow) |> call(slow) |> call(slow) |> call(slow)
    assert [{:read, _, false, false, 1}] = owner(world, slow).calls
    waits = owner(world, slow).calls
    {world, quick} = world |> update_owner(slow, &%{&1 | calls: []}) |> add(rules)
    world = open(world, quick)
    {world, acked} = ask(world, quick, command("ann", 2, set("k", "w")))
    assert acked.code == 0
    world = world |> update_owner(slow, &%{&1 | calls: waits}) |> run(400)
    assert opened(world, slow).code == 0
    {world, again} = ask(world, slow, command("ann", 2, set("k", "w")))
    assert {again.code, again.duplicate} == {0, true}, "what was acknowledged is known"
    committed = for {_, event} <- events(world.streams), event.user == "ann", do: event
    assert length(committed) == 1, "and it is in the log once"
  end
end
