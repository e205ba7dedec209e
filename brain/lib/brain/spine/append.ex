defmodule Brain.Spine.Append do
  @moduledoc "The fenced append. Twin of `spine/src/jetstream/append.rs`."

  alias Brain.{Nats, Spine, Subject}
  alias Brain.Spine.Call

  require Logger

  @fence "Nats-Expected-Last-Subject-Sequence"
  @wrong_last_sequence 10_071
  @undecided 10_164
  # What an entry can name as its predecessor's position.
  @seq_max 0xFFFF_FFFF_FFFF_FFFF

  @doc "See `Brain.Spine.attempt/4`."
  @spec run(Spine.t(), binary, Spine.seq(), binary) :: {:ok, Spine.seq()} | {:error, Spine.append_error()}
  def run(spine, subject, expect, body) do
    case Subject.stream_of(subject, spine.logs) do
      nil ->
        {:error, {:refused, 0, "no stream holds #{subject}"}}

      stream ->
        spine.conn |> Nats.request(subject, fence(expect), body, spine.timeout_ms) |> read(spine, subject, stream)
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
    result |> read(spine, subject, Subject.stream_of(subject, spine.logs)) |> outcome(subject)
  end

  # The fence and nothing else: above all no `Nats-Msg-Id`, which would let JetStream swallow another room's entry.
  defp fence(expect), do: [{@fence, Integer.to_string(expect)}]

  # No interest means that nothing received it: surely not stored.
  defp read({:error, :no_responders}, _spine, subject, stream) do
    {:error, {:refused, 503, "nobody takes #{subject}: #{stream} does not exist or has no leader"}}
  end

  defp read({:error, :too_big}, _spine, _subject, _stream) do
    {:error, {:refused, 0, "the entry is larger than the broker's max_payload"}}
  end

  defp read({:error, :closed}, spine, _subject, _stream) do
    if Nats.alive?(spine.conn),
      do: {:error, {:unresolved, :disconnected}},
      else: {:error, {:refused, 0, "the connection is closed"}}
  end

  defp read({:error, :bad_subject}, _spine, subject, _stream), do: {:error, {:refused, 0, "no stream holds #{subject}"}}
  defp read({:error, _timeout_or_full}, _spine, _subject, _stream), do: {:error, {:unresolved, :timeout}}

  # Any other bare status is not an answer to this.
  defp read({:ok, %{status: status}}, _spine, _subject, _stream) when status != nil do
    {:error, {:unresolved, :timeout}}
  end

  defp read({:ok, %{body: body}}, _spine, subject, stream) do
    case Call.parse(body) do
      {:ok, %{"stream" => ^stream, "seq" => seq}} when is_integer(seq) and seq in 1..@seq_max ->
        {:ok, seq}

      {:ok, %{"stream" => found}} when is_binary(found) and found != stream ->
        Logger.error("an append to #{subject} was stored in #{inspect(found)}, expected #{stream}")
        {:error, {:unresolved, :timeout}}

      {:api_error, @wrong_last_sequence, _text} ->
        {:error, {:unresolved, :wrong_last}}

      {:api_error, @undecided, _text} ->
        {:error, {:unresolved, :undecided}}

      {:api_error, code, text} ->
        {:error, {:refused, code, text}}

      _unreadable ->
        Logger.error("an append to #{subject} got an unreadable answer")
        {:error, {:unresolved, :timeout}}
    end
  end

  @doc "What the core is told of it; a refusal's reason goes to the log."
  @spec outcome({:ok, Spine.seq()} | {:error, Spine.append_error()}, binary) :: Spine.outcome()
  def outcome({:ok, seq}, _subject), do: {:stored, seq}
  def outcome({:error, {:unresolved, :wrong_last}}, _subject), do: :wrong_last
  def outcome({:error, {:unresolved, _why}}, _subject), do: :unresolved

  def outcome({:error, {:refused, code, text}}, subject) do
    Logger.warning("an append to #{subject} was refused with #{code}: #{text}")
    :refused
  end
end
