defmodule Brain.Room.RingTest do
  use ExUnit.Case, async: true

  alias Brain.Proto.Internal.LogEntry
  alias Brain.Room.Ring

  defp ring(entries) do
    Enum.reduce(entries, %Ring{}, fn {pos, epoch, first_seq, events}, ring ->
      Ring.push(ring, pos, pos * 10, %LogEntry{epoch: epoch, first_seq: first_seq, envelopes: events})
    end)
  end

  test "replays what it holds, and says what it does not" do
    ring = ring([{3, 7, 5, ["e5", "e6"]}, {4, 7, 7, []}, {6, 7, 7, ["e7"]}])
    assert Ring.after_seq(ring, 7, 4) == ["e5", "e6", "e7"]
    assert Ring.after_seq(ring, 7, 5) == ["e6", "e7"]
    assert Ring.after_seq(ring, 7, 7) == []
    assert Ring.after_seq(ring, 7, 3) == nil, "seq 4 has left the ring"
    assert Ring.after_seq(ring, 8, 0) == nil
    assert Ring.after_seq(ring, 7, 0xFFFF_FFFF_FFFF_FFFF) == []
    assert Ring.after_seq(%Ring{}, 7, 0) == nil
  end

  test "an epoch's events begin with its first entry" do
    ring = ring([{3, 7, 5, ["old"]}, {4, 8, 1, []}, {5, 8, 1, ["new"]}])
    assert Ring.after_seq(ring, 8, 0) == ["new"]
    assert Ring.newest(ring, 8, 10, 100) == ["new"]
    assert Ring.newest(ring, 7, 10, 100) == [], "the newest epoch is another"
  end

  test "knows the chain of what it holds" do
    ring = ring([{3, 7, 5, []}, {6, 7, 5, []}])
    assert Ring.chain_at(ring, 2) == :older
    assert Ring.chain_at(ring, 3) == {:ok, 30}
    assert Ring.chain_at(ring, 5) == :none
    assert Ring.chain_at(ring, 9) == :none
    assert Ring.chain_at(Ring.clear(ring), 9) == :older
  end

  test "gives the newest, within a count and a size" do
    ring = ring([{1, 7, 1, ["aa", "bb"]}, {2, 7, 3, ["cc"]}])
    assert Ring.newest(ring, 7, 2, 100) == ["bb", "cc"]
    assert Ring.newest(ring, 7, 10, 5) == ["bb", "cc"]
    assert Ring.newest(ring, 7, 10, 6) == ["aa", "bb", "cc"]
    assert Ring.newest(ring, 7, 10, 1) == []
    assert Ring.newest(ring, 7, 0, 100) == []
  end

  test "is bounded in entries and in bytes" do
    ring = ring(for pos <- 1..300, do: {pos, 7, pos, ["e"]})
    assert {ring.count, ring.bytes, Ring.chain_at(ring, 44), Ring.chain_at(ring, 45)} == {256, 256, :older, {:ok, 450}}
    big = String.duplicate("x", 400_000)
    ring = ring(for pos <- 1..9, do: {pos, 7, pos, [big]})
    assert {ring.count, ring.bytes} == {2, 800_000}
    assert Ring.after_seq(ring, 7, 7) == [big, big]
    ring = ring([{1, 7, 1, [big, big, big]}])
    assert {ring.count, ring.bytes} == {0, 0}, "one that is larger than the ring alone"
  end
end
