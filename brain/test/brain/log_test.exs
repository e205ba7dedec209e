defmodule Brain.LogTest do
  use ExUnit.Case, async: true

  alias Brain.{Codec, Log, Metrics, Trace}
  alias Brain.Log.{Handler, Json, Peek, Sink}
  alias Brain.Proto.V1

  defp log(format, level \\ :info), do: %Log{node: "brain-1", level: level, format: format, sink: nil}

  defp envelope(body) do
    Codec.encode(%V1.Envelope{
      trace_id: "00-#{String.duplicate("a", 32)}-#{String.duplicate("b", 16)}-01",
      tenant_id: "acme",
      room_id: "lobby",
      timestamp: 5,
      message_id: <<1::128>>,
      payload: {:event, %V1.Event{epoch: 9, seq: 7, user: "ann", cmd: "secret", body: body}}
    })
  end

  test "a command's line names its trace, room, user, operation and place, and no content" do
    said = {:said, %V1.Said{data: "secret", type: "text"}}
    note = {:committed, 9, 7, <<1::128>>, "ann", envelope(said)}
    line = hd(Log.applied(log(:json), 1_795_384_800_123, "acme/lobby", [note]))
    assert String.ends_with?(line, "}\n")
    refute line =~ "secret"

    assert :jiffy.decode(line, [:return_maps]) == %{
             "ts" => "2026-11-22T22:00:00.123Z",
             "level" => "info",
             "msg" => "command applied",
             "node" => "brain-1",
             "room" => "acme/lobby",
             "user" => "ann",
             "op" => "say",
             "epoch" => 9,
             "seq" => 7,
             "message_id" => String.duplicate("0", 31) <> "1",
             "trace_id" => "00-#{String.duplicate("a", 32)}-#{String.duplicate("b", 16)}-01"
           }

    text = hd(Log.applied(log(:text), 1_795_384_800_123, "acme/lobby", [note]))
    assert text =~ ~r/^2026-11-22T22:00:00.123Z  INFO command applied node=brain-1 room=acme\/lobby user=ann op=say /
  end

  test "the operation is found for every body, and bytes that are none give nothing" do
    for {body, op} <- [
          {{:key_set, %V1.KeySet{}}, "set"},
          {{:key_deleted, %V1.KeyDeleted{}}, "delete"},
          {{:locked, %V1.Locked{}}, "lock"},
          {{:unlocked, %V1.Unlocked{}}, "unlock"}
        ] do
      assert {^op, "00-" <> _} = Peek.event(envelope(body))
    end

    assert Peek.event("") == {nil, ""}
    bytes = envelope({:said, %V1.Said{}})
    for size <- 0..byte_size(bytes), do: Peek.event(binary_part(bytes, 0, size))
    for _ <- 1..1000, do: Peek.event(:crypto.strong_rand_bytes(:rand.uniform(40)))
    assert Peek.event(:binary.copy(<<255>>, 64)) == {nil, ""}
  end

  test "levels" do
    assert Log.on?(log(:json, :info), :info)
    refute Log.on?(log(:json, :warn), :info)
    refute Log.on?(log(:json, :off), :error)
    refute Log.on?(nil, :error)
  end

  test "JSON is ASCII on one line, and what a reader gets back is what was written" do
    for text <- ["", "plain", "a\"b\\c\n\t\0", "é€𝄞", <<255, "x">>] do
      json = IO.iodata_to_binary(Json.object(text: text, n: 1, yes: true, none: nil))
      assert json =~ ~r/^[\x20-\x7e]*$/
      read = :jiffy.decode(json, [:return_maps])
      if String.valid?(text), do: assert(read["text"] == text), else: assert(read["text"] == "\uFFFDx")
      assert %{"n" => 1, "yes" => true} = read
      refute is_map_key(read, "none")
    end
  end

  test "a report of OTP is one bounded line" do
    event = %{level: :error, meta: %{time: 1_795_384_800_123_000, room: "acme/lobby"}, msg: {:string, "a\nb"}}
    line = IO.iodata_to_binary(Handler.line(log(:json), event))
    assert %{"level" => "error", "room" => "acme/lobby"} = :jiffy.decode(line, [:return_maps])
    bare = IO.iodata_to_binary(Handler.line(log(:json), %{event | meta: %{time: 0}}))
    assert bare == ~s({"ts":"1970-01-01T00:00:00.000Z","level":"error","msg":"a, b"}\n)
    long = %{event | msg: {:string, String.duplicate("x", 100_000)}}
    assert IO.iodata_length(Handler.line(log(:text), long)) < 3000
  end

  test "the sink writes whole lines in order, and drops and says so beyond its bound" do
    {:ok, device} = StringIO.open("")
    handle = Sink.handle(:"sink_#{System.unique_integer([:positive])}")
    {:ok, pid} = Sink.start_link(handle, device: device)
    assert Sink.write(handle, ["one\n", "two\n"]) == 0
    assert Sink.write(handle, ["three\n"]) == 0
    :sys.suspend(pid)
    big = :binary.copy("x", 3 * 1024 * 1024)
    assert Sink.write(handle, [big, "\n"]) == 0
    {:message_queue_len, waiting} = Process.info(pid, :message_queue_len)
    assert Sink.write(handle, [big, "\n"]) == 2
    # What is dropped takes no place in its mailbox.
    assert Process.info(pid, :message_queue_len) == {:message_queue_len, waiting}
    :sys.resume(pid)
    GenServer.stop(pid)
    {_, written} = StringIO.contents(device)
    assert String.starts_with?(written, "one\ntwo\nthree\n")
    assert String.ends_with?(written, "\nWARN 2 log lines dropped: standard error is read too slowly\n")
  end

  test "a line that is lost is counted, wherever it is lost" do
    metrics = Metrics.new()
    name = :"sink_#{System.unique_integer([:positive])}"
    handle = Sink.handle(name, metrics)
    count = fn -> Metrics.get(metrics, :log_dropped) end

    # No sink yet.
    assert Sink.write(handle, ["one\n"]) == 1
    assert count.() == 1

    # More than may wait.
    {:ok, device} = StringIO.open("")
    {:ok, pid} = Sink.start_link(handle, device: device)
    :sys.suspend(pid)
    big = :binary.copy("x", 3 * 1024 * 1024)
    assert Sink.write(handle, ["two\n", big]) == 0
    assert Sink.write(handle, ["three\n", big]) == 2
    assert count.() == 3

    # A sink that dies with lines in its mailbox.
    Process.unlink(pid)
    monitor = Process.monitor(pid)
    Process.exit(pid, :kill)
    assert_receive {:DOWN, ^monitor, :process, _, :killed}, 60_000
    {:ok, device} = StringIO.open("")
    {:ok, pid} = Sink.start_link(handle, device: device)
    assert count.() == 5

    # A device that takes no more.
    StringIO.close(device)
    assert Sink.write(handle, ["four\n"]) == 0
    GenServer.stop(pid)
    assert count.() == 6

    # What the VM's own reports lose is counted, too.
    log = %{log(:text) | sink: handle}
    :ok = Handler.log(%{level: :error, meta: %{time: 0}, msg: {:string, "five"}}, %{config: log})
    assert count.() == 7
  end

  test "trace records have the keys of docs/trace.md" do
    h = Trace.hash16("bytes")
    assert h =~ ~r/^[0-9a-f]{16}$/

    for {note, expected} <- [
          {{:owned, 5, 2, 9}, %{"k" => "owned", "room" => "a/b", "epoch" => 5, "term" => 2}},
          {{:fenced, 3}, %{"k" => "fenced", "room" => "a/b", "term" => 3}},
          {{:answered, "ann", <<255::128>>, 1001, false},
           %{"k" => "answer", "m" => String.duplicate("0", 30) <> "ff", "code" => 1001}},
          {{:committed, 5, 1, nil, "", "bytes"},
           %{"k" => "commit", "room" => "a/b", "epoch" => 5, "seq" => 1, "m" => "", "user" => "", "h" => h}}
        ] do
      line = IO.iodata_to_binary(Trace.line(4, 77, "brain-1", Trace.record(note, "a/b")))
      read = :jiffy.decode(line, [:return_maps])
      assert read == Map.merge(expected, %{"v" => 1, "n" => 4, "t" => 77, "host" => "brain-1"})
      assert String.starts_with?(line, ~s({"v":1,"n":4,"t":77,"host":"brain-1","k":"))
    end

    assert Trace.record(:unresolved, "a/b") == nil
    assert Trace.record({:void, 3}, "a/b") == nil
  end

  test "the trace file gets every record in order, numbered" do
    path = Path.join(System.tmp_dir!(), "brain-trace-#{System.unique_integer([:positive])}.jsonl")
    on_exit(fn -> File.rm(path) end)

    {:ok, trace} =
      Trace.start_link(%{name: :"trace_#{System.unique_integer([:positive])}", path: path, host: "brain-1"})

    for n <- 1..10, do: Trace.write(trace, [{:owned, room: "a/b", epoch: n, term: n}, {:fenced, room: "a/b", term: n}])
    assert Trace.write(nil, [{:fenced, []}]) == :ok
    GenServer.stop(trace)
    lines = path |> File.read!() |> String.split("\n", trim: true) |> Enum.map(&:jiffy.decode(&1, [:return_maps]))
    assert Enum.map(lines, & &1["n"]) == Enum.to_list(0..19)
    assert Enum.map(lines, & &1["t"]) == Enum.sort(Enum.map(lines, & &1["t"]))
  end
end
