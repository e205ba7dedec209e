defmodule Brain.Nats.Sub do
  @moduledoc """
  A subscription's handle, and the account of what its subscriber has not dealt with yet.

  A mailbox has no bound of its own. So the connection counts what it delivers, the subscriber says `ack/2` for what it
  has dealt with, and beyond `max` the newest messages are dropped and counted: `{:nats_lost, sub, count}` stands in the
  mailbox exactly where they are missing, before the next message and as soon as there is room again.
  """

  @enforce_keys [:connection, :id, :credit]
  defstruct [:connection, :id, :credit]

  @type t :: %__MODULE__{connection: pid, id: reference, credit: :atomics.atomics_ref()}

  @outstanding 1
  # 1 while the connection owes a loss that had no room.
  @owed 2

  @doc "A handle for a subscription of `connection`."
  @spec new(pid) :: t
  def new(connection) do
    %__MODULE__{connection: connection, id: make_ref(), credit: :atomics.new(2, signed: true)}
  end

  @doc "The subscriber has dealt with `n` messages."
  @spec ack(t, pos_integer) :: :ok
  def ack(%__MODULE__{credit: credit} = sub, n) do
    :atomics.sub(credit, @outstanding, n)

    # The connection looks at the places after it has set this, and we set it back after we have freed them: one of
    # the two sees the other.
    if :atomics.get(credit, @owed) == 1 and :atomics.exchange(credit, @owed, 0) == 1 do
      send(sub.connection, {:room, sub.id})
    end

    :ok
  end

  @doc "Messages delivered and not acknowledged."
  @spec outstanding(t) :: integer
  def outstanding(%__MODULE__{credit: credit}), do: :atomics.get(credit, @outstanding)

  @doc false
  @spec take(t, pos_integer) :: boolean
  def take(%__MODULE__{credit: credit}, max) do
    if :atomics.add_get(credit, @outstanding, 1) <= max do
      true
    else
      :atomics.sub(credit, @outstanding, 1)
      false
    end
  end

  @doc false
  @spec owe(t) :: :ok
  def owe(%__MODULE__{credit: credit}), do: :atomics.put(credit, @owed, 1)

  @doc false
  @spec settle(t) :: :ok
  def settle(%__MODULE__{credit: credit}), do: :atomics.put(credit, @owed, 0)
end
