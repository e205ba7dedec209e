defmodule Brain.Mesh.Place do
  @moduledoc """
  One open being placed: who should serve the room, asked in order until one answers. The writer of the room's last
  entry while that lives, else by rendezvous; a node that stays silent is passed over.

  A value: `Brain.Mesh` makes the calls that it names.

      begin ──last entry──▶ found ──▶ {:here, …} | {:forward, node, body, place} | {:unavailable, reply}
                                          ▲                  │ silent
                                          └──── silent ◀─────┘
  """

  alias Brain.Codec
  alias Brain.Mesh.Peers
  alias Brain.Proto.Internal.{LogEntry, Open}
  alias Brain.Room.Chain

  @enforce_keys [:me, :key, :reply, :open, :left]
  defstruct [:me, :key, :reply, :open, :left]

  @type key :: {binary, binary}
  @type t :: %__MODULE__{me: binary, key: key, reply: binary, open: Open.t(), left: [Peers.living()]}

  @typedoc "What is to be done: serve it here, ask that node and come back, or say that nobody can."
  @type next :: {:here, key, binary, boolean} | {:forward, binary, binary, t} | {:unavailable, binary}

  @doc "An open of `key` for `reply`, at the node `me`, with these nodes to choose from."
  @spec begin(binary, key, binary, Open.t(), [Peers.living()]) :: t
  def begin(me, key, reply, open, living) do
    %__MODULE__{me: me, key: key, reply: reply, open: open, left: living}
  end

  @doc "The room's last stored entry was read; `nil`: there is none."
  @spec found(t, nil | binary) :: next
  def found(place, last) do
    next(%{place | left: Peers.ranked(place.key, writer(last), place.left)})
  end

  @doc "The node that was asked said nothing."
  @spec silent(t) :: next
  def silent(place), do: next(place)

  defp next(%{left: []} = place), do: {:unavailable, place.reply}

  defp next(%{me: me, left: [%{node: me} | _]} = place) do
    {:here, place.key, place.reply, place.open.create}
  end

  defp next(%{left: [%{node: node} | left]} = place) do
    {tenant, _} = place.key
    {:forward, node, Codec.encode(%{place.open | tenant: tenant}), %{place | left: left}}
  end

  defp writer(nil), do: nil

  defp writer(body) do
    case Codec.decode(LogEntry, body) do
      {:ok, entry} -> Chain.writer(entry)
      {:error, _} -> nil
    end
  end
end
