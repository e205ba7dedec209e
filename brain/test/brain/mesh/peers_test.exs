defmodule Brain.Mesh.PeersTest do
  use ExUnit.Case, async: true

  alias Brain.Mesh.{Peers, Tails}
  alias Brain.Proto.Internal.{Heartbeat, Tail}

  defp living(n), do: %{node: "brain-#{n}", incarnation: n}
  defp beat(node, fields \\ []), do: struct!(%Heartbeat{node: node, kind: 2, incarnation: 1}, fields)

  defp heard!(peers, beat, now) do
    assert {true, peers} = Peers.heard(peers, beat, now)
    peers
  end

  test "the last writer comes first and the rest in an order all share" do
    room = {"acme", "lobby"}
    all = for n <- 1..5, do: living(n)
    order = Peers.ranked(room, nil, all)
    assert order == Peers.ranked(room, nil, Enum.reverse(all))

    for one <- all do
      [first | rest] = Peers.ranked(room, one.incarnation, all)
      assert first == one
      assert rest == List.delete(order, one)
    end
  end

  # SHA-256 of node, 0, tenant, 0, room; its first 8 bytes little-endian, highest first: computed elsewhere. Both shells
  # must agree, or rooms would wander between nodes of the two kinds.
  test "the order is the one that the Rust shell has" do
    all = for n <- 1..5, do: living(n)

    for {room, order} <- [{"lobby", [1, 4, 2, 5, 3]}, {"a", [4, 1, 5, 3, 2]}, {"room-7", [1, 3, 4, 2, 5]}] do
      ranked = for %{incarnation: n} <- Peers.ranked({"acme", room}, nil, all), do: n
      assert ranked == order, room
    end
  end

  test "a silent or draining node takes no rooms" do
    peers = Peers.new(3000) |> heard!(beat("brain-1"), 0) |> heard!(beat("brain-2", draining: true), 0)
    assert {false, ^peers} = Peers.heard(peers, beat("shield-1", kind: 1), 0)
    assert {false, ^peers} = Peers.heard(peers, beat("no.node"), 0)
    assert Peers.living(peers, 3000) == [%{node: "brain-1", incarnation: 1}]
    assert Peers.living(peers, 3001) == []
    again = heard!(peers, beat("brain-1", incarnation: 9), 4000)
    assert Peers.living(again, 4000) == [%{node: "brain-1", incarnation: 9}]
  end

  test "no more nodes are remembered than the bound, and those who stay silent make room" do
    peers = Enum.reduce(1..1100, Peers.new(100), &heard!(&2, beat("n#{&1}"), 0))
    assert length(Peers.living(peers, 0)) == 1024
    assert Peers.living(peers, 0) == Enum.sort_by(Peers.living(peers, 0), & &1.node)
    known = heard!(peers, beat("n1", incarnation: 5), 50)
    assert %{incarnation: 5} = Enum.find(Peers.living(known, 50), &(&1.node == "n1"))
    later = heard!(peers, beat("late"), 1001)
    assert Peers.living(later, 1001) == [%{node: "late", incarnation: 1}]
  end

  test "a head is told while it is one to three rounds old, once for each room, ascending" do
    tails = Tails.new()
    Tails.moved(tails, 7, 5, 2, 10, 0)
    Tails.moved(tails, 3, 5, 1, 11, 0)
    assert Tails.settled(tails, 1000, 999, nil) == {[], nil}
    told = [%Tail{room: 3, epoch: 5, term: 1, pos: 11}, %Tail{room: 7, epoch: 5, term: 2, pos: 10}]
    assert Tails.settled(tails, 1000, 1000, nil) == {told, nil}
    Tails.moved(tails, 7, 5, 2, 12, 2500)
    assert Tails.settled(tails, 1000, 3000, nil) == {[hd(told)], nil}
    assert Tails.settled(tails, 1000, 3500, nil) == {[%Tail{room: 7, epoch: 5, term: 2, pos: 12}], nil}
    assert Tails.settled(tails, 1000, 9000, nil) == {[], nil}
    assert :ets.info(tails, :size) == 0
  end

  test "more heads than a heartbeat holds take turns" do
    tails = Tails.new()
    rooms = 12_288
    for room <- 1..rooms, do: Tails.moved(tails, room, 1, 1, 1, 0)
    {first, told} = Tails.settled(tails, 1000, 1000, nil)
    assert {length(first), told} == {8192, 8192}
    {second, told} = Tails.settled(tails, 1000, 2000, told)
    assert {length(second), told} == {8192, 4096}
    assert MapSet.size(MapSet.new(first ++ second, & &1.room)) == rooms
  end
end
