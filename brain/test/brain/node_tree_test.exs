defmodule Brain.NodeTreeTest do
  # Each process of a node is killed in turn, and the longest timers are set.
  use ExUnit.Case, async: true

  import Brain.NodeWorld

  alias Brain.{Context, Metrics, Room}
  alias Brain.Proto.V1

  @moduletag :capture_log
  @moduletag timeout: 240_000
  @key {"acme", "lobby"}
  @limit_ms 60_000

  test "whichever process of a node's tree is killed, wherever it stands, the node serves again with a whole tree" do
    world = world(["brain-1"])
    shield = shield(world)
    body = say(@key, "ann", "1")

    shape = fn brain ->
      top = GenServer.whereis(Context.via(brain.bus, :mesh)) |> Process.info(:dictionary) |> elem(1)
      [supervisor | _] = top[:"$ancestors"]
      supervisor = if is_pid(supervisor), do: supervisor, else: Process.whereis(supervisor)

      for {path, pid} <- Brain.Tree.walk(supervisor),
          do: {path |> inspect() |> String.replace(inspect(brain.bus), "Bus"), pid}
    end

    brain = brain(world, "brain-1")
    assert %{code: 0, seq: 1} = ask(shield, @key, body)
    paths = for {path, _} <- shape.(brain), do: path
    # The bus, two connections with a writer each, the Mesh, the rooms and one of them.
    assert length(paths) >= 8, inspect(paths)
    :ok = stop_supervised(brain.id)

    for path <- paths do
      brain = brain(world, "brain-1")
      assert %{code: 0, seq: 1} = ask(shield, @key, body)

      {^path, victim} =
        eventually(fn -> with {_, _} = found <- List.keyfind(shape.(brain), path, 0), do: {:ok, found} end) |> elem(1)

      monitor = Process.monitor(victim)
      Process.exit(victim, :kill)
      assert_receive {:DOWN, ^monitor, :process, _, :killed}, @limit_ms

      assert %{code: 0, seq: 1, duplicate: true} = ask(shield, @key, body), inspect(path)

      eventually(fn ->
        with [_ | _] <- paths -- for({path, _} <- shape.(brain), do: path), do: {:again, path}, else: ([] -> :ok)
      end)

      eventually(fn -> with {:error, why} <- Brain.Node.ready(brain.bus), do: {:again, why} end)
      # What is told of the rooms is true again.
      assert Metrics.get(brain.metrics, :rooms) == 1
      assert Metrics.get(brain.metrics, :ready) == 1
      :ok = stop_supervised(brain.id)
    end
  end

  test "what is told of rooms is corrected when the Mesh begins anew" do
    world = world(["brain-1"])
    brain = brain(world, "brain-1")
    shield = shield(world)
    for n <- 1..3, do: assert(%{code: 0} = open(shield, {"acme", "room-#{n}"}))
    assert Metrics.get(brain.metrics, :rooms) == 3
    Process.exit(GenServer.whereis(Context.via(brain.bus, :mesh)), :kill)
    bus = brain.bus
    assert_receive {:ready, ^bus}, @limit_ms
    assert Metrics.get(brain.metrics, :rooms) == 0
  end

  test "the longest deadline there is does not end a room, nor do those after a take-over" do
    world = world(["brain-1"])
    brain = brain(world, "brain-1")
    shield = shield(world)

    for {ttl, n} <- Enum.with_index([0xFFFF_FFFF, 0x1_0000_0000, 0x7FFF_FFFF_FFFF_FFFF, 0xFFFF_FFFF_FFFF_FFFF]) do
      set = %V1.Set{key: "k#{n}", value: "v", ttl_ms: ttl}
      ask(shield, @key, command(@key, "ann", %V1.Command{op: {:set, set}}))
      assert %{code: 0} = ask(shield, @key, say(@key, "ann", "after #{ttl}"))
    end

    room = room(brain, @key)
    state = :sys.get_state(room)
    # The core may bound what it wants; the shell takes whatever it is given.
    for at <- [0, 0x1_0000_0000, 0xFFFF_FFFF_FFFF_FFFF], do: assert(Context.timer_ms(at) in 0..86_400_000)
    assert Context.timer_ms(-5) == 0
    assert {:noreply, _, timeout} = Room.handle_info(:another_message, state)
    assert timeout <= 86_400_000
    assert Metrics.get(brain.metrics, :rooms_crashed) == 0

    Process.exit(room, :kill)
    assert %{code: 0} = ask(shield, @key, say(@key, "ann", "taken over"))
    eventually(fn -> Metrics.get(brain.metrics, :rooms_crashed) == 1 && :ok end)
  end
end
