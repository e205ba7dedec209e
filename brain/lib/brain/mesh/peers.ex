defmodule Brain.Mesh.Peers do
  @moduledoc """
  The Brains that were heard lately, and which of them should serve a room. Safety never rests on this choice: two
  nodes that both believe they own a room are told apart by the log's fence.

  A value: the caller gives the time, milliseconds of a clock that only advances.
  """

  alias Brain.Id
  alias Brain.Proto.Internal.Heartbeat
  alias Brain.Room.Chain

  # The most nodes remembered.
  @peers_max 1024
  # `Heartbeat.kind` of a Brain.
  @kind_brain 2

  @enforce_keys [:down_after]
  defstruct [:down_after, known: %{}]

  @typedoc "A node that lives."
  @type living :: %{node: binary, incarnation: non_neg_integer}

  @type t :: %__MODULE__{
          down_after: pos_integer,
          known: %{binary => %{incarnation: non_neg_integer, heard: integer, draining: boolean}}
        }

  @doc "Nobody was heard yet; who is silent for `down_after` ms is down."
  @spec new(pos_integer) :: t
  def new(down_after), do: %__MODULE__{down_after: down_after}

  @doc "`Heartbeat.kind` of a Brain."
  @spec kind_brain :: 2
  def kind_brain, do: @kind_brain

  @doc "A heartbeat arrived; false if it is no Brain's."
  @spec heard(t, Heartbeat.t(), integer) :: {boolean, t}
  def heard(peers, %Heartbeat{kind: @kind_brain, node: node} = beat, now) do
    if Id.valid?(:node, node) do
      known =
        peers.known
        |> Enum.filter(fn {_, peer} -> now - peer.heard <= peers.down_after * 10 end)
        |> Map.new()

      known =
        if map_size(known) < @peers_max or is_map_key(known, node) do
          peer = %{incarnation: beat.incarnation, heard: now, draining: beat.draining}
          Map.put(known, node, peer)
        else
          known
        end

      {true, %{peers | known: known}}
    else
      {false, peers}
    end
  end

  def heard(peers, %Heartbeat{}, _now), do: {false, peers}

  @doc "Who lives and takes rooms, ascending by name."
  @spec living(t, integer) :: [living]
  def living(peers, now) do
    living =
      for {node, peer} <- peers.known, now - peer.heard <= peers.down_after, not peer.draining do
        %{node: node, incarnation: peer.incarnation}
      end

    Enum.sort_by(living, & &1.node)
  end

  @doc """
  Who should serve the room, best first: the writer of its last entry if it lives (ownership is sticky), then by
  rendezvous hash, so that every node finds the same order without asking.
  """
  @spec ranked({binary, binary}, nil | non_neg_integer, [living]) :: [living]
  def ranked({tenant, room}, last_writer, living) do
    weight = fn node -> Chain.chain(<<node::binary, 0, tenant::binary, 0, room::binary>>) end
    Enum.sort_by(living, &{&1.incarnation != last_writer, -weight.(&1.node)})
  end
end
