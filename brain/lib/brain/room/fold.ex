defmodule Brain.Room.Folded do
  @moduledoc """
  A room after some of its entries: where its log stands, and what its events made.
  """
  alias Brain.Room.{State, Tail}

  defstruct tail: %Tail{}, state: %State{}

  @type t :: %__MODULE__{tail: Tail.t(), state: State.t()}
end

defmodule Brain.Room.Fold do
  @moduledoc """
  A room's state is a pure fold over its log: `entry/3` is the fold's step, the same for the owner that wrote an entry,
  for the one that takes over, and for a test that checks both.

  An owner applies an entry while it builds it (`begin/2`, then `event/2` for each event), and knows more only once it is
  stored: `adopt/3` then makes of what was ahead what `stored/5` would make of what was committed, without doing it all
  again and without a second copy of the state.
  """

  alias Brain.Codec
  alias Brain.Proto.Internal.{LogEntry, RoomSnapshot}
  alias Brain.Proto.V1.Envelope
  alias Brain.Room.{Chain, Dedupe, Folded, State, Tail}

  defmodule Applied do
    @moduledoc "An entry that was applied, and its chain."
    alias Brain.Proto.Internal.LogEntry

    @enforce_keys [:entry, :chain]
    defstruct [:entry, :chain]

    @type t :: %__MODULE__{entry: LogEntry.t(), chain: non_neg_integer()}
  end

  @doc "A room without an entry, whose window remembers the last `dedupe` commands of each user."
  @spec new(non_neg_integer()) :: Folded.t()
  def new(dedupe), do: %Folded{state: State.new(dedupe)}

  @doc "Applies the room's next message, stored at `pos`. A void one moves the fence and nothing else."
  @spec entry(Folded.t(), non_neg_integer(), binary()) ::
          {Folded.t(), {:ok, Applied.t()} | {:error, Tail.void()}}
  def entry(folded, pos, bytes) do
    with {:ok, entry} <- readable(bytes),
         :ok <- Tail.accepts(folded.tail, entry) do
      chain = Chain.chain(bytes)
      folded = stored(folded, entry, events(entry), pos, chain)
      {folded, {:ok, %Applied{entry: entry, chain: chain}}}
    else
      {:error, void} -> {%{folded | tail: %{folded.tail | fence: pos}}, {:error, void}}
    end
  end

  defp readable(bytes) do
    case Codec.decode(LogEntry, bytes) do
      {:ok, %{kind: kind} = entry} when kind != :unknown -> {:ok, entry}
      _ -> {:error, :unreadable}
    end
  end

  defp events(entry) do
    Enum.flat_map(entry.envelopes, fn bytes ->
      case Codec.decode(Envelope, bytes) do
        {:ok, envelope} -> [envelope]
        {:error, _} -> []
      end
    end)
  end

  @doc "Applies a valid entry whose events are decoded already."
  @spec stored(Folded.t(), LogEntry.t(), [Envelope.t()], non_neg_integer(), non_neg_integer()) ::
          Folded.t()
  def stored(folded, entry, events, pos, chain) do
    events |> Enum.reduce(begin(folded, entry), &event(&2, &1)) |> adopt(pos, chain)
  end

  @doc "An entry whose effect is there already is stored at `pos`."
  @spec adopt(Folded.t(), non_neg_integer(), non_neg_integer()) :: Folded.t()
  def adopt(folded, pos, chain),
    do: %{folded | tail: %{folded.tail | pos: pos, fence: pos, chain: chain}}

  @doc "What an entry does before its events: clock, term, epoch, and the take-over or deletion it stands for."
  @spec begin(Folded.t(), LogEntry.t()) :: Folded.t()
  def begin(%{tail: tail, state: state}, entry) do
    tail = %{
      tail
      | seq: if(entry.epoch > tail.epoch, do: 0, else: tail.seq),
        epoch: entry.epoch,
        term: entry.term,
        gen_id: entry.gen,
        at: max(tail.at, entry.at),
        deleted: entry.kind == :deleted
    }

    state = %{state | dedupe: Dedupe.sweep(state.dedupe, tail.at)}
    %Folded{tail: tail, state: begin_kind(state, entry.kind, tail.at)}
  end

  defp begin_kind(state, :owned, at), do: State.renew(state, at)
  defp begin_kind(state, :deleted, _at), do: State.new(state.dedupe.limit)
  defp begin_kind(state, _kind, _at), do: state

  @doc "One event of the entry begun."
  @spec event(Folded.t(), Envelope.t()) :: Folded.t()
  def event(folded, %{payload: {:event, event}} = envelope) do
    %Folded{
      tail: %{folded.tail | seq: max(folded.tail.seq, event.seq)},
      state: State.apply(folded.state, envelope, event)
    }
  end

  def event(folded, _envelope), do: folded

  @doc "As a snapshot."
  @spec snapshot(Folded.t()) :: RoomSnapshot.t()
  def snapshot(%{tail: tail, state: state}) do
    %RoomSnapshot{
      epoch: tail.epoch,
      term: tail.term,
      seq: tail.seq,
      pos: tail.pos,
      chain: tail.chain,
      gen: tail.gen_id,
      state: State.encode(state, tail.at)
    }
  end

  @doc """
  From a snapshot: the room as it was right after the entry at `pos`, with a window of the last `dedupe` commands of each
  user.
  """
  @spec restore(RoomSnapshot.t(), non_neg_integer()) :: Folded.t()
  def restore(snapshot, dedupe) do
    room = snapshot.state

    %Folded{
      tail: %Tail{
        epoch: snapshot.epoch,
        term: snapshot.term,
        seq: snapshot.seq,
        pos: snapshot.pos,
        chain: snapshot.chain,
        fence: snapshot.pos,
        gen_id: snapshot.gen,
        at: if(room, do: room.at, else: 0)
      },
      state: if(room, do: State.decode(room, dedupe), else: State.new(dedupe))
    }
  end
end
