defmodule Brain.Nats.ParserTest do
  use ExUnit.Case, async: true

  import Brain.Prop

  alias Brain.Nats.{Backoff, Encoder, Frames, Headers, Info, Options, Parser}

  doctest Parser
  doctest Headers
  doctest Frames
  doctest Options
  doctest Backoff

  @stream "INFO {\"a\":1}\r\nPING\r\n+OK\r\nMSG in.t.a.r.b 7 5\r\nhello\r\nMSG a 1 b.c 0\r\n\r\n-ERR 'No'\r\n" <>
            "HMSG a 12 12 14\r\nNATS/1.0\r\n\r\nhi\r\nHMSG a 3 r.s 4 4\r\nhead\r\nMSG  a  4  2 \r\n\r\n\r\nPONG\r\n"

  @frames [
    {:info, "{\"a\":1}"},
    :ping,
    :ok,
    {:msg, 7, "in.t.a.r.b", nil, 0, "hello"},
    {:msg, 1, "a", "b.c", 0, ""},
    {:err, "'No'"},
    {:msg, 12, "a", nil, 12, "NATS/1.0\r\n\r\nhi"},
    {:msg, 3, "a", "r.s", 4, "head"},
    {:msg, 4, "a", nil, 0, "\r\n"},
    :pong
  ]

  # All frames of bytes that come in these pieces; what went wrong stands last.
  defp feed(pieces, parser \\ Parser.new()) do
    Enum.reduce_while(pieces, {[], parser}, fn piece, {frames, parser} ->
      case Parser.feed(parser, piece) do
        {:ok, more, parser} -> {:cont, {frames ++ more, parser}}
        {:error, reason, more} -> {:halt, {frames ++ more, reason}}
      end
    end)
  end

  defp pieces(bytes, cuts) do
    ends = cuts |> Enum.map(&rem(abs(&1), byte_size(bytes) + 1)) |> Enum.sort() |> Kernel.++([byte_size(bytes)])
    {pieces, _at} = Enum.map_reduce(ends, 0, fn to, from -> {binary_part(bytes, from, to - from), to} end)
    pieces
  end

  test "a stream in one piece, cut at every byte, and byte for byte" do
    assert {@frames, parser} = feed([@stream])
    assert Parser.idle?(parser)
    for at <- 0..byte_size(@stream), do: assert({@frames, ^parser} = feed(pieces(@stream, [at])))
    assert {@frames, ^parser} = feed(for <<byte <- @stream>>, do: <<byte>>)
  end

  test "however a stream is cut, its frames are the same" do
    check({body(), cuts()}, fn {body, cuts} ->
      stream = IO.iodata_to_binary([@stream, "MSG x 5 #{byte_size(body)}\r\n", body, "\r\n", @stream])
      expected = @frames ++ [{:msg, 5, "x", nil, 0, body}] ++ @frames
      assert {^expected, parser} = feed(pieces(stream, cuts))
      assert Parser.idle?(parser)
    end)
  end

  test "no bytes crash it, and how they are cut changes nothing" do
    check(
      {garbage(), cuts()},
      fn {bytes, cuts} ->
        {frames, left} = feed([bytes])
        {cut_frames, cut_left} = feed(pieces(bytes, cuts))
        # An unfinished line is looked at when it ends: so an error may be seen later, but not another.
        assert cut_frames == frames
        if is_atom(cut_left), do: assert(is_atom(left))
      end,
      runs: 2_000
    )
  end

  test "what is damaged in one place is refused or read otherwise, never a crash" do
    check(
      {:proper_types.non_neg_integer(), :proper_types.byte(), cuts()},
      fn {at, byte, cuts} ->
        at = rem(at, byte_size(@stream))
        <<head::binary-size(at), _byte, tail::binary>> = @stream
        damaged = <<head::binary, byte, tail::binary>>
        assert elem(feed([damaged]), 0) == elem(feed(pieces(damaged, cuts)), 0)
      end,
      runs: 2_000
    )
  end

  test "lines and frames are bounded" do
    assert {[:ping], :line_too_long} = feed(["PING\r\nINFO " <> String.duplicate("x", 70_000)])
    assert {[], :line_too_long} = feed(List.duplicate("INFO " <> String.duplicate("x", 7_000), 10))
    assert {[], :line_too_long} = feed(List.duplicate("MSG " <> String.duplicate("x", 7_000), 10))
    assert {[], :line_too_long} = feed([String.duplicate("P", 65_535), "xx\r\n"])
    assert {[], :frame_too_big} = feed(["MSG a 1 9437185\r\n"])
    assert {[], {:payload, _line, [], 9_437_186}} = feed(["MSG a 1 9437184\r\n"])
    assert {[], :bad_line} = feed(["MSG a 1 1000000000000000\r\n"])
    assert {[{:info, info}], _parser} = feed(["INFO " <> String.duplicate("x", 60_000), "\r\n"])
    assert byte_size(info) == 60_000
  end

  test "a payload is not searched again for each of its pieces" do
    # 8 MiB in pieces of 64 bytes: with work that grows with the square this would take hours.
    piece = String.duplicate("x", 64)
    n = div(8 * 1_048_576, 64)
    {:ok, [], parser} = Parser.feed(Parser.new(), "MSG a 1 #{n * 64}\r\n")

    parser =
      Enum.reduce(1..n, parser, fn _, parser ->
        {:ok, [], parser} = Parser.feed(parser, piece)
        parser
      end)

    assert {:ok, [{:msg, 1, "a", nil, 0, body}], _parser} = Parser.feed(parser, "\r\n")
    assert byte_size(body) == n * 64
  end

  test "headers: whatever bytes, a result" do
    check(
      {:proper_types.oneof([:proper_types.binary(), garbage()])},
      fn {bytes} ->
        assert elem(Headers.parse(bytes), 0) in [:ok, :error]
        assert elem(Headers.parse("NATS/1.0" <> bytes), 0) in [:ok, :error]
        assert elem(Info.parse(bytes), 0) in [:ok, :error]
        assert Frames.violation(bytes) == nil or is_tuple(Frames.violation(bytes))
      end,
      runs: 1_000
    )
  end

  test "headers go through: what is encoded is read" do
    text = :proper_types.list(:proper_types.integer(?!, ?~))

    check(:proper_types.list({text, text}), fn pairs ->
      headers = for {key, value} <- pairs, do: {List.to_string(key), List.to_string(value)}
      headers = Enum.filter(headers, &Headers.valid?([&1]))
      block = IO.iodata_to_binary(Headers.encode(headers))
      assert Headers.parse(block) == {:ok, nil, headers}
      if headers != [], do: assert(Headers.size(headers) == byte_size(block))
    end)

    refute Headers.valid?([{"a", "b\r\nNats-Msg-Id: 1"}])
    refute Headers.valid?([{"a: b\r\nc", "d"}])
  end

  test "frames go through: what is encoded is read" do
    assert IO.iodata_to_binary(Encoder.pub("a.b", nil, ["x", "yz"])) == "PUB a.b 3\r\nxyz\r\n"
    assert IO.iodata_to_binary(Encoder.pub("a.b", "c", "")) == "PUB a.b c 0\r\n\r\n"
    assert IO.iodata_to_binary(Encoder.hpub("a", "c", [], "x")) == "PUB a c 1\r\nx\r\n"

    assert IO.iodata_to_binary(Encoder.hpub("a", nil, [{"K", "v"}], "x")) ==
             "HPUB a 18 19\r\nNATS/1.0\r\nK: v\r\n\r\nx\r\n"

    assert IO.iodata_to_binary(Encoder.sub("a.*", "q", 3)) == "SUB a.* q 3\r\n"
    assert IO.iodata_to_binary(Encoder.unsub(3)) == "UNSUB 3\r\n"
  end

  test "subjects: the same rule as everywhere else" do
    tokens = :proper_types.oneof(["a", "room", "*", ">", "", ".", "a*", ">b", " ", "\r\n", "é", <<255>>, "\t", <<127>>])

    check(
      :proper_types.list(tokens),
      fn tokens ->
        for text <- [Enum.join(tokens, "."), Enum.join(tokens)] do
          assert Encoder.subject?(text) == Brain.Subject.valid?(text), inspect(text)
          assert Encoder.subject?(text, true) == Brain.Subject.valid_pattern?(text), inspect(text)
        end
      end,
      runs: 2_000
    )

    refute Encoder.subject?(String.duplicate("a", 513))
    refute Encoder.subject?(nil)
  end

  test "options say what is wrong" do
    good = [name: :n, urls: ["nats://localhost:4222"]]
    assert {:ok, %Options{label: "n"}} = Options.new(good)

    for {change, words} <- [
          {[urls: []], "nats://host:port"},
          {[urls: ["http://localhost"]], "nats://host:port"},
          {[urls: ["nats://h:0"]], "nats://host:port"},
          {[urls: ["nats://h/p"]], "nats://host:port"},
          {[urls: ["nats://u:p@h"]], "nats://host:port"},
          {[name: nil], "name"},
          {[ping: 1], "no option :ping"},
          {[ping_interval_ms: 0], "ping_interval_ms"},
          {[inbox_prefix: "a b"], "inbox_prefix"},
          {[user: "u"], "password"}
        ] do
      assert {:error, text} = Options.new(Keyword.merge(good, change))
      assert text =~ words
    end
  end

  test "the pause between two attempts grows to its bound" do
    for attempt <- 1..100, part <- [0.0, 0.3, 1.0] do
      assert Backoff.delay_ms(attempt, 1_000, part) in 10..1_000
    end

    assert Backoff.delay_ms(20, 1_000, 0.0) == 500
  end

  # === What the properties draw from

  defp body, do: :proper_types.oneof([:proper_types.binary(), "\r\n", "MSG a 1 5\r\n", String.duplicate("x", 3_000)])
  defp cuts, do: :proper_types.list(:proper_types.non_neg_integer())

  # Pieces of the protocol in any order, and bytes of any kind.
  defp garbage do
    piece =
      :proper_types.oneof(
        [
          "MSG ",
          "HMSG ",
          "INFO ",
          "-ERR ",
          "PING\r\n",
          "PONG",
          "+OK\r\n",
          "\r\n",
          "\r",
          "\n",
          " ",
          "a.b ",
          "7 ",
          "2",
          "0"
        ] ++
          [:proper_types.binary()]
      )

    fun = fn pieces -> IO.iodata_to_binary(pieces) end
    :proper_types.bind(:proper_types.list(piece), fun, false)
  end
end
