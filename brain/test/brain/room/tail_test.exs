defmodule Brain.Room.TailTest do
  use ExUnit.Case, async: true

  alias Brain.Proto.Internal.LogEntry
  alias Brain.Room.{Chain, Saturating, Tail}

  @u64_max 0xFFFF_FFFF_FFFF_FFFF

  test "epochs rise with and without a clock" do
    tail = %Tail{epoch: 500}
    assert Tail.next_epoch(tail, 400) == 501
    assert Tail.next_epoch(tail, 900) == 900
    assert Tail.next_epoch(tail, -5) == 501
    assert Tail.next_epoch(%Tail{}, 0) == 1
    assert Tail.next_epoch(%Tail{epoch: @u64_max}, 0) == @u64_max, "the last epoch there is"
  end

  test "an entry must fit in position, chain and term" do
    tail = %Tail{epoch: 5, term: 3, pos: 8, chain: 77, fence: 9}
    good = %LogEntry{epoch: 5, term: 3, prev: 9, prev_chain: 77}
    assert Tail.accepts(tail, good) == :ok
    assert Tail.accepts(tail, %{good | prev: 8}) == {:error, :position}
    assert Tail.accepts(tail, %{good | prev_chain: 78}) == {:error, :chain}
    assert Tail.accepts(tail, %{good | term: 2}) == {:error, :term}
    assert Tail.accepts(tail, %{good | epoch: 6, term: 1}) == :ok, "a higher epoch outranks the term"
    assert Tail.accepts(tail, %{good | epoch: 4, term: 9}) == {:error, :term}
  end

  test "entry ids tell their writer" do
    id = Chain.entry_id(0xFEED, 3)
    assert id == <<0xED, 0xFE, 0, 0, 0, 0, 0, 0, 3, 0, 0, 0, 0, 0, 0, 0>>
    assert Chain.writer(%LogEntry{entry_id: id}) == 0xFEED
    assert Chain.writer(%LogEntry{}) == nil
    assert Chain.writer(%LogEntry{entry_id: id <> <<0>>}) == nil
  end

  test "the chain is the hash's first eight bytes, little-endian" do
    # sha256("abc") = ba7816bf 8f01cfea …
    assert Chain.chain("abc") == 0xEACF018FBF1678BA
  end

  test "an entry has bounds" do
    assert {Chain.entry_events_max(), Chain.entry_bytes_max()} == {256, 524_288}
  end

  test "numbers stay within 64 bits" do
    assert Enum.map([-1, 0, @u64_max, @u64_max + 1], &Saturating.u64/1) == [0, 0, @u64_max, @u64_max]
    {low, high} = {-0x8000_0000_0000_0000, 0x7FFF_FFFF_FFFF_FFFF}
    assert Enum.map([low - 1, low, high, high + 1], &Saturating.i64/1) == [low, low, high, high]
  end
end
