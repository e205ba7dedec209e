defmodule Brain.RoomGen do
  @moduledoc """
  What tests of a room are made of: commands by hand and at random, and a log written the way an owner writes it.
  """

  import :proper_types, only: [integer: 2, oneof: 1, weighted_union: 1]

  alias Brain.{Codec, Proto}
  alias Brain.Proto.Internal.LogEntry
  alias Brain.Proto.V1
  alias Brain.Room.{Answers, Chain, Decide, Fold, Folded}
  alias Brain.Room.Incoming.{Caller, Command}

  @start_ms 1_760_000_000_000
  @all_rights 127

  @doc "When the tests' rooms begin, ms since 1970."
  def start_ms, do: @start_ms

  @doc "The tests' room."
  def key, do: {"acme", "lobby"}

  @doc "A message id from a small number."
  def mid(n), do: <<0xA5, 0::56, n::64>>

  @doc "A command of `user`, as it comes out of `Brain.Room.Incoming`."
  def command(user, n, op, more \\ []) do
    {rights, more} = Keyword.pop(more, :rights, @all_rights)
    command = %Command{caller: %Caller{user: user, rights: rights}, id: mid(n), timestamp: @start_ms, op: op}
    struct!(command, more)
  end

  @doc "The bytes of a command, as a Shield forwards them."
  def forwarded(user, n, command, more \\ []) do
    {rights, more} = Keyword.pop(more, :rights, @all_rights)

    envelope = %V1.Envelope{
      room_id: "lobby",
      timestamp: @start_ms,
      message_id: mid(n),
      payload: {:cmd, command},
      sender: %V1.Sender{user: user, conn: "c1", rights: rights}
    }

    Codec.encode(struct!(envelope, more))
  end

  @doc "The bytes of a signal, as a Shield asks."
  def signal(user, ask) do
    Codec.encode(%V1.Envelope{
      room_id: "lobby",
      payload: {:signal, %V1.SystemSignal{ask: ask}},
      sender: %V1.Sender{user: user, conn: "c1", rights: @all_rights}
    })
  end

  def say(text), do: {:say, %V1.Say{data: text, type: "text"}}
  def set(key, value, more \\ []), do: {:set, struct!(%V1.Set{key: key, value: value}, more)}
  def delete(key, expect \\ nil), do: {:delete, %V1.Delete{key: key, expect: expect}}
  def lock(mode, more \\ []), do: {:lock, struct!(%V1.Lock{mode: mode}, more)}
  def unlock(force \\ false), do: {:unlock, %V1.Unlock{force: force}}

  @doc "Any operation, mostly those that this version knows."
  def op do
    key = oneof(["a", "b", "c", "a-longer-key", ""])
    expect = weighted_union([{4, nil}, {1, 0}, {1, integer(1, 9)}])
    ttl = weighted_union([{3, 0}, {2, integer(1, 5_000)}, {1, 0xFFFF_FFFF_FFFF_FFFF}])
    mode = oneof([:none, :join, :write, :all, 77])

    weighted_union([
      {3, {:say, message(V1.Say, data: "d", type: oneof(["", "text", String.duplicate("t", 65)]))}},
      {6, {:set, message(V1.Set, key: key, value: oneof(["", "v", value(4_000)]), ttl_ms: ttl, expect: expect)}},
      {3, {:delete, message(V1.Delete, key: key, expect: expect)}},
      {1, {:lock, message(V1.Lock, mode: mode, reason: oneof(["", "why", value(300)]), ttl_ms: ttl)}},
      {1, {:unlock, message(V1.Unlock, force: oneof([true, false]))}},
      {1, oneof([nil, {:kick, %V1.Kick{}}, {:play, %V1.Play{}}])}
    ])
  end

  @doc "Any command of some users, also repeats, conditions and ephemeral ones."
  def any_command do
    drawn =
      {oneof(["ann", "bob", "cid"]), integer(1, 60), op(), oneof([127, 127, 6, 2, 4, 16, 0]), integer(-130_000, 30_000),
       oneof([true, false, false, false]), weighted_union([{5, nil}, {1, {integer(0, 2), integer(0, 9)}}])}

    map(drawn, fn {user, n, op, rights, skew, ephemeral, head} ->
      head = if head, do: %V1.Head{epoch: @start_ms + elem(head, 0), seq: elem(head, 1)}
      command(user, n, op, rights: rights, timestamp: @start_ms + skew, ephemeral: ephemeral, if_head: head)
    end)
  end

  @doc "`type`, each value changed by `fun`."
  def map(type, fun), do: :proper_types.bind(type, fun, false)

  defp message(module, fields) do
    {names, types} = Enum.unzip(fields)
    map(List.to_tuple(types), &struct!(module, Enum.zip(names, Tuple.to_list(&1))))
  end

  defp value(len), do: String.duplicate("x", len)

  defmodule Owner do
    @moduledoc "A room and the log that it wrote, as positions and bytes, newest first."
    defstruct room: %Brain.Room.Folded{}, log: [], counter: 0, now: 1_760_000_000_000
  end

  @doc "Takes the room over, with a new epoch where asked."
  def own(owner, new_epoch) do
    tail = owner.room.tail
    epoch = if new_epoch or tail.epoch == 0, do: Brain.Room.Tail.next_epoch(tail, owner.now), else: tail.epoch
    owned = %Proto.Internal.Owned{node: "brain-1", incarnation: 7}
    write(owner, %LogEntry{kind: :owned, epoch: epoch, term: tail.term + 1, owned: owned}, [])
  end

  @doc "Judges commands as one entry and writes it; the decisions, and the owner after it."
  def commit(owner, commands) do
    entry = entry(owner, %LogEntry{kind: :events, epoch: owner.room.tail.epoch, term: owner.room.tail.term})
    ahead = Fold.begin(owner.room, entry)
    {decisions, {ahead, events}} = Enum.map_reduce(commands, {ahead, []}, &judge(&1, &2, entry))
    {decisions, store(owner, entry, ahead, Enum.reverse(events))}
  end

  defp judge(command, {ahead, events}, entry) do
    decision = Decide.decide(ahead.state, ahead.tail, entry.at, command)

    case decision do
      {:event, body} ->
        envelope = Answers.event(key(), place(entry, ahead.tail.seq + 1), command, body)
        {decision, {Fold.event(ahead, envelope), [Codec.encode(envelope) | events]}}

      _ ->
        {decision, {ahead, events}}
    end
  end

  defp place(entry, seq),
    do: %Answers.Place{epoch: entry.epoch, term: entry.term, seq: seq, at: entry.at, prev: entry.prev}

  @doc "Writes an entry of any kind."
  def write(owner, entry, events) do
    entry = entry(owner, entry)
    store(owner, entry, Fold.begin(owner.room, entry), events)
  end

  @doc "What ends by itself becomes events of an entry."
  def expire(owner) do
    entry = entry(owner, %LogEntry{kind: :events, epoch: owner.room.tail.epoch, term: owner.room.tail.term})

    {ahead, events} =
      for ended <- Brain.Room.State.ended(owner.room.state, entry.at), reduce: {Fold.begin(owner.room, entry), []} do
        {ahead, events} ->
          envelope = Answers.own_event(key(), place(entry, ahead.tail.seq + 1), ended(ended))
          {Fold.event(ahead, envelope), [Codec.encode(envelope) | events]}
      end

    store(owner, entry, ahead, Enum.reverse(events))
  end

  defp ended({:key, key}), do: {:key_deleted, %V1.KeyDeleted{key: key, expired: true}}
  defp ended(:lock), do: {:unlocked, %V1.Unlocked{expired: true}}

  @doc "Somebody stored what counts for nothing."
  def void(owner, bytes) do
    pos = owner.room.tail.fence + 3
    {room, {:error, _}} = Fold.entry(owner.room, pos, bytes)
    %{owner | room: room, log: [{pos, bytes} | owner.log]}
  end

  defp entry(%{room: %{tail: tail}} = owner, entry) do
    first_seq = if entry.epoch > tail.epoch, do: 1, else: tail.seq + 1

    %{
      entry
      | first_seq: first_seq,
        prev: tail.fence,
        prev_chain: tail.chain,
        gen: 99,
        at: max(owner.now, tail.at),
        entry_id: Chain.entry_id(7, owner.counter + 1)
    }
  end

  defp store(owner, entry, ahead, events) do
    bytes = Codec.encode(%{entry | envelopes: events})
    pos = owner.room.tail.fence + 2
    room = Fold.adopt(ahead, pos, Chain.chain(bytes))
    %{owner | room: room, log: [{pos, bytes} | owner.log], counter: owner.counter + 1}
  end

  @doc "The log folded from nothing, or from a room."
  def refold(log, room \\ %Folded{}) do
    log |> Enum.reverse() |> Enum.reduce(room, fn {pos, bytes}, room -> elem(Fold.entry(room, pos, bytes), 0) end)
  end

  @doc "All there is to know of a room, as bytes."
  def image(room),
    do: {room.tail.fence, room.tail.deleted, Codec.encode(Fold.snapshot(room)), Brain.Room.State.bytes(room.state)}
end
