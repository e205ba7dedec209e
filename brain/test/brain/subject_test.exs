defmodule Brain.SubjectTest do
  use ExUnit.Case, async: true
  doctest Brain.Subject

  import Brain.Prop

  alias Brain.{Id, Subject, Vectors}

  for %{"tenant" => tenant, "room" => room} = vector <- Vectors.cases("names.json") do
    @vector vector
    test "vector: #{inspect(String.slice(tenant, 0, 8))} / #{inspect(String.slice(room, 0, 8))} of #{byte_size(room)}" do
      %{"tenant" => tenant, "room" => room, "ok" => ok} = @vector
      assert (Id.valid?(:tenant, tenant) and Id.valid?(:room, room)) == ok

      case @vector do
        %{"place" => place} ->
          key = {tenant, room}
          partition = Subject.partition(tenant, room)
          assert partition == place["partition"]
          assert Integer.to_string(Subject.room_hash(tenant, room)) == place["room_hash"]
          assert Subject.input(key) == place["input"]
          assert Subject.output(key) == place["output"]
          assert Subject.log(key) == place["log"]
          assert Subject.snapshot(key) == place["snapshot"]
          assert Enum.map([1, 3, 8, 256], &Subject.log_stream(Subject.stream_index(partition, &1))) == place["streams"]

          for subject <- ["input", "output", "log", "snapshot"] do
            assert Subject.room(place[subject]) == {:ok, key}
            assert Subject.valid?(place[subject])
          end

          for {count, stream} <- Enum.zip([1, 3, 8, 256], place["streams"]) do
            assert Subject.stream_of(place["log"], count) == stream
          end

        _ ->
          assert_raise ArgumentError, fn -> Subject.input({tenant, room}) end
          assert_raise ArgumentError, fn -> Subject.log({tenant, room}) end
      end
    end
  end

  test "streams part the partitions into equal ranges" do
    for count <- 1..256 do
      indexes = Enum.map(0..255, &Subject.stream_index(&1, count))
      assert indexes == Enum.sort(indexes)
      sizes = indexes |> Enum.frequencies() |> Map.values()
      assert length(sizes) == count and Enum.max(sizes) - Enum.min(sizes) <= 1
      assert Enum.max(indexes) == count - 1
    end

    assert Subject.stream_partitions(0, 8) == Enum.to_list(0..31)
    assert {Subject.stream_index(200, 0), Subject.stream_index(255, 100_000)} == {0, 255}
  end

  test "a subject knows its stream" do
    assert Subject.stream_of(Subject.snapshot({"a", "b"}), 8) == "SNAP"
    assert Subject.stream_of(Subject.generation(3), 8) == Subject.generation_stream(3)
    assert Subject.stream_of(Subject.ban("a", "u"), 8) == Subject.ban_stream()

    for text <- ["in.t.a.r.b", "out.t.a.r.b", "log.256.t.a.r.b", "log.+1.t.a.r.b", "log.7", "gen.", "gen.01", "gen", ""] do
      assert Subject.stream_of(text, 8) == nil, text
    end
  end

  test "rooms are read from four kinds of subject only" do
    for text <- ["in.t.a.r.b", "out.t.a.r.b", "log.7.t.a.r.b", "snap.7.t.a.r.b"] do
      assert Subject.room(text) == {:ok, {"a", "b"}}
    end

    for text <- [
          "in.t.a.r.b.c",
          "in.t.a",
          "in.t..r.b",
          "in.x.a.r.b",
          "in.t.a.x.b",
          "log.t.a.r.b",
          "log.7.8.t.a.r.b",
          "log.256.t.a.r.b",
          "log.x.t.a.r.b",
          "log.07.t.a.r.b",
          "gen.1",
          "open.t.a",
          "sys.t.a.kick",
          "$JS.API.INFO",
          "in",
          "_INBOX.s.n.1"
        ] do
      assert Subject.room(text) == :error, text
    end
  end

  test "answers go to reply slots only" do
    for text <- ["_INBOX.s.shield-1.0", "_INBOX.s.shield-1.4095", "_INBOX.s.x.9", "_INBOX.s.x.Ab3.z9"] do
      assert Subject.shield_inbox?(text), text
    end

    for text <- [
          "log.7.t.a.r.b",
          "_INBOX.s.shield-1",
          "_INBOX.s..1",
          "_INBOX.s.a.b.c.d",
          "_INBOX.s.a.b.$c",
          "_INBOX.s.a.",
          "_INBOX.s.a.b\n",
          "_INBOX.b.n.1",
          "_INBOX.w.n.1",
          "$JS.API.STREAM.PURGE.LOG_0",
          "in.t.a.r.b",
          "_INBOX.sx.a.1",
          "_INBOX.s._a.1"
        ] do
      refute Subject.shield_inbox?(text), text
    end
  end

  test "what NATS would not publish to is no subject" do
    for text <- ["", ".", "a.", ".a", "a..b", "a b", "a\tb", "a\r\nb", "*", ">", "a.*", "a.>", "a\d", <<0xFF>>] do
      refute Subject.valid?(text), inspect(text)
    end

    assert Subject.valid?(String.duplicate("a", 512))
    refute Subject.valid?(String.duplicate("a", 513))
    assert Subject.valid?("$JS.API.STREAM.INFO.LOG_0") and Subject.valid?("a*b.c>d")
  end

  test "wildcards stand for whole tokens and the tail" do
    patterns = [Subject.all_input(), Subject.all_opens(), Subject.all_tenant_signals(), Subject.all_heartbeats()]
    ours = [Subject.to_brain("n"), Subject.inboxes_brain("n"), Subject.bans("a")]

    for text <- ["in.t.*.r.*", ">", "*", "a.b"] ++ patterns ++ ours do
      assert Subject.valid_pattern?(text), text
    end

    for text <- ["a.>.b", ">.a", "a..>", "a.", ""] do
      refute Subject.valid_pattern?(text), text
    end
  end

  test "every subject that we build is one, and names our ids only" do
    for subject <- [
          Subject.open("a"),
          Subject.open_at("n"),
          Subject.heartbeat_shield("n"),
          Subject.heartbeat_brain("n"),
          Subject.presence(255),
          Subject.ban("a", "u"),
          Subject.inbox_brain("n", 7),
          Subject.inbox_writer("n", 7)
        ] do
      assert Subject.valid?(subject), subject
    end

    assert_raise ArgumentError, fn -> Subject.open_at("a.b") end
    assert_raise ArgumentError, fn -> Subject.ban("a", "*") end
  end

  test "any bytes are judged" do
    check(
      :proper_types.binary(),
      fn bytes ->
        text = "in.t." <> bytes
        assert is_boolean(Subject.valid?(bytes)) and is_boolean(Subject.shield_inbox?("_INBOX.s." <> bytes))
        assert Subject.stream_of(bytes, 8) in [nil, "SNAP", "BAN"]
        assert Subject.room(text) == :error or Subject.valid?(text)
      end,
      runs: 500
    )
  end
end
