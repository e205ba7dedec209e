defmodule Brain.Room.RepeatsTest do
  @moduledoc "Stories of what a room remembers of its users' commands, and of the lock that a `get` meets."
  use ExUnit.Case, async: true

  import Brain.RoomWorld

  alias Brain.Proto.V1
  alias Brain.Room.Core

  @sub 1
  @pub 2
  @mod 16

  test "a get passes no join lock that a sub does not pass" do
    {world, a} = served()
    get = fn world, rights -> settle(send_to(world, a, 2, signal("bob", rights, {:get, %V1.Get{}}))) end
    cases = [{@sub, 5003}, {@pub, 2004}, {@sub + @mod, 0}]
    open = for {rights, code} <- cases, do: {rights, if(code == 5003, do: 0, else: code)}

    world =
      for {n, mode, cases} <- [{1, :join, cases}, {2, :write, open}, {3, :all, cases}], reduce: world do
        world ->
          {world, ack} = ask(world, a, command("ann", n, {:lock, %V1.Lock{mode: mode}}))
          assert ack.code == 0

          for {rights, code} <- cases, reduce: world do
            world ->
              world = get.(world, rights)
              got = last_sync(world, a)
              assert {got.code, got.snapshot == []} == {code, code != 0}, inspect({mode, rights})
              world
          end
      end

    # The lock that counts is the one at the time of the answer: this one is in flight when the question comes.
    {world, _} = ask(world, a, command("ann", 9, {:unlock, %V1.Unlock{force: true}}))
    world = send_to(world, a, 1, command("ann", 10, {:lock, %V1.Lock{mode: :join}}))
    assert last_sync(get.(world, @sub), a).code == 5003
  end

  test "the same id with other bytes is no repeat, wherever the first one is" do
    {world, a} = served()
    {world, ack} = ask(world, a, command("ann", 1, say("first")))
    assert ack.code == 0
    {world, ack} = ask(world, a, command("ann", 1, say("other")))
    assert {ack.code, ack.duplicate, ack.seq} == {5013, false, 0}
    {world, ack} = ask(world, a, command("ann", 1, say("first")))
    assert ack.duplicate
    {world, ack} = ask(world, a, command("bob", 1, say("other")))
    assert ack.code == 0, "ids are a user's own"

    # In flight, and in the queue behind it.
    sent = [{2, "in flight"}, {2, "other"}, {3, "waits"}, {3, "other"}, {3, "waits"}]
    events = length(events(world.streams))
    world = Enum.reduce(sent, world, fn {n, text}, world -> send_to(world, a, 1, command("ann", n, say(text))) end)
    world = settle(world)
    codes = for ack <- Enum.take(owner(world, a).acks, 5), do: {ack.code, ack.duplicate}
    assert codes == [{0, true}, {5013, false}, {0, false}, {5013, false}, {0, false}]
    assert length(events(world.streams)) == events + 2

    # What was refused is not remembered: its id may be used.
    {world, ack} = ask(world, a, command("ann", 4, {:set, %V1.Set{key: "k", expect: 9}}))
    assert ack.code == 5005
    {world, ack} = ask(world, a, command("ann", 4, set("k", "v")))
    assert ack.code == 0

    # The next owner knows it, from the log and from a snapshot.
    {world, b} = add(world, %{Core.rules() | snapshot_entries: 1})
    {world, ack} = ask(open(world, b), b, command("ann", 2, say("other")))
    assert ack.code == 5013
    {world, c} = add(settle(world))
    {world, ack} = ask(open(world, c), c, command("ann", 2, say("other")))
    assert ack.code == 5013
    {_, ack} = ask(world, c, command("ann", 2, say("in flight")))
    assert ack.duplicate
  end

  test "so many commands of a user are remembered as the rules say" do
    rules = %{Core.rules() | dedupe: 3, snapshot_entries: 2}
    {world, a} = served(rules)
    said = fn n, ms -> command_at("ann", all_rights(), n, start_ms() + ms, %V1.Command{op: say("counted")}) end
    at = fn n -> said.(n, n * 10) end

    world =
      for n <- 1..5, reduce: world do
        world ->
          {world, ack} = ask(world, a, at.(n))
          assert ack.code == 0
          world
      end

    judged = fn world, owner ->
      Enum.reduce(1..5, world, fn n, world ->
        {world, ack} = ask(world, owner, at.(n))
        assert {ack.code, ack.duplicate} == if(n <= 2, do: {5010, false}, else: {0, true})
        world
      end)
    end

    world = judged.(world, a)
    {world, b} = add(world, rules)
    world = judged.(open(world, b), b)

    # A new command whose clock is behind is taken; only one at the very time of a forgotten one is not.
    world =
      for {id, ms, code} <- [{50, -20_000, 0}, {51, 10, 5010}, {52, 15, 0}], reduce: world do
        world ->
          {world, ack} = ask(world, b, said.(id, ms))
          assert ack.code == code
          world
      end

    {world, c} = add(world)
    {_, ack} = ask(open(world, c), c, at.(1))
    assert ack.code == 5010, "who remembers more learns it no more"
  end
end
