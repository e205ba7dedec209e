defmodule Brain.Spine.Read do
  @moduledoc """
  Reading: Direct Get (any replica; ADR-31), `STREAM.MSG.GET` (the leader), and the last value of many subjects. Twin of
  `spine/src/jetstream/read.rs`.
  """

  alias Brain.{Nats, Spine, Subject}
  alias Brain.Nats.Headers
  alias Brain.Spine.{Call, Refusal}

  # A batch ends after about so many bytes.
  @batch_bytes 1_048_576
  # `multi_last` answers 413 beyond 1,024 subjects; so many are asked for before we walk instead.
  @multi_last_max 1_024
  # The most messages that `last_of/2` walks over.
  @walk_max 65_536
  @walk_batch 1_024
  @no_message 10_037
  @too_many_results 413

  @doc "See `Brain.Spine.last/3`."
  @spec last(Spine.t(), binary, Spine.via()) :: {:ok, Spine.stored() | nil} | {:error, Spine.read_error()}
  def last(spine, subject, via) do
    deadline = Call.deadline(spine)
    with {:ok, stream} <- stream_of(spine, subject), do: last(spine, stream, subject, via, deadline)
  end

  defp last(spine, stream, subject, :direct, deadline) do
    case Call.ask(spine, "#{spine.api}.DIRECT.GET.#{stream}.#{subject}", "", deadline) do
      {:ok, %{status: nil} = message} -> direct(message)
      {:ok, %{status: 404}} -> {:ok, nil}
      {:ok, %{status: status, headers: headers}} -> {:error, Call.refused(status, headers)}
      {:error, reason} -> {:error, reason}
    end
  end

  defp last(spine, stream, subject, :leader, deadline), do: get(spine, stream, %{"last_by_subj" => subject}, deadline)

  @doc "See `Brain.Spine.read/5`."
  @spec read(Spine.t(), binary, Spine.seq(), non_neg_integer, Spine.via()) ::
          {:ok, Spine.batch()} | {:error, Spine.read_error()}
  def read(spine, subject, from, max, via) do
    deadline = Call.deadline(spine)

    with {:ok, stream} <- stream_of(spine, subject) do
      # Positions begin with 1, and 0 would mean something else to the server.
      case {max, via} do
        {0, _via} -> {:ok, %{entries: [], more: false}}
        {_max, :direct} -> next_by_subject(spine, stream, subject, max(from, 1), max, deadline)
        {_max, :leader} -> read_leader(spine, stream, subject, max(from, 1), {max, 0}, deadline, [])
      end
    end
  end

  @doc "See `Brain.Spine.last_of/2`."
  @spec last_of(Spine.t(), binary) :: {:ok, Spine.batch()} | {:error, Spine.read_error()}
  def last_of(spine, pattern) do
    case stream_of_pattern(pattern, spine.logs) do
      nil ->
        {:error, :no_stream}

      stream ->
        case batch(spine, stream, %{"multi_last" => [pattern]}, @multi_last_max, Call.deadline(spine)) do
          {:error, {:refused, @too_many_results, _text}} -> walk(spine, stream, pattern, 1, 0, %{})
          result -> result
        end
    end
  end

  # More subjects than one answer holds: every message that matches, in order, keeping the last of each subject. Each
  # batch has the whole deadline.
  defp walk(spine, stream, pattern, from, walked, last) do
    with {:ok, batch} <- next_by_subject(spine, stream, pattern, from, @walk_batch, Call.deadline(spine)) do
      last = Enum.reduce(batch.entries, last, &Map.put(&2, &1.subject, &1))
      walked = walked + length(batch.entries)

      cond do
        batch.entries == [] or not batch.more ->
          {:ok, %{entries: last |> Map.values() |> Enum.sort_by(& &1.seq), more: false}}

        walked >= @walk_max ->
          {:error, {:refused, @too_many_results, "more messages match than are read for their last values"}}

        true ->
          walk(spine, stream, pattern, List.last(batch.entries).seq + 1, walked, last)
      end
    end
  end

  defp next_by_subject(spine, stream, subject, from, max, deadline) do
    request = %{"seq" => from, "next_by_subj" => subject, "batch" => max, "max_bytes" => @batch_bytes}
    batch(spine, stream, request, max, deadline)
  end

  # A Direct Get with many answers, the last of them a status.
  defp batch(spine, stream, request, max, deadline) do
    with :ok <- Call.connected(spine, deadline) do
      tag = make_ref()
      to = "#{spine.api}.DIRECT.GET.#{stream}"
      # One more for the end.
      Nats.request_many(spine.conn, to, [], :jiffy.encode(request), Call.left(deadline), tag, max + 1)
      answers(spine, tag, deadline, [])
    end
  end

  defp answers(spine, tag, deadline, entries) do
    result =
      receive do
        {:nats_reply, ^tag, result} -> Call.answered(result, spine)
      after
        # Only if the connection's process was killed: else it ends every call itself.
        Call.left(deadline) + 1_000 -> {:error, :timeout}
      end

    case result do
      {:ok, %{status: nil} = message} ->
        with {:ok, entry} <- direct(message),
             :ok <- ascends(entries, entry),
             do: answers(spine, tag, deadline, [entry | entries])

      {:ok, %{status: 204, headers: headers}} ->
        {:ok, %{entries: Enum.reverse(entries), more: (Headers.number(headers, "Nats-Num-Pending") || 0) > 0}}

      {:ok, %{status: 404}} ->
        {:ok, %{entries: Enum.reverse(entries), more: false}}

      {:ok, %{status: status, headers: headers}} ->
        {:error, Call.refused(status, headers)}

      {:error, reason} ->
        {:error, reason}
    end
  end

  defp ascends([%{seq: last} | _], %{seq: seq}) when last >= seq, do: Call.unreadable("positions that do not ascend")
  defp ascends(_entries, _entry), do: :ok

  defp direct(%{headers: headers, body: body}) do
    Call.stored(Headers.get(headers, "Nats-Subject"), Headers.number(headers, "Nats-Sequence"), body)
  end

  # `read`: how many may still come, and how many bytes have.
  defp read_leader(spine, stream, subject, from, {left, bytes}, deadline, entries) do
    case get(spine, stream, %{"seq" => from, "next_by_subj" => subject}, deadline) do
      {:ok, nil} ->
        {:ok, %{entries: Enum.reverse(entries), more: false}}

      {:ok, _entry} when left == 0 or bytes >= @batch_bytes ->
        {:ok, %{entries: Enum.reverse(entries), more: true}}

      {:ok, entry} ->
        read = {left - 1, bytes + byte_size(entry.body)}
        read_leader(spine, stream, subject, entry.seq + 1, read, deadline, [entry | entries])

      # What was read stays read: the caller goes on behind it, and is told then if the broker is away.
      {:error, _reason} when entries != [] ->
        {:ok, %{entries: Enum.reverse(entries), more: true}}

      {:error, reason} ->
        {:error, reason}
    end
  end

  # One `STREAM.MSG.GET`. The payload is base64, absent if it is empty.
  defp get(spine, stream, request, deadline) do
    case Call.api(spine, "STREAM.MSG.GET." <> stream, request, deadline) do
      {:ok, %{"message" => %{"subject" => subject, "seq" => seq} = message}} ->
        with data when is_binary(data) <- Map.get(message, "data", ""),
             {:ok, body} <- Base.decode64(data) do
          Call.stored(subject, seq, body)
        else
          _ -> Call.unreadable("a payload that is not base64")
        end

      {:ok, _other} ->
        Call.unreadable("an answer without a message")

      {:api_error, @no_message, _text} ->
        {:ok, nil}

      {:api_error, code, text} ->
        {:error, Refusal.of_read(code, text)}

      {:error, reason} ->
        {:error, reason}
    end
  end

  defp stream_of(spine, subject) do
    case Subject.stream_of(subject, spine.logs) do
      nil -> {:error, :no_stream}
      stream -> {:ok, stream}
    end
  end

  @doc "The one stream that holds all subjects of a pattern, if there is one."
  @spec stream_of_pattern(binary, pos_integer) :: binary | nil
  def stream_of_pattern("log." <> _rest = pattern, logs) do
    # With several log streams a pattern must name its partition.
    if logs == 1, do: Subject.log_stream(0), else: Subject.stream_of(pattern, logs)
  end

  def stream_of_pattern(pattern, logs), do: Subject.stream_of(pattern, logs)
end
