defmodule Brain.Nats.ContractJetstreamTest do
  # Streams: fenced appends, RePublish, reads both ways, purge, specifications: the cases of
  # `spine/src/contract/jetstream.rs`, by name.
  use ExUnit.Case, async: false

  import Brain.NatsWorld

  alias Brain.Nats.Headers
  alias Brain.{Spine, Subject}
  alias Brain.Spine.StreamSpec

  @moduletag timeout: 90_000, capture_log: true
  @both [:direct, :leader]

  # A connection with every stream.
  defp begin do
    conn = connected(world())
    spine = spine(conn)
    streams(spine)
    {conn, spine}
  end

  defp log(room), do: Subject.log({"acme", room})

  # Appends `n` entries named `0 … n-1`; gives them as they must be read.
  defp fill(spine, to, n) do
    for i <- 0..(n - 1), reduce: [] do
      entries ->
        expect = if entries == [], do: 0, else: hd(entries).seq
        assert {:stored, seq} = Spine.append(spine, to, expect, "#{i}")
        [%{subject: to, seq: seq, body: "#{i}"} | entries]
    end
    |> Enum.reverse()
  end

  test "the_first_append_expects_none" do
    {_conn, spine} = begin()
    assert Spine.append(spine, log("a"), 0, "a1") == {:stored, 1}
    assert Spine.append(spine, log("a"), 1, "a2") == {:stored, 2}
    # The fence is the subject's own: the other room's entries do not count.
    assert Spine.append(spine, log("b"), 0, "b1") == {:stored, 3}
    assert Spine.append(spine, log("a"), 2, "a3") == {:stored, 4}
  end

  test "a_wrong_expectation_is_unresolved_and_not_stored" do
    {_conn, spine} = begin()
    entries = fill(spine, log("a"), 3)

    for expect <- [0, 1, 2, 4, 1_000] do
      assert Spine.attempt(spine, log("a"), expect, "zombie") == {:error, {:unresolved, :wrong_last}}
      assert Spine.append(spine, log("a"), expect, "zombie") == :wrong_last
    end

    assert Spine.read(spine, log("a"), 1, 100, :direct) == {:ok, %{entries: entries, more: false}}
  end

  test "a_wrong_expectation_is_not_republished" do
    {conn, spine} = begin()
    out = listen(conn, "out.>")
    fill(spine, log("lobby"), 1)
    assert Spine.append(spine, log("lobby"), 0, "zombie") == :wrong_last
    assert {:stored, _seq} = Spine.append(spine, log("lobby"), 1, "1")
    assert bodies(out, 2) == ["0", "1"]
    silent(out)
  end

  test "an_append_is_republished_with_its_position" do
    {conn, spine} = begin()
    out = listen(conn, "out.t.*.r.*")

    for entry <- fill(spine, log("lobby"), 3) do
      message = next(out)
      assert message.subject == "out.t.acme.r.lobby"
      assert Headers.number(message.headers, "Nats-Sequence") == entry.seq
      assert message.body == entry.body
      assert {message.reply, message.status} == {nil, nil}
    end

    silent(out)
  end

  test "what_no_stream_holds_is_refused" do
    spine = spine(connected(world()))
    input = "in.t.acme.r.a"
    assert {:error, {:refused, :no_stream, 0, _text}} = Spine.attempt(spine, input, 0, "x")
    assert Spine.append(spine, input, 0, "x") == :unavailable
    assert Spine.last(spine, input, :direct) == {:error, :no_stream}
    assert Spine.read(spine, input, 1, 1, :leader) == {:error, :no_stream}
    assert Spine.last_of(spine, "in.t.*.r.*") == {:error, :no_stream}
    assert Spine.purge_below(spine, input, 2) == {:error, :no_stream}
    # Its stream does not exist yet: surely not stored, and said at once.
    assert {:error, {:refused, :unavailable, 503, _text}} = Spine.attempt(spine, log("a"), 0, "x")
    assert {:error, {:unavailable, 503, _text}} = Spine.last(spine, log("a"), :direct)
    assert Spine.last(spine, log("a"), :leader) == {:error, :no_stream}
    streams(spine)
    assert Spine.append(spine, log("a"), 0, "x") == {:stored, 1}
  end

  test "a_full_stream_refuses_and_stores_nothing" do
    spine = spine(connected(world()))
    assert :ok = Spine.ensure(spine, StreamSpec.log(0, 1, 1, 10_000))
    big = String.duplicate("x", 1_000)

    {refused, last} =
      Enum.reduce_while(1..100, {nil, 0}, fn _, {nil, last} ->
        case Spine.attempt(spine, log("a"), last, big) do
          {:ok, seq} -> {:cont, {nil, seq}}
          error -> {:halt, {error, last}}
        end
      end)

    assert {:error, {:refused, :full, 10_077, _text}} = refused
    assert last > 3
    assert {:ok, %{seq: ^last}} = Spine.last(spine, log("a"), :leader)
    # The oldest entry is still there: a full log forgets nothing.
    assert {:ok, %{entries: [%{seq: 1}]}} = Spine.read(spine, log("a"), 1, 1, :direct)
  end

  test "a_server_without_room_makes_no_stream" do
    spine = spine(connected(world(max_store: 8_388_608)))
    # It is reserved when the stream is made, whatever is stored.
    assert :ok = Spine.ensure(spine, StreamSpec.log(0, 2, 1, 5_242_880))

    assert {:error, {:no_room, "LOG_1", {5_242_880, :file, 1}, 10_047, _text}} =
             Spine.ensure(spine, StreamSpec.log(1, 2, 1, 5_242_880))

    assert :ok = Spine.ensure(spine, StreamSpec.log(0, 2, 1, 5_242_880))
    assert :ok = Spine.ensure(spine, StreamSpec.log(1, 2, 1, 2_097_152))
  end

  test "a_server_at_its_limit_is_unavailable" do
    spine = spine(connected(world(max_store: 100_000)))
    assert :ok = Spine.ensure(spine, StreamSpec.log(0, 1, 1, 0))
    big = String.duplicate("x", 30_000)

    {refused, last} =
      Enum.reduce_while(1..10, {nil, 0}, fn _, {nil, last} ->
        case Spine.attempt(spine, log("a"), last, big) do
          {:ok, seq} -> {:cont, {nil, seq}}
          error -> {:halt, {error, last}}
        end
      end)

    assert {:error, {:refused, :unavailable, 10_023, _text}} = refused
    assert last > 2
    assert {:ok, %{seq: ^last}} = Spine.last(spine, log("a"), :leader)
    # Room that is made again is used again.
    assert :ok = Spine.purge_below(spine, log("a"), last)
    assert {:ok, _seq} = Spine.attempt(spine, log("a"), last, "small")
  end

  test "equal_bytes_are_stored_twice" do
    {_conn, spine} = begin()
    # Three rooms' first entries with the same bytes: nothing may take one for a repetition of another.
    for {room, at} <- [{"a", 1}, {"b", 2}, {"c", 3}] do
      assert Spine.append(spine, log(room), 0, "same") == {:stored, at}
    end
  end

  test "last_is_none_or_the_newest" do
    {_conn, spine} = begin()
    for via <- @both, do: assert(Spine.last(spine, log("a"), via) == {:ok, nil})
    entries = fill(spine, log("a"), 3)

    for via <- @both do
      assert Spine.last(spine, log("a"), via) == {:ok, List.last(entries)}
      assert Spine.last(spine, log("b"), via) == {:ok, nil}
    end
  end

  test "both_ways_read_the_same" do
    {_conn, spine} = begin()

    {mine, _others} =
      for n <- 0..9, reduce: {[], 0} do
        {mine, other} ->
          assert {:stored, seq} = Spine.append(spine, log("a"), if(mine == [], do: 0, else: hd(mine).seq), "#{n}")
          assert {:stored, other} = Spine.append(spine, log("b"), other, "#{n}")
          {[%{subject: log("a"), seq: seq, body: "#{n}"} | mine], other}
      end

    # An empty payload is a payload.
    assert {:stored, seq} = Spine.append(spine, log("a"), hd(mine).seq, "")
    mine = Enum.reverse([%{subject: log("a"), seq: seq, body: ""} | mine])

    for via <- @both do
      for from <- Enum.map(mine, & &1.seq) ++ [1_000] do
        expected = Enum.filter(mine, &(&1.seq >= from))
        assert Spine.read(spine, log("a"), from, 100, via) == {:ok, %{entries: expected, more: false}}
      end

      assert Spine.read(spine, log("a"), 0, 100, via) == {:ok, %{entries: mine, more: false}}
      assert Spine.read(spine, log("c"), 1, 100, via) == {:ok, %{entries: [], more: false}}
    end
  end

  test "a_batch_says_whether_more_follow" do
    {_conn, spine} = begin()
    all = fill(spine, log("a"), 10)
    # Another room's later entries are not "more".
    fill(spine, log("b"), 3)

    for via <- @both do
      for max <- [1, 3, 9, 10, 11], do: assert(read_through(spine, max, via, 1, []) == all)
      assert Spine.read(spine, log("a"), 1, 0, via) == {:ok, %{entries: [], more: false}}
    end
  end

  defp read_through(spine, max, via, from, read) do
    assert {:ok, %{entries: entries, more: more}} = Spine.read(spine, log("a"), from, max, via)
    assert length(entries) in 1..max
    read = read ++ entries
    assert more == length(read) < 10
    if more, do: read_through(spine, max, via, List.last(read).seq + 1, read), else: read
  end

  test "a_batch_is_bounded_in_bytes" do
    {_conn, spine} = begin()
    big = String.duplicate("x", 400_000)

    Enum.reduce(1..8, 0, fn _, last ->
      assert {:stored, seq} = Spine.append(spine, log("a"), last, big)
      seq
    end)

    for via <- @both do
      assert {:ok, %{entries: entries, more: true}} = Spine.read(spine, log("a"), 1, 100, via)
      assert entries |> Enum.map(&byte_size(&1.body)) |> Enum.sum() |> Kernel.in(400_000..1_600_000)
    end
  end

  test "last_of_gives_the_last_of_each" do
    {_conn, spine} = begin()
    assert Spine.last_of(spine, "ban.t.acme.u.*") == {:ok, %{entries: [], more: false}}

    expected =
      for user <- ["zoe", "ann", "bob"] do
        to = Subject.ban("acme", user)
        assert {:stored, first} = Spine.append(spine, to, 0, "old")
        assert {:stored, seq} = Spine.append(spine, to, first, user)
        %{subject: to, seq: seq, body: user}
      end

    assert {:stored, _seq} = Spine.append(spine, Subject.ban("other", "ann"), 0, "x")
    assert Spine.last_of(spine, "ban.t.acme.u.*") == {:ok, %{entries: expected, more: false}}
    # Heads of a log: many messages a subject.
    heads = [List.last(fill(spine, log("a"), 3)), List.last(fill(spine, log("b"), 2))]
    assert Spine.last_of(spine, "log.*.t.acme.r.*") == {:ok, %{entries: heads, more: false}}
  end

  test "last_of_many_is_complete" do
    {_conn, spine} = begin()
    users = for n <- 0..1_499, do: Subject.ban("acme", "u#{n}")
    # Side by side: one after the other would take a while.
    for user <- users, do: Spine.append_async(spine, user, 0, "x", user)
    for user <- users, do: assert_receive({:spine, ^user, {:stored, _seq}}, soon_ms())
    assert {:ok, %{entries: entries, more: false}} = Spine.last_of(spine, "ban.t.acme.u.*")
    assert entries == Enum.sort_by(entries, & &1.seq)
    assert entries |> Enum.map(& &1.subject) |> Enum.sort() == Enum.sort(users)
  end

  test "purge_keeps_the_position_and_later" do
    {_conn, spine} = begin()
    {mine, others} = {fill(spine, log("a"), 5), fill(spine, log("b"), 2)}

    # Nothing lies below the first position, and 0 is no way to say "all".
    for keep <- [0, 1] do
      assert :ok = Spine.purge_below(spine, log("a"), keep)
      assert {:ok, %{entries: ^mine}} = Spine.read(spine, log("a"), 1, 10, :direct)
    end

    kept = Enum.drop(mine, 3)
    assert :ok = Spine.purge_below(spine, log("a"), hd(kept).seq)

    for via <- @both do
      assert {:ok, %{entries: ^kept}} = Spine.read(spine, log("a"), 1, 10, via)
      assert {:ok, %{entries: ^others}} = Spine.read(spine, log("b"), 1, 10, via)
    end
  end

  test "the_fence_after_a_purge" do
    {_conn, spine} = begin()
    last = List.last(fill(spine, log("a"), 3)).seq
    # While the last entry stands, it is what must be expected.
    assert :ok = Spine.purge_below(spine, log("a"), last)
    assert Spine.append(spine, log("a"), 0, "x") == :wrong_last
    assert {:stored, seq} = Spine.append(spine, log("a"), last, "3")
    # Without any entry, "none" is valid again; positions go on.
    assert :ok = Spine.purge_below(spine, log("a"), seq + 1)
    assert Spine.last(spine, log("a"), :leader) == {:ok, nil}
    assert Spine.append(spine, log("a"), seq, "x") == :wrong_last
    assert {:stored, later} = Spine.append(spine, log("a"), 0, "4")
    assert later > seq
  end

  test "snapshots_keep_the_newest_two" do
    {_conn, spine} = begin()
    {a, b} = {Subject.snapshot({"acme", "a"}), Subject.snapshot({"acme", "b"})}
    {mine, others} = {Enum.drop(fill(spine, a, 5), 3), fill(spine, b, 1)}

    for via <- @both do
      assert {:ok, %{entries: ^mine}} = Spine.read(spine, a, 1, 10, via)
      assert {:ok, %{entries: ^others}} = Spine.read(spine, b, 1, 10, via)
    end
  end

  test "a_limit_without_rollover_refuses_the_new" do
    spine = spine(connected(world()))
    assert :ok = Spine.ensure(spine, %{StreamSpec.snapshots(1) | rollover: false})
    to = Subject.snapshot({"acme", "a"})
    entries = fill(spine, to, 2)
    assert Spine.append(spine, to, List.last(entries).seq, "third") == :full
    assert {:ok, %{entries: ^entries}} = Spine.read(spine, to, 1, 10, :direct)
  end

  test "ensure_is_repeatable" do
    world = world()
    {one, two} = {spine(connected(world)), spine(connected(world))}
    streams(one)
    entries = fill(one, log("a"), 2)
    streams(two)
    streams(one)
    assert {:ok, %{entries: ^entries}} = Spine.read(two, log("a"), 1, 10, :leader)
  end

  test "ensure_names_what_differs" do
    {_conn, spine} = begin()
    log = StreamSpec.log(0, 1, 1, 67_108_864)

    differing = [
      {"max_bytes", %{log | max_bytes: 1_048_576}},
      {"storage", %{log | storage: :memory}},
      {"deny_delete", %{log | deny_delete: false}},
      {"republish", %{log | republish: nil}},
      {"subjects", %{log | subjects: ["log.>"]}},
      {"max_msgs_per_subject", %{StreamSpec.snapshots(1) | max_msgs_per_subject: 3}}
    ]

    for {property, spec} <- differing do
      assert {:error, {:differs, _stream, ^property, _found, _expected} = error} = Spine.ensure(spine, spec)
      assert Spine.explain(error) =~ "exists with another #{property}"
    end

    # And nothing was changed.
    assert :ok = Spine.ensure(spine, log)
  end

  test "many_appends_in_flight_keep_their_answers" do
    {_conn, spine} = begin()
    logs = for n <- 0..99, do: log("r#{n}")
    for log <- logs, do: Spine.append_async(spine, log, 0, log, log)

    seqs =
      for log <- logs do
        assert_receive {:spine, ^log, {:stored, seq}}, soon_ms()
        seq
      end

    for {log, seq} <- Enum.zip(logs, seqs) do
      assert Spine.last(spine, log, :direct) == {:ok, %{subject: log, seq: seq, body: log}}
    end
  end
end
