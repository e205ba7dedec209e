defmodule Brain.Nats.Headers do
  @moduledoc """
  The header block of a NATS message (ADR-4): a version line, perhaps with a status, then `Key: value` lines.

      iex> Brain.Nats.Headers.parse("NATS/1.0 503\\r\\n\\r\\n")
      {:ok, 503, []}
      iex> Brain.Nats.Headers.parse("NATS/1.0\\r\\nNats-Sequence: 12\\r\\n\\r\\n")
      {:ok, nil, [{"Nats-Sequence", "12"}]}

  The text after a status stands as header `Description`, as other clients have it.
  """

  @type t :: [{binary, binary}]

  @doc "Reads a block. Keys keep the case they came in; what is kept does not hold on to the packet."
  @spec parse(binary) :: {:ok, nil | 100..999, t} | {:error, :bad_headers}
  def parse(<<"NATS/1.0", rest::binary>>) do
    with [first | lines] <- :binary.split(rest, "\r\n", [:global]),
         {:ok, status, described} <- status(first),
         {:ok, headers} <- fields(lines, described) do
      {:ok, status, headers}
    else
      _ -> {:error, :bad_headers}
    end
  end

  def parse(_block), do: {:error, :bad_headers}

  @doc "A block without status. Keys and values are the program's own."
  @spec encode(t) :: iolist
  def encode(headers) do
    ["NATS/1.0\r\n", Enum.map(headers, fn {key, value} -> [key, ": ", value, "\r\n"] end), "\r\n"]
  end

  @doc "How many bytes the block takes; none without headers."
  @spec size(t) :: non_neg_integer
  def size([]), do: 0
  def size(headers), do: IO.iodata_length(encode(headers))

  @doc "True if no key or value can break the block."
  @spec valid?(t) :: boolean
  def valid?(headers) do
    Enum.all?(headers, fn {key, value} ->
      key != "" and :binary.match(key, [":", "\r", "\n", " "]) == :nomatch and
        :binary.match(value, ["\r", "\n"]) == :nomatch
    end)
  end

  @doc "The first value of a key, in the case that JetStream writes it."
  @spec get(t, binary) :: binary | nil
  def get(headers, key) do
    case List.keyfind(headers, key, 0) do
      {_key, value} -> value
      nil -> nil
    end
  end

  @doc "A value that is a decimal number without sign."
  @spec number(t, binary) :: non_neg_integer | nil
  def number(headers, key) do
    with <<_, _::binary>> = digits when byte_size(digits) <= 20 <- get(headers, key),
         {n, ""} when n >= 0 <- Integer.parse(digits) do
      n
    else
      _ -> nil
    end
  end

  defp status(""), do: {:ok, nil, []}

  defp status(<<?\s, a, b, c, rest::binary>>) when a in ?1..?9 and b in ?0..?9 and c in ?0..?9 do
    status = (a - ?0) * 100 + (b - ?0) * 10 + (c - ?0)

    case rest do
      "" -> {:ok, status, []}
      <<?\s, text::binary>> -> {:ok, status, [{"Description", :binary.copy(trim(text))}]}
      _ -> :error
    end
  end

  defp status(_other), do: :error

  # The block ends with an empty line.
  defp fields(["", ""], found), do: {:ok, Enum.reverse(found)}

  defp fields([line | lines], found) do
    case :binary.split(line, ":") do
      [<<_, _::binary>> = key, value] ->
        fields(lines, [{:binary.copy(key), :binary.copy(trim(value))} | found])

      _ ->
        :error
    end
  end

  defp fields([], _found), do: :error

  # Spaces around a value are no part of it. Not `String.trim/1`: the bytes may be anything.
  defp trim(<<?\s, rest::binary>>), do: trim(rest)

  defp trim(text) do
    size = byte_size(text) - 1

    case text do
      <<head::binary-size(size), ?\s>> when size >= 0 -> trim(head)
      _ -> text
    end
  end
end
