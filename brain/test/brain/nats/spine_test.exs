defmodule Brain.Nats.SpineTest do
  # JetStream's answers, good and bad, from a broker made of a bare socket: what each means, as
  # `spine/src/jetstream` has it.
  use ExUnit.Case, async: true

  import Brain.FakeBroker
  import Brain.NatsWorld, only: [up: 1]

  alias Brain.{FakeBroker, Spine}
  alias Brain.Spine.{Append, Read, Refusal, Streams, StreamSpec}

  @moduletag capture_log: true
  @log "log.214.t.acme.r.lobby"

  defp begin do
    broker = FakeBroker.start()
    conn = connect(broker)
    {socket, _lines} = serve(broker)
    up(conn)
    {socket, Spine.new(conn, timeout_ms: 5_000)}
  end

  # The next question: its subject, its body with the header block before it, and where the answer goes.
  defp asked(socket) do
    {subject, reply, size} =
      case String.split(line(socket)) do
        ["PUB", subject, reply, size] -> {subject, reply, size}
        ["HPUB", subject, reply, _head, size] -> {subject, reply, size}
      end

    :ok = :inet.setopts(socket, packet: :raw)
    size = String.to_integer(size)
    {:ok, <<body::binary-size(size), "\r\n">>} = :gen_tcp.recv(socket, size + 2, 10_000)
    {subject, body, reply}
  end

  defp answer(socket, reply, body), do: say(socket, ["MSG #{reply} 1 #{byte_size(body)}\r\n", body, "\r\n"])

  defp answer(socket, reply, block, body) do
    say(socket, ["HMSG #{reply} 1 #{byte_size(block)} #{byte_size(block <> body)}\r\n", block, body, "\r\n"])
  end

  # What a call says to one answer.
  defp told(call, body, headers \\ nil) do
    {socket, spine} = begin()
    task = Task.async(fn -> call.(spine) end)
    {_subject, _body, reply} = asked(socket)
    if headers, do: answer(socket, reply, headers, body), else: answer(socket, reply, body)
    Task.await(task)
  end

  defp append(spine), do: Spine.attempt(spine, @log, 7, "entry")

  test "a position that no entry could name is no answer" do
    for seq <- ["0", "-1", "18446744073709551616", "8.0", "null"] do
      assert {:error, {:unresolved, :timeout}} = told(&append/1, ~s({"stream":"LOG_0","seq":#{seq}}))
    end

    assert {:ok, 0xFFFF_FFFF_FFFF_FFFF} = told(&append/1, ~s({"stream":"LOG_0","seq":18446744073709551615}))
  end

  test "an append carries the fence, and no other header" do
    {socket, spine} = begin()
    Spine.append_async(spine, @log, 7, "entry", :mine)
    assert {@log, "NATS/1.0\r\nNats-Expected-Last-Subject-Sequence: 7\r\n\r\nentry", reply} = asked(socket)
    answer(socket, reply, ~s({"stream":"LOG_0","seq":8,"domain":"hub"}))
    assert_receive {:spine, :mine, {:stored, 8}}, 10_000
  end

  test "every answer to an append has its meaning" do
    error = fn more -> ~s({"error":{#{more}"description":"why"},"stream":"LOG_0","seq":0}) end

    for {body, meaning} <- [
          # The error is looked at first: such an answer has a position as well.
          {error.(~s("code":400,"err_code":10071,)), {:error, {:unresolved, :wrong_last}}},
          {error.(~s("code":503,"err_code":10164,)), {:error, {:unresolved, :undecided}}},
          {error.(~s("code":503,"err_code":10023,)), {:error, {:refused, :unavailable, 10_023, "why"}}},
          # It does not say that it sends these only in place of storing the message.
          {error.(~s("code":503,"err_code":10077,)), {:error, {:unresolved, {:failed, 10_077}}}},
          {error.(~s("code":500,)), {:error, {:unresolved, {:failed, 500}}}},
          {error.(""), {:error, {:unresolved, {:failed, 0}}}},
          # What cannot be read may have been stored.
          {~s({"stream":"LOG_0","seq":0}), {:error, {:unresolved, :timeout}}},
          {~s({"stream":"LOG_0"}), {:error, {:unresolved, :timeout}}},
          {~s({"stream":"OTHER","seq":3}), {:error, {:unresolved, :timeout}}},
          {~s({"error":7}), {:error, {:unresolved, :timeout}}},
          {"[]", {:error, {:unresolved, :timeout}}},
          {"{", {:error, {:unresolved, :timeout}}},
          {"", {:error, {:unresolved, :timeout}}}
        ] do
      assert {body, told(&append/1, body)} == {body, meaning}
    end

    assert told(&append/1, "", "NATS/1.0 408 Timeout\r\n\r\n") == {:error, {:unresolved, :timeout}}
    assert {:error, {:refused, :unavailable, 503, _text}} = told(&append/1, "", "NATS/1.0 503\r\n\r\n")
    assert {:error, {:refused, :unavailable, 429, _text}} = told(&append/1, "", "NATS/1.0 429 Too Many\r\n\r\n")
  end

  test "every refusal keeps its meaning" do
    for {code, text, meaning} <- [
          {10_077, "maximum bytes exceeded", :full},
          {10_077, "maximum messages exceeded", :full},
          {10_077, "maximum messages per subject exceeded", :full},
          {10_002, "resource limits exceeded for account", :full},
          {503, "", :unavailable},
          {429, "", :unavailable},
          {10_008, "JetStream system temporarily unavailable", :unavailable},
          {10_009, "JetStream cluster can not handle request", :unavailable},
          {10_023, "insufficient resources", :unavailable},
          {10_109, "invalid operation on sealed stream", :unavailable},
          {10_167, "too many requests", :unavailable},
          {10_077, "message too large", :too_big},
          {10_054, "message size exceeds maximum allowed", :too_big},
          {10_097, "header size exceeds maximum allowed of 64k", :too_big}
        ] do
      assert Refusal.of_append(code, text) == {:refused, meaning, code, text}
    end

    assert Refusal.of_append(10_077, "store is closed") == {:unresolved, {:failed, 10_077}}
    for code <- [503, 10_008, 10_118], do: assert(Refusal.of_read(code, "x") == {:unavailable, code, "x"})
    assert Refusal.of_read(10_059, "x") == :no_stream
    spec = StreamSpec.log(3, 8, 3, 10_737_418_240)

    for code <- [10_047, 10_028, 10_023, 10_005, 10_002, 10_122] do
      no_room = Refusal.of_ensure(spec, code, "insufficient storage")
      assert no_room == {:no_room, "LOG_3", {10_737_418_240, :file, 3}, code, "insufficient storage"}
      assert Spine.explain(no_room) =~ "reserves 10.0 GiB of disk on each of 3 server(s)"
    end
  end

  test "the core is told one of six outcomes" do
    assert Append.outcome({:ok, 3}, @log) == {:stored, 3}
    assert Append.outcome({:error, {:unresolved, :wrong_last}}, @log) == :wrong_last

    for why <- [:timeout, :disconnected, :undecided, {:failed, 1}] do
      assert Append.outcome({:error, {:unresolved, why}}, @log) == :unresolved
      assert Spine.explain({:unresolved, why}) =~ "unknown"
    end

    for {why, meaning} <- [full: :full, too_big: :too_big, unavailable: :unavailable, no_stream: :unavailable] do
      refused = {:error, {:refused, why, 1, "x"}}
      text = ExUnit.CaptureLog.capture_log(fn -> assert Append.outcome(refused, @log) == meaning end)
      assert text =~ "refused, #{why} (err_code 1): x"
    end

    for error <- [:timeout, :no_stream, :closed, {:refused, 3, "x"}, {:unavailable, 3, "x"}] do
      assert is_binary(Spine.explain(error))
    end
  end

  test "what is no answer to a read is refused" do
    last = &Spine.last(&1, @log, :leader)

    for body <- [
          "{}",
          "[]",
          "{",
          ~s({"message":{"seq":1}}),
          ~s({"message":{"subject":"a","seq":"1"}}),
          ~s({"message":{"subject":"a","seq":1,"data":"not base64!"}}),
          ~s({"message":{"subject":"a","seq":1,"data":7}}),
          ~s({"message":{"subject":"a b","seq":1}})
        ] do
      assert {^body, {:error, {:refused, 0, _text}}} = {body, told(last, body)}
    end

    assert told(last, ~s({"error":{"code":404,"err_code":10037,"description":"no"}})) == {:ok, nil}

    assert told(last, ~s({"error":{"code":404,"err_code":10059,"description":"no"}})) == {:error, :no_stream}

    assert told(last, "", "NATS/1.0 408 Bad\r\n\r\n") == {:error, {:refused, 408, "Bad"}}
    assert told(last, ~s({"message":{"subject":"a","seq":1}})) == {:ok, %{subject: "a", seq: 1, body: ""}}
    direct = &Spine.last(&1, @log, :direct)
    assert {:error, {:refused, 0, _text}} = told(direct, "x", "NATS/1.0\r\nNats-Sequence: 1\r\n\r\n")
    assert told(direct, "", "NATS/1.0 500\r\n\r\n") == {:error, {:refused, 500, "no reason given"}}
  end

  test "what the leader has sent by the deadline is given" do
    broker = FakeBroker.start()
    conn = connect(broker)
    {socket, _lines} = serve(broker)
    up(conn)
    Spine.read_async(Spine.new(conn, timeout_ms: 500), @log, 1, 10, :leader, :read)

    for seq <- [3, 7] do
      {"$JS.API.STREAM.MSG.GET.LOG_0", _request, reply} = asked(socket)
      answer(socket, reply, ~s({"message":{"subject":"#{@log}","seq":#{seq}}}))
    end

    {"$JS.API.STREAM.MSG.GET.LOG_0", request, _reply} = asked(socket)
    assert :jiffy.decode(request, [:return_maps])["seq"] == 8
    assert_receive {:spine, :read, {:ok, %{entries: [%{seq: 3}, %{seq: 7}], more: true}}}, 10_000
  end

  test "a batch must ascend and must end" do
    entry = fn seq -> "NATS/1.0\r\nNats-Subject: #{@log}\r\nNats-Sequence: #{seq}\r\n\r\n" end

    for {blocks, meaning} <- [
          {[entry.(1), entry.(3), "NATS/1.0 204 EOB\r\nNats-Num-Pending: 2\r\n\r\n"], {:ok, [1, 3], true}},
          {[entry.(1), "NATS/1.0 204 EOB\r\n\r\n"], {:ok, [1], false}},
          {["NATS/1.0 404 No\r\n\r\n"], {:ok, [], false}},
          {[entry.(3), entry.(3)], :refused},
          {[entry.(3), "NATS/1.0 413 Too Many\r\n\r\n"], :refused}
        ] do
      {socket, spine} = begin()
      Spine.read_async(spine, @log, 0, 10, :direct, :read)
      {"$JS.API.DIRECT.GET.LOG_0", request, reply} = asked(socket)
      # Positions begin with 1.
      assert %{"seq" => 1, "next_by_subj" => @log, "batch" => 10} = :jiffy.decode(request, [:return_maps])
      for block <- blocks, do: answer(socket, reply, block, "")
      assert_receive {:spine, :read, result}, 10_000

      case result do
        {:ok, %{entries: entries, more: more}} -> assert {:ok, Enum.map(entries, & &1.seq), more} == meaning
        {:error, {:refused, _code, _text}} -> assert meaning == :refused
      end
    end
  end

  test "a purge names its position" do
    {socket, spine} = begin()
    assert Spine.purge_below(spine, @log, 1) == :ok
    Spine.purge_below_async(spine, @log, 9, :purged)
    {"$JS.API.STREAM.PURGE.LOG_0", request, reply} = asked(socket)
    assert :jiffy.decode(request, [:return_maps]) == %{"filter" => @log, "seq" => 9}
    answer(socket, reply, ~s({"success":true,"purged":3}))
    assert_receive {:spine, :purged, :ok}, 10_000
    assert {:error, {:refused, 0, _text}} = told(&Spine.purge_below(&1, @log, 9), "{}")
  end

  test "a stream that somebody else makes meanwhile is verified" do
    {socket, spine} = begin()
    spec = StreamSpec.bans(1)
    Spine.ensure_async(spine, spec, :ensured)
    {"$JS.API.STREAM.INFO.BAN", _body, reply} = asked(socket)
    answer(socket, reply, ~s({"error":{"code":404,"err_code":10059,"description":"none"}}))
    {"$JS.API.STREAM.CREATE.BAN", request, reply} = asked(socket)
    assert :jiffy.decode(request, [:return_maps]) == StreamSpec.config(spec)
    answer(socket, reply, ~s({"error":{"code":400,"err_code":10058,"description":"in use"}}))
    {"$JS.API.STREAM.INFO.BAN", _body, reply} = asked(socket)
    found = %{StreamSpec.config(spec) | "num_replicas" => 3}
    answer(socket, reply, IO.iodata_to_binary(:jiffy.encode(%{"config" => found})))
    assert_receive {:spine, :ensured, {:error, {:differs, "BAN", "num_replicas", 3, 1}}}, 10_000
  end

  test "the first difference is named; order of subjects and unknown properties are none" do
    expected = StreamSpec.config(StreamSpec.log(0, 8, 1, 1_073_741_824))
    found = expected |> Map.update!("subjects", &Enum.reverse/1) |> Map.put("new_in_a_later_version", true)
    found = put_in(found["republish"]["headers_only"], false)
    assert Streams.verify(found, expected) == :ok

    assert {:error, {:differs, "LOG_0", "storage", nil, "file"}} =
             Streams.verify(Map.delete(found, "storage"), expected)

    assert {:error, {:refused, 0, _text}} = Streams.verify(nil, expected)
  end

  test "specifications: what the other side creates" do
    assert StreamSpec.config(StreamSpec.log(1, 8, 3, 0)) == %{
             "name" => "LOG_1",
             "subjects" => Enum.map(32..63, &"log.#{&1}.t.*.r.*"),
             "retention" => "limits",
             "storage" => "file",
             "discard" => "new",
             "discard_new_per_subject" => false,
             "num_replicas" => 3,
             "max_age" => 0,
             "max_msgs" => -1,
             "max_msgs_per_subject" => -1,
             "max_bytes" => -1,
             "deny_delete" => true,
             "allow_direct" => true,
             "sealed" => false,
             "republish" => %{"src" => "log.*.t.*.r.*", "dest" => "out.t.{{wildcard(2)}}.r.{{wildcard(3)}}"}
           }

    names = for spec <- StreamSpec.all(2, 1, 0), do: spec.name
    assert names == ["LOG_0", "GEN_0", "LOG_1", "GEN_1", "SNAP", "BAN"]
    assert %{"storage" => "memory", "max_msgs_per_subject" => 1} = StreamSpec.config(StreamSpec.generation(0, 1))
    # Rollover decides which message goes.
    refute StreamSpec.config(StreamSpec.snapshots(1))["discard_new_per_subject"]
    assert StreamSpec.config(%{StreamSpec.snapshots(1) | rollover: false})["discard_new_per_subject"]
  end

  test "a pattern names its stream or none" do
    for {pattern, logs, stream} <- [
          {"ban.t.acme.u.*", 8, "BAN"},
          {"snap.>", 8, "SNAP"},
          {"gen.3", 8, "GEN_3"},
          {"log.255.>", 8, "LOG_7"},
          {"log.*.t.acme.r.*", 1, "LOG_0"},
          {"log.*.t.acme.r.*", 8, nil},
          {"gen.*", 8, nil},
          {"in.t.*.r.*", 1, nil},
          {">", 1, nil}
        ] do
      assert {pattern, Read.stream_of_pattern(pattern, logs)} == {pattern, stream}
    end
  end

  test "the other calls have their second form" do
    {socket, spine} = begin()
    Spine.last_async(spine, @log, :direct, :last)
    {"$JS.API.DIRECT.GET.LOG_0." <> @log, "", reply} = asked(socket)
    answer(socket, reply, "NATS/1.0 404 No\r\n\r\n", "")
    assert_receive {:spine, :last, {:ok, nil}}, 10_000
    Spine.last_of_async(spine, "ban.>", :heads)
    {"$JS.API.DIRECT.GET.BAN", ~s({"multi_last":["ban.>"]}), reply} = asked(socket)
    answer(socket, reply, "NATS/1.0 404 No\r\n\r\n", "")
    assert_receive {:spine, :heads, {:ok, %{entries: [], more: false}}}, 10_000
  end

  test "a call that crashes still ends" do
    text =
      ExUnit.CaptureLog.capture_log(fn ->
        Spine.Call.start(:crashed, :unresolved, fn -> raise "for the test" end)
        assert_receive {:spine, :crashed, :unresolved}, 10_000
      end)

    assert text =~ "RuntimeError"
    refute text =~ "for the test"
  end
end
