# What one message costs the codec in processor time, in microseconds: `MIX_ENV=prod mix run bench/codec.exs`. The best of
# several rounds: what else the machine does can only add. Schedulers that spin while they wait would be counted, so run it
# with `ERL_FLAGS="+S 1 +sbwt none"`.
alias Brain.Codec
alias Brain.Proto.V1.{Command, Envelope, Event, Said, Say, Sender}

sender = %Sender{
  user: "user-1234",
  conn: "c-0123456789",
  client: :binary.copy(<<1>>, 16),
  rights: 7,
  received_at: 1_760_000_000_001
}

command = %Command{op: {:say, %Say{data: :binary.copy("x", 128), type: "text"}}}

sent = %Envelope{
  room_id: "lobby-12345678",
  timestamp: 1_760_000_000_000,
  message_id: :binary.copy(<<5>>, 16),
  ack_requested: true,
  payload: {:cmd, command},
  sender: sender
}

event = %Event{
  epoch: 1_760_000_000_000,
  seq: 123_456,
  user: "user-1234",
  term: 3,
  at: 1_760_000_000_002,
  prev: 9_876_543,
  cmd: Codec.encode(command),
  body: {:said, %Said{data: :binary.copy("x", 128), type: "text"}}
}

said = %Envelope{sent | ack_requested: false, sender: nil, payload: {:event, event}}
[sent_bytes, said_bytes, sender_bytes, command_bytes] = Enum.map([sent, said, sender, command], &Codec.encode/1)

times = 100_000

measure = fn name, fun ->
  rounds =
    for _ <- 1..9 do
      {before, _} = :erlang.statistics(:runtime)
      Enum.each(1..times, fn _ -> fun.() end)
      {later, _} = :erlang.statistics(:runtime)
      (later - before) * 1000 / times
    end

  IO.puts("#{String.pad_trailing(name, 40)} #{:erlang.float_to_binary(Enum.min(rounds), decimals: 2)} us")
end

measure.("an empty call", fn -> :ok end)
measure.("decode Envelope{cmd, sender}, #{byte_size(sent_bytes)} B", fn -> Codec.decode(Envelope, sent_bytes) end)
measure.("decode Envelope{event}, #{byte_size(said_bytes)} B", fn -> Codec.decode(Envelope, said_bytes) end)
measure.("decode Sender, #{byte_size(sender_bytes)} B", fn -> Codec.decode(Sender, sender_bytes) end)
measure.("decode Command, #{byte_size(command_bytes)} B", fn -> Codec.decode(Command, command_bytes) end)
measure.("encode Envelope{event}", fn -> Codec.encode(said) end)
measure.("encode Envelope{cmd, sender}", fn -> Codec.encode(sent) end)
measure.("Brain.Envelope.forwarded", fn -> Brain.Envelope.forwarded(sent_bytes) end)
