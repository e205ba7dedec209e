defmodule Brain.Nats.Parser do
  @moduledoc """
  Bytes from a NATS server into frames, as they come: pure, incremental, bounded.

      iex> parser = Brain.Nats.Parser.new()
      iex> {:ok, [:pong], parser} = Brain.Nats.Parser.feed(parser, "PONG\\r\\nMSG a.b 7 5\\r\\nhe")
      iex> {:ok, frames, _parser} = Brain.Nats.Parser.feed(parser, "llo\\r\\n")
      iex> frames
      [{:msg, 7, "a.b", nil, 0, "hello"}]

  A line that lies whole in one packet is walked once. One that does not is set aside, and only what is new is searched
  for its end; a payload is collected and joined once. So the work is linear in the bytes however they are cut.

  Frames hold parts of the packets they came in: who keeps one for long copies it (`:binary.copy/1`).
  """

  # nats-server's own limit for a control line is 4 KiB; an INFO may name many servers of a cluster.
  @line_max 65_536
  # nats-server advises against a max_payload over 8 MiB; headers of JetStream come on top.
  @frame_max 9 * 1_048_576

  # More digits than any size or subscription id that is allowed.
  @digits_max 15

  @typedoc "`{:msg, sid, subject, reply, header_size, header and payload}`"
  @type frame ::
          {:msg, pos_integer, binary, binary | nil, non_neg_integer, binary}
          | :ping
          | :pong
          | :ok
          | {:err, binary}
          | {:info, binary}

  @type reason :: :bad_line | :line_too_long | :frame_too_big | :bad_frame_end

  # What is waited for: the rest of a line (parts newest first, their size), or of a payload (its head, parts, how
  # many bytes with the closing CR LF are missing).
  @opaque t :: {:line, [binary], non_neg_integer} | {:payload, tuple, [binary], pos_integer}

  @doc "A parser at the beginning of a connection."
  @spec new() :: t
  def new, do: {:line, [], 0}

  @doc "True between two frames: nothing of a next one has come."
  @spec idle?(t) :: boolean
  def idle?({:line, [], 0}), do: true
  def idle?(_parser), do: false

  @doc """
  Takes the next bytes; gives the frames that they complete, in order. After an error the connection is of no use: where
  the next frame begins is not known. The frames before it are given with it.
  """
  @spec feed(t, binary) :: {:ok, [frame], t} | {:error, reason, [frame]}
  def feed({:line, [], 0}, data), do: frames(data, [])

  def feed({:line, parts, size}, data) do
    case :binary.match(data, "\n") do
      :nomatch ->
        more_line([data | parts], size + byte_size(data), [])

      {at, 1} when size + at >= @line_max ->
        {:error, :line_too_long, []}

      {at, 1} ->
        <<tail::binary-size(at), ?\n, rest::binary>> = data
        line = join([<<tail::binary, ?\n>> | parts])

        # Whole now, but its payload is not in it.
        case frames(line, []) do
          {:ok, frames, {:payload, head, [], missing}} -> payload(head, [], missing, rest, frames)
          {:ok, frames, {:line, [], 0}} -> frames(rest, Enum.reverse(frames))
          {:ok, _frames, _unfinished} -> {:error, :bad_line, []}
          {:error, reason, frames} -> {:error, reason, frames}
        end
    end
  end

  def feed({:payload, head, parts, missing}, data), do: payload(head, parts, missing, data, [])

  # === Whole frames in one piece of bytes

  defp frames(<<>>, done), do: {:ok, Enum.reverse(done), {:line, [], 0}}

  defp frames(<<"MSG ", rest::binary>> = data, done) do
    case tokens(rest, rest, 0, 0, []) do
      {[size, sid, subject], rest} -> msg(subject, sid, nil, size, rest, done)
      {[size, reply, sid, subject], rest} -> msg(subject, sid, reply, size, rest, done)
      other -> unfinished(other, data, done)
    end
  end

  defp frames(<<"HMSG ", rest::binary>> = data, done) do
    case tokens(rest, rest, 0, 0, []) do
      {[size, head, sid, subject], rest} -> hmsg(subject, sid, nil, head, size, rest, done)
      {[size, head, reply, sid, subject], rest} -> hmsg(subject, sid, reply, head, size, rest, done)
      other -> unfinished(other, data, done)
    end
  end

  defp frames(<<"PING\r\n", rest::binary>>, done), do: frames(rest, [:ping | done])
  defp frames(<<"PONG\r\n", rest::binary>>, done), do: frames(rest, [:pong | done])
  defp frames(<<"+OK\r\n", rest::binary>>, done), do: frames(rest, [:ok | done])

  defp frames(<<c, _::binary>> = data, done) when c in [?I, ?-, ?P, ?+, ?M, ?H] do
    case :binary.match(data, "\n") do
      {at, 1} when at >= @line_max -> failed(:line_too_long, done)
      {0, 1} -> failed(:bad_line, done)
      {at, 1} -> other_line(data, at - 1, done)
      :nomatch -> more_line([data], byte_size(data), done)
    end
  end

  defp frames(_garbage, done), do: failed(:bad_line, done)

  defp other_line(data, size, done) do
    case data do
      <<"INFO ", info::binary-size(size - 5), "\r\n", rest::binary>> ->
        frames(rest, [{:info, info} | done])

      <<"-ERR ", text::binary-size(size - 5), "\r\n", rest::binary>> ->
        frames(rest, [{:err, text} | done])

      _ ->
        failed(:bad_line, done)
    end
  end

  # The tokens of a line, last first, and what follows the line.
  defp tokens(<<c, rest::binary>>, all, start, size, found) when c > ?\s do
    tokens(rest, all, start, size + 1, found)
  end

  defp tokens(<<?\s, rest::binary>>, all, start, 0, found), do: tokens(rest, all, start + 1, 0, found)

  defp tokens(<<?\s, rest::binary>>, all, start, size, found) do
    tokens(rest, all, start + size + 1, 0, [binary_part(all, start, size) | found])
  end

  defp tokens(<<?\r, ?\n, rest::binary>>, _all, _start, 0, found), do: {found, rest}

  defp tokens(<<?\r, ?\n, rest::binary>>, all, start, size, found) do
    {[binary_part(all, start, size) | found], rest}
  end

  defp tokens(<<>>, _all, _start, _size, _found), do: :more
  defp tokens(<<?\r>>, _all, _start, _size, _found), do: :more
  defp tokens(_control, _all, _start, _size, _found), do: :bad_line

  defp unfinished(:more, data, done), do: more_line([data], byte_size(data), done)
  defp unfinished(_bad, _data, done), do: failed(:bad_line, done)

  defp more_line(_parts, size, done) when size >= @line_max, do: failed(:line_too_long, done)
  defp more_line(parts, size, done), do: {:ok, Enum.reverse(done), {:line, parts, size}}

  # === Messages

  defp msg(subject, sid, reply, size, rest, done) do
    with {:ok, sid} <- number(sid), {:ok, size} <- number(size) do
      message({sid, subject, reply, 0, size}, rest, done)
    else
      :error -> failed(:bad_line, done)
    end
  end

  defp hmsg(subject, sid, reply, head, size, rest, done) do
    with {:ok, sid} <- number(sid), {:ok, head} <- number(head), {:ok, size} <- number(size), true <- head <= size do
      message({sid, subject, reply, head, size}, rest, done)
    else
      _ -> failed(:bad_line, done)
    end
  end

  defp message({_sid, _subject, _reply, _head, size}, _rest, done) when size > @frame_max do
    failed(:frame_too_big, done)
  end

  defp message({sid, subject, reply, head, size} = line, rest, done) do
    case rest do
      <<body::binary-size(size), "\r\n", rest::binary>> ->
        frames(rest, [{:msg, sid, subject, reply, head, body} | done])

      _ when byte_size(rest) >= size + 2 ->
        failed(:bad_frame_end, done)

      <<>> ->
        {:ok, Enum.reverse(done), {:payload, line, [], size + 2}}

      _ ->
        {:ok, Enum.reverse(done), {:payload, line, [rest], size + 2 - byte_size(rest)}}
    end
  end

  # `done` is in order here: at most the frames of one line.
  defp payload(line, parts, missing, data, done) when byte_size(data) < missing do
    case data do
      <<>> -> {:ok, done, {:payload, line, parts, missing}}
      _ -> {:ok, done, {:payload, line, [data | parts], missing - byte_size(data)}}
    end
  end

  defp payload({sid, subject, reply, head, size}, parts, missing, data, done) do
    <<last::binary-size(missing), rest::binary>> = data

    case join([last | parts]) do
      <<body::binary-size(size), "\r\n">> ->
        frames(rest, [{:msg, sid, subject, reply, head, body} | Enum.reverse(done)])

      _ ->
        {:error, :bad_frame_end, done}
    end
  end

  defp join(parts), do: parts |> Enum.reverse() |> IO.iodata_to_binary()

  defp failed(reason, done), do: {:error, reason, Enum.reverse(done)}

  defp number(digits) when byte_size(digits) in 1..@digits_max, do: number(digits, 0)
  defp number(_digits), do: :error

  defp number(<<c, rest::binary>>, n) when c in ?0..?9, do: number(rest, n * 10 + c - ?0)
  defp number(<<>>, n), do: {:ok, n}
  defp number(_other, _n), do: :error
end
