defmodule Brain.Spine.Append do
  @moduledoc "The fenced append. Twin of `spine/src/jetstream/append.rs`."

  alias Brain.{Nats, Spine, Subject}
  alias Brain.Spine.{Call, Refusal}

  require Logger

  @fence "Nats-Expected-Last-Subject-Sequence"
  # What an entry can name as its predecessor's position.
  @seq_max 0xFFFF_FFFF_FFFF_FFFF

  @doc "See `Brain.Spine.attempt/4`."
  @spec run(Spine.t(), binary, Spine.seq(), binary) :: {:ok, Spine.seq()} | {:error, Spine.append_error()}
  def run(spine, subject, expect, body) do
    stream = Subject.stream_of(subject, spine.logs)

    cond do
      stream == nil -> no_stream(subject)
      # Looked at before: what the end of the connection cuts short later may have been stored.
      not Nats.alive?(spine.conn) -> {:error, {:refused, :closed, 0, "the connection is closed"}}
      true -> spine.conn |> Nats.request(subject, fence(expect), body, spine.timeout_ms) |> read(subject, stream)
    end
  end

  @doc "See `Brain.Spine.append_direct/5`."
  @spec begin(Spine.t(), binary, Spine.seq(), binary, term) :: :ok
  def begin(spine, subject, expect, body, tag) do
    Nats.request_async(spine.conn, subject, fence(expect), body, spine.timeout_ms, tag)
  end

  @doc "See `Brain.Spine.appended/3`."
  @spec finish(Spine.t(), binary, {:ok, Nats.message()} | {:error, Nats.request_error()}) :: Spine.outcome()
  def finish(spine, subject, result) do
    result |> read(subject, Subject.stream_of(subject, spine.logs)) |> outcome(subject)
  end

  # The fence and nothing else: above all no `Nats-Msg-Id`, which would let JetStream swallow another room's entry.
  defp fence(expect), do: [{@fence, Integer.to_string(expect)}]

  defp no_stream(subject), do: {:error, {:refused, :no_stream, 0, "no stream holds #{subject}"}}

  # No interest means that nothing received it.
  defp read({:error, :no_responders}, subject, stream) do
    {:error, Refusal.of_append(503, "nobody takes #{subject}: #{stream} does not exist or has no leader")}
  end

  defp read({:error, :too_big}, _subject, _stream) do
    {:error, {:refused, :too_big, 0, "the entry is larger than the broker's max_payload"}}
  end

  defp read({:error, :closed}, _subject, _stream), do: {:error, {:unresolved, :disconnected}}
  defp read({:error, :bad_subject}, subject, _stream), do: no_stream(subject)
  defp read({:error, _timeout_or_full}, _subject, _stream), do: {:error, {:unresolved, :timeout}}

  defp read({:ok, %{status: 429}}, _subject, _stream), do: {:error, Refusal.of_append(429, "too many requests")}

  # Any other bare status is not an answer to this.
  defp read({:ok, %{status: status}}, _subject, _stream) when status != nil, do: {:error, {:unresolved, :timeout}}

  defp read({:ok, %{body: body}}, subject, stream) do
    case Call.parse(body) do
      {:ok, %{"stream" => ^stream, "seq" => seq}} when is_integer(seq) and seq in 1..@seq_max ->
        {:ok, seq}

      {:ok, %{"stream" => found}} when is_binary(found) and found != stream ->
        Logger.error("an append to #{subject} was stored in #{inspect(found)}, expected #{stream}")
        {:error, {:unresolved, :timeout}}

      {:api_error, code, text} ->
        {:error, Refusal.of_append(code, text)}

      _unreadable ->
        Logger.error("an append to #{subject} got an unreadable answer")
        {:error, {:unresolved, :timeout}}
    end
  end

  @doc "What the core is told of it; a refusal's reason goes to the log."
  @spec outcome({:ok, Spine.seq()} | {:error, Spine.append_error()}, binary) :: Spine.outcome()
  def outcome({:ok, seq}, _subject), do: {:stored, seq}
  def outcome({:error, {:unresolved, :wrong_last}}, _subject), do: :wrong_last

  def outcome({:error, {:unresolved, {:failed, _code}} = error}, subject) do
    Logger.warning("an append to #{subject}: " <> Spine.explain(error))
    :unresolved
  end

  def outcome({:error, {:unresolved, _why}}, _subject), do: :unresolved

  def outcome({:error, {:refused, why, _code, _text} = error}, subject) do
    Logger.warning("an append to #{subject}: " <> Spine.explain(error))
    if why in [:full, :too_big], do: why, else: :unavailable
  end
end
