defmodule Brain.Nats.Encoder do
  @moduledoc """
  Frames for a NATS server, as iodata: a body is never copied here. Subjects are checked by `subject?/1` where they enter
  (`Brain.Nats`), so that no frame can be broken by one.
  """

  alias Brain.Nats.Headers

  @subject_max 512

  @doc "`PUB`."
  @spec pub(binary, binary | nil, iodata) :: iodata
  def pub(subject, nil, body) do
    [<<"PUB ", subject::binary, ?\s, size(body)::binary, "\r\n">>, body | "\r\n"]
  end

  def pub(subject, reply, body) do
    [<<"PUB ", subject::binary, ?\s, reply::binary, ?\s, size(body)::binary, "\r\n">>, body | "\r\n"]
  end

  @doc "`HPUB`, or `PUB` if there are no headers."
  @spec hpub(binary, binary | nil, Headers.t(), iodata) :: iodata
  def hpub(subject, reply, [], body), do: pub(subject, reply, body)

  def hpub(subject, reply, headers, body) do
    block = IO.iodata_to_binary(Headers.encode(headers))
    all = Integer.to_string(byte_size(block) + IO.iodata_length(body))
    reply = if reply, do: [?\s, reply], else: []
    [["HPUB ", subject, reply, ?\s, size(block), ?\s, all, "\r\n", block], body | "\r\n"]
  end

  @doc "`SUB`, perhaps in a queue group."
  @spec sub(binary, binary | nil, pos_integer) :: iodata
  def sub(subject, nil, sid), do: ["SUB ", subject, ?\s, Integer.to_string(sid), "\r\n"]
  def sub(subject, queue, sid), do: ["SUB ", subject, ?\s, queue, ?\s, Integer.to_string(sid), "\r\n"]

  @doc "`UNSUB`, at once."
  @spec unsub(pos_integer) :: iodata
  def unsub(sid), do: ["UNSUB ", Integer.to_string(sid), "\r\n"]

  @doc "`CONNECT` with its options."
  @spec connect(map) :: iodata
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
    tokens?(text, 0, wildcards) and String.valid?(text)
  end

  def subject?(_text, _wildcards), do: false

  # `size`: of the token so far.
  defp tokens?(<<?., rest::binary>>, size, wild) when size > 0 and rest != "", do: tokens?(rest, 0, wild)
  defp tokens?(<<>>, size, _wild), do: size > 0
  defp tokens?(<<?., _::binary>>, _size, _wild), do: false
  defp tokens?(<<c, _::binary>>, _size, _wild) when c <= ?\s or c == 0x7F, do: false
  defp tokens?(<<?>>>, 0, wild), do: wild
  defp tokens?(<<?*>>, 0, wild), do: wild
  defp tokens?(<<?*, ?., rest::binary>>, 0, true), do: rest != "" and tokens?(rest, 0, true)
  defp tokens?(<<?*, ?., _::binary>>, 0, false), do: false
  defp tokens?(<<?>, ?., _::binary>>, 0, _wild), do: false
  defp tokens?(<<_, rest::binary>>, size, wild), do: tokens?(rest, size + 1, wild)

  defp size(body), do: Integer.to_string(IO.iodata_length(body))
end
