defmodule Brain.Room.FoldTest do
  use ExUnit.Case, async: true

  import Brain.Prop
  import Brain.RoomGen
  import :proper_types, only: [integer: 2, list: 1, oneof: 1, weighted_union: 1]

  alias Brain.Codec
  alias Brain.Proto.Internal.{LogEntry, RoomSnapshot}
  alias Brain.Proto.V1
  alias Brain.Room.{Chain, Dedupe, Fold, Folded, State, Tail}
  alias Brain.RoomGen.Owner

  defp step do
    weighted_union([
      {8, {:commit, list(any_command())}},
      {3, {:pass, oneof([1, 500, 5_000, 160_000])}},
      {2, :expire},
      {2, {:own, oneof([true, false, false])}},
      {1, {:void, oneof([<<>>, <<1>>, Codec.encode(%LogEntry{kind: :tick})])}},
      {1, :deleted}
    ])
  end

  defp take({:commit, commands}, owner), do: elem(commit(owner, commands), 1)
  defp take({:pass, ms}, owner), do: %{owner | now: owner.now + ms}
  defp take(:expire, owner), do: expire(owner)
  defp take({:own, new_epoch}, owner), do: own(owner, new_epoch)
  defp take({:void, bytes}, owner), do: void(owner, bytes)

  defp take(:deleted, owner) do
    tail = owner.room.tail
    write(owner, %LogEntry{kind: :deleted, epoch: tail.epoch, term: tail.term}, [])
  end

  test "the fold of a log is the state that its owner had, from the beginning or from any snapshot" do
    check({list(step()), integer(0, 100)}, fn {steps, at} ->
      owner = Enum.reduce(steps, own(%Owner{}, true), &take/2)
      assert image(refold(owner.log)) == image(owner.room)

      {newer, older} = Enum.split(owner.log, div(length(owner.log) * at, 101))
      there = refold(older)
      bytes = Codec.encode(Fold.snapshot(there))
      {:ok, snapshot} = Codec.decode(RoomSnapshot, bytes)
      restored = Fold.restore(snapshot, 256)
      assert Codec.encode(Fold.snapshot(restored)) == bytes
      # A snapshot stands where its last valid entry stands: void ones after it are read again.
      restored = %{restored | tail: %{restored.tail | fence: there.tail.fence, deleted: there.tail.deleted}}
      assert image(refold(newer, restored)) == image(owner.room)
    end)
  end

  test "the bounds hold in every state that an owner reaches" do
    check(list({integer(0, 4_000), list(any_command())}), fn batches ->
      Enum.reduce(batches, own(%Owner{}, true), fn {ms, commands}, owner ->
        {decisions, owner} = commit(%{owner | now: owner.now + ms}, commands)
        state = owner.room.state
        assert Enum.all?(decisions, &(elem(&1, 0) in [:event, :ephemeral, :repeat, :refuse]))
        assert State.bytes(state) <= State.state_bytes_max() and State.len(state) <= State.keys_max()
        assert byte_size(Codec.encode(%{State.encode(state, 0) | dedupe: []})) <= State.bytes(state) + 32
        assert Dedupe.bytes(state.dedupe) <= Dedupe.room_bytes_max()
        assert Dedupe.len(state.dedupe) <= Dedupe.room_entries_max()
        owner
      end)
    end)
  end

  test "an entry's events are applied, its clock and place kept" do
    owner = own(%Owner{}, true)
    {_, owner} = commit(owner, [command("ann", 1, set("k", "v")), command("ann", 2, say("hi"))])
    [{pos, bytes} | _] = owner.log
    epoch = start_ms()
    assert %Tail{epoch: ^epoch, term: 1, seq: 2, pos: ^pos, fence: ^pos, gen_id: 99, at: ^epoch} = owner.room.tail
    assert owner.room.tail.chain == Chain.chain(bytes)
    assert %State.Slot{value: "v", ver: 1} = State.get(owner.room.state, "k")
    {_, {:ok, applied}} = Fold.entry(refold(tl(owner.log)), pos, bytes)
    assert {applied.chain, length(applied.entry.envelopes)} == {Chain.chain(bytes), 2}
  end

  test "what does not fit moves the fence and nothing else" do
    room = own(%Owner{}, true).room
    fits = %LogEntry{kind: :tick, epoch: room.tail.epoch, term: 1, prev: room.tail.fence, prev_chain: room.tail.chain}

    for {entry, why} <- [
          {%{fits | kind: :unknown}, :unreadable},
          {%{fits | prev: 1}, :position},
          {%{fits | prev_chain: 1}, :chain},
          {%{fits | term: 0}, :term}
        ] do
      {after_it, judged} = Fold.entry(room, 50, Codec.encode(entry))
      assert judged == {:error, why}
      assert after_it == %{room | tail: %{room.tail | fence: 50}}
    end

    assert {_, {:error, :unreadable}} = Fold.entry(room, 50, <<0xFF>>)

    assert {%{tail: %{pos: 50}}, {:ok, _}} = Fold.entry(room, 50, Codec.encode(%{fits | kind: 77})),
           "of a later version"
  end

  test "what an entry holds that is no event is stepped over" do
    room = own(%Owner{}, true).room
    signal = Codec.encode(%V1.Envelope{payload: {:signal, %V1.SystemSignal{}}})
    tail = room.tail
    entry = %LogEntry{kind: :events, epoch: tail.epoch, term: 1, prev: tail.fence, prev_chain: tail.chain}
    {folded, {:ok, _}} = Fold.entry(room, 9, Codec.encode(%{entry | envelopes: [<<0xFF>>, signal]}))
    assert folded.state == room.state and folded.tail.seq == 0
  end

  test "a take-over begins every ttl anew, at a clock that never falls" do
    owner = own(%Owner{}, true)
    at = start_ms()
    {_, owner} = commit(owner, [command("ann", 1, set("k", "v", ttl_ms: 500))])
    assert State.next_end(owner.room.state) == at + 500
    owner = own(%{owner | now: at + 400}, false)
    assert {owner.room.tail.at, State.next_end(owner.room.state)} == {at + 400, at + 900}
    # Written by an owner whose clock is behind: the room's is not.
    behind = Fold.begin(owner.room, %LogEntry{kind: :owned, epoch: at, term: 3, at: at - 5})
    assert {behind.tail.at, behind.tail.term, State.next_end(behind.state)} == {at + 400, 3, at + 900}
  end

  test "a silent user leaves the window with the room's clock" do
    owner = own(%Owner{}, true)
    {_, owner} = commit(owner, [command("ann", 1, say("hi"))])
    {_, owner} = commit(%{owner | now: start_ms() + Dedupe.forget_ms()}, [])
    assert Dedupe.len(owner.room.state.dedupe) == 1
    {_, owner} = commit(%{owner | now: owner.now + 1}, [])
    assert Dedupe.empty?(owner.room.state.dedupe)
  end

  test "a tombstone leaves nothing, and a new epoch begins at 1" do
    owner = own(%Owner{}, true)
    {_, owner} = commit(owner, [command("ann", 1, set("k", "v"))])
    owner = take(:deleted, owner)
    assert owner.room.tail.deleted and owner.room.state == %State{}
    assert owner.room.tail.seq == 1
    owner = own(owner, true)
    assert {owner.room.tail.deleted, owner.room.tail.seq, owner.room.tail.term} == {false, 0, 2}
  end

  test "a snapshot without a state restores an empty room" do
    assert Fold.restore(%RoomSnapshot{epoch: 3, pos: 8}, 256) == %Folded{tail: %Tail{epoch: 3, pos: 8, fence: 8}}
  end
end
