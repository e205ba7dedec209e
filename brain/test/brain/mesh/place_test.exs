defmodule Brain.Mesh.PlaceTest do
  use ExUnit.Case, async: true

  alias Brain.Codec
  alias Brain.Mesh.{Peers, Place}
  alias Brain.Proto.Internal.{LogEntry, Open}
  alias Brain.Room.Chain

  @key {"acme", "lobby"}
  @open %Open{room: "lobby", create: true, suspect_node: "brain-9", suspect_term: 4}
  @slot "_INBOX.s.shield-1.7"

  defp living(names), do: for({name, n} <- Enum.with_index(names, 1), do: %{node: name, incarnation: n})
  defp begin(me, names), do: Place.begin(me, @key, @slot, @open, living(names))

  test "alone, this node serves every room" do
    assert Place.found(begin("brain-1", ["brain-1"]), nil) == {:here, @key, @slot, true}
  end

  test "the writer of the last entry is asked first, with the tenant; the others in their order while it is silent" do
    names = ["brain-1", "brain-2", "brain-3"]
    order = for one <- Peers.ranked(@key, nil, living(names)), do: one.node
    last = Codec.encode(%LogEntry{entry_id: Chain.entry_id(2, 1)})
    assert {:forward, "brain-2", body, place} = Place.found(begin("brain-x", names), last)
    assert Codec.decode(Open, body) == {:ok, %{@open | tenant: "acme"}}

    [second, third] = List.delete(order, "brain-2")
    assert {:forward, ^second, ^body, place} = Place.silent(place)
    assert {:forward, ^third, ^body, place} = Place.silent(place)
    assert Place.silent(place) == {:unavailable, @slot}
  end

  test "this node takes the room when its turn has come" do
    names = ["brain-1", "brain-2"]
    last = Codec.encode(%LogEntry{entry_id: Chain.entry_id(2, 1)})
    assert {:forward, "brain-2", _, place} = Place.found(begin("brain-1", names), last)
    assert Place.silent(place) == {:here, @key, @slot, true}
  end

  test "nobody lives, or the last entry is unreadable" do
    assert Place.found(begin("brain-1", []), nil) == {:unavailable, @slot}
    assert Place.found(begin("brain-1", ["brain-1"]), <<255>>) == {:here, @key, @slot, true}

    assert Place.found(begin("brain-1", ["brain-1"]), Codec.encode(%LogEntry{entry_id: "short"})) ==
             {:here, @key, @slot, true}
  end
end
