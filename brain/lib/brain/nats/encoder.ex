defmodule Brain.Nats.Encoder do
  @moduledoc """
  Frames for a NATS server, as iodata: a body is never copied here. Subjects are checked by `subject?/1` where they enter
  (`Brain.Nats`), so that no frame can be broken by one.
  """

  alias Brain.Nats.Headers

  @subject_max 512

  @doc "`PUB`."
  @spec pub(binary, binary | nil, iodata) :: iolist
  def pub(subject, nil, body) do
    [<<"PUB ", subject::binary, ?\s, size(body)::binary, "\r\n">>, body, "\r\n"]
  end

  def pub(subject, reply, body) do
    [<<"PUB ", subject::binary, ?\s, reply::binary, ?\s, size(body)::binary, "\r\n">>, body, "\r\n"]
  end

  @doc "`HPUB`, or `PUB` if there are no headers."
  @spec hpub(binary, binary | nil, Headers.t(), iodata) :: iolist
  def hpub(subject, reply, [], body), do: pub(subject, reply, body)

  def hpub(subject, reply, headers, body) do
    block = IO.iodata_to_binary(Headers.encode(headers))
    all = Integer.to_string(byte_size(block) + IO.iodata_length(body))
    reply = if reply, do: [?\s, reply], else: []
    [["HPUB ", subject, reply, ?\s, size(block), ?\s, all, "\r\n", block], body, "\r\n"]
  end

  @doc "`SUB`, perhaps in a queue group."
  @spec sub(binary, binary | nil, pos_integer) :: iolist
  def sub(subject, nil, sid), do: ["SUB ", subject, ?\s, Integer.to_string(sid), "\r\n"]
  def sub(subject, queue, sid), do: ["SUB ", subject, ?\s, queue, ?\s, Integer.to_string(sid), "\r\n"]

  @doc "`UNSUB`, at once."
  @spec unsub(pos_integer) :: iolist
  def unsub(sid), do: ["UNSUB ", Integer.to_string(sid), "\r\n"]

  @doc "`CONNECT` with its options."
  @spec connect(map) :: iolist
  def connect(options), do: ["CONNECT ", :jiffy.encode(options), "\r\n"]

  @doc "`PING`."
  @spec ping() :: binary
  def ping, do: "PING\r\n"

  @doc "`PONG`."
  @spec pong() :: binary
  def pong, do: "PONG\r\n"

  @doc """
  True for what may be published to, or with `wildcards` subscribed to: tokens parted by single dots, no white space or
  control bytes, UTF-8, at most #{@subject_max} bytes. The rule of the Rust side's `Subject` and `Pattern`.
  """
  @spec subject?(term, boolean) :: boolean
  def subject?(text, wildcards \\ false)

  def subject?(text, wildcards) when is_binary(text) and byte_size(text) in 1..@subject_max do
    case tokens(text, 0, wildcards) do
      :ascii -> true
      :other -> String.valid?(text) and tokens(ascii(text), 0, wildcards) == :ascii
      :bad -> false
    end
  end

  def subject?(_text, _wildcards), do: false

  # `size`: of the token so far. One walk is enough for what almost all subjects are.
  defp tokens(<<c, rest::binary>>, size, wild) when c in ?a..?z or c in ?0..?9 or c in ?A..?Z do
    tokens(rest, size + 1, wild)
  end

  defp tokens(<<?., rest::binary>>, size, wild) when size > 0 and rest != "", do: tokens(rest, 0, wild)
  defp tokens(<<>>, _size, _wild), do: :ascii
  defp tokens(<<?., _::binary>>, _size, _wild), do: :bad
  defp tokens(<<c, _::binary>>, _size, _wild) when c <= ?\s or c == 0x7F, do: :bad
  defp tokens(<<c, _::binary>>, _size, _wild) when c >= 0x80, do: :other
  defp tokens(<<?>>>, 0, true), do: :ascii
  defp tokens(<<?*, ?., rest::binary>>, 0, true) when rest != "", do: tokens(rest, 0, true)
  defp tokens(<<?*>>, 0, true), do: :ascii
  defp tokens(<<c>>, 0, _wild) when c in [?*, ?>], do: :bad
  defp tokens(<<c, ?., _::binary>>, 0, _wild) when c in [?*, ?>], do: :bad
  defp tokens(<<_, rest::binary>>, size, wild), do: tokens(rest, size + 1, wild)

  # Beyond ASCII every byte is as good as a letter.
  defp ascii(text), do: for(<<c <- text>>, into: <<>>, do: <<if(c >= 0x80, do: ?x, else: c)>>)

  defp size(body), do: Integer.to_string(IO.iodata_length(body))
end
