defmodule Brain.Spine.Streams do
  @moduledoc """
  Streams: create or verify, and the purge that always names a position. Twin of `spine/src/jetstream/stream.rs`.
  """

  alias Brain.{Spine, Subject}
  alias Brain.Spine.{Call, Refusal, StreamSpec}

  @stream_not_found 10_059
  @name_in_use 10_058

  @doc "See `Brain.Spine.purge_below/3`."
  @spec purge_below(Spine.t(), binary, Spine.seq()) :: :ok | {:error, Spine.read_error()}
  def purge_below(spine, subject, keep) do
    case Subject.stream_of(subject, spine.logs) do
      nil ->
        {:error, :no_stream}

      # Nothing lies below 1; and a purge with position 0 would mean "everything" to the server.
      _stream when keep <= 1 ->
        :ok

      stream ->
        request = %{"filter" => subject, "seq" => keep}

        case Call.api(spine, "STREAM.PURGE." <> stream, request, Call.deadline(spine)) do
          {:ok, %{"success" => true}} -> :ok
          {:ok, _other} -> {:error, {:refused, 0, "not purged, without a reason"}}
          {:api_error, code, text} -> {:error, Refusal.of_read(code, text)}
          {:error, reason} -> {:error, reason}
        end
    end
  end

  @doc "See `Brain.Spine.ensure/2`."
  @spec ensure(Spine.t(), StreamSpec.t()) :: :ok | {:error, Spine.differs() | Spine.no_room() | Spine.read_error()}
  def ensure(spine, spec) do
    expected = StreamSpec.config(spec)

    with {:ok, nil} <- info(spine, spec.name) do
      case Call.api(spine, "STREAM.CREATE." <> spec.name, expected, Call.deadline(spine)) do
        {:ok, answer} -> verify(answer["config"], expected)
        # Somebody else was faster, perhaps with another specification.
        {:api_error, @name_in_use, _text} -> again(info(spine, spec.name), expected)
        {:api_error, code, text} -> {:error, Refusal.of_ensure(spec, code, text)}
        {:error, reason} -> {:error, reason}
      end
    else
      found -> again(found, expected)
    end
  end

  defp again({:ok, nil}, _expected), do: {:error, :no_stream}
  defp again({:ok, found}, expected), do: verify(found, expected)
  defp again({:error, reason}, _expected), do: {:error, reason}

  defp info(spine, stream) do
    case Call.api(spine, "STREAM.INFO." <> stream, %{}, Call.deadline(spine)) do
      {:ok, %{"config" => %{} = config}} -> {:ok, config}
      {:ok, _other} -> Call.unreadable("an answer without a configuration")
      {:api_error, @stream_not_found, _text} -> {:ok, nil}
      {:api_error, code, text} -> {:error, Refusal.of_read(code, text)}
      {:error, reason} -> {:error, reason}
    end
  end

  # In the order in which the other side compares them, so that both name the same first difference.
  @compared ~w(name subjects retention storage discard discard_new_per_subject num_replicas max_age max_msgs
               max_msgs_per_subject max_bytes deny_delete allow_direct sealed republish)

  @doc "Names the first property that differs. Absent ones have their zero value."
  @spec verify(term, map) :: :ok | {:error, Spine.differs() | Spine.read_error()}
  def verify(%{} = found, expected) do
    case Enum.find(@compared, &(value(found, &1) != value(expected, &1))) do
      nil -> :ok
      what -> {:error, {:differs, expected["name"], what, value(found, what), value(expected, what)}}
    end
  end

  def verify(_found, _expected), do: Call.unreadable("an answer without a configuration")

  defp value(config, "subjects") do
    case config["subjects"] do
      subjects when is_list(subjects) -> Enum.sort(subjects)
      other -> other
    end
  end

  # Newer servers may add fields of no meaning here.
  defp value(config, "republish") do
    case config["republish"] do
      %{"src" => source, "dest" => destination} -> {source, destination}
      other -> other
    end
  end

  defp value(config, "max_age"), do: config["max_age"] || 0

  defp value(config, flag) when flag in ~w(discard_new_per_subject deny_delete allow_direct sealed) do
    config[flag] || false
  end

  defp value(config, what), do: config[what]
end
