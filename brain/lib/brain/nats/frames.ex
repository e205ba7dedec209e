defmodule Brain.Nats.Frames do
  @moduledoc "What frames mean: a message as it is delivered, and which permission an `-ERR` speaks of."

  alias Brain.Nats.Headers

  @typedoc """
  A message. `status`: of an answer without a body of its own, e.g. 404 from JetStream. `headers`: in order; the text
  after a status is `Description`.
  """
  @type message :: %{
          subject: binary,
          reply: binary | nil,
          headers: Headers.t(),
          status: nil | 100..999,
          body: binary
        }

  @doc """
  A message from its frame. Nothing in it holds on to the packet it came in, unless it is most of it: a room's mailbox of
  1,000 small messages must not keep 1,000 packets of 64 KiB. `own` is the subscription's subject, if equal bytes may
  stand for it.
  """
  @spec message(binary | nil, binary, binary | nil, non_neg_integer, binary) :: {:ok, message} | {:error, :bad_headers}
  def message(own, subject, reply, 0, payload) do
    {:ok, %{subject: subject(own, subject), reply: copy(reply), headers: [], status: nil, body: keep(payload)}}
  end

  def message(own, subject, reply, head, payload) do
    <<block::binary-size(head), body::binary>> = payload

    with {:ok, status, headers} <- Headers.parse(block) do
      {:ok, %{subject: subject(own, subject), reply: copy(reply), headers: headers, status: status, body: keep(body)}}
    end
  end

  @doc """
  Reads `Permissions Violation for Subscription to "in.t.*.r.*" …`, in whatever case it comes.

      iex> Brain.Nats.Frames.violation(~s('Permissions Violation for Subscription to "in.>" using queue "q"'))
      {:subscribe, "in.>"}
      iex> Brain.Nats.Frames.violation("'Stale Connection'")
      nil
  """
  @spec violation(binary) :: {:subscribe | :publish, binary} | nil
  def violation(text) do
    with [before, subject | _] <- :binary.split(text, ~s("), [:global]) do
      before = ascii_downcase(before)

      cond do
        contains?(before, "permissions violation for subscription to") -> {:subscribe, subject}
        contains?(before, "permissions violation for publish to") -> {:publish, subject}
        true -> nil
      end
    else
      _ -> nil
    end
  end

  defp subject(own, own) when is_binary(own), do: own
  defp subject(_own, subject), do: :binary.copy(subject)

  defp copy(nil), do: nil
  defp copy(text), do: :binary.copy(text)

  defp keep(body) do
    if :binary.referenced_byte_size(body) > 2 * byte_size(body), do: :binary.copy(body), else: body
  end

  # Bytes from the network, which need not be UTF-8.
  defp ascii_downcase(text), do: for(<<c <- text>>, into: <<>>, do: <<if(c in ?A..?Z, do: c + 32, else: c)>>)
  defp contains?(text, part), do: :binary.match(text, part) != :nomatch
end
