defmodule Brain.Calls do
  @moduledoc """
  The core's effects as Spine calls, each of which ends: the Spine has its own deadlines.

  `append/5`, which is on the way of every command, comes back as a message. The others are rare and wait; the room runs
  each in a task.
  """

  require Logger

  alias Brain.{Context, Nats, Spine, Subject}
  alias Brain.Room.Core
  alias Brain.Spine.StreamSpec

  # The most log entries of one read. The leader is asked for one at a time, within one deadline: over a slow link fewer
  # come, and the core goes on behind them.
  @read_max 32
  # How many snapshots of a room are kept.
  @snapshots_max 2

  @enforce_keys [:input, :output, :log, :snapshot, :generation, :generation_spec]
  defstruct @enforce_keys

  @typedoc "A room's subjects, made once."
  @type t :: %__MODULE__{
          input: binary,
          output: binary,
          log: binary,
          snapshot: binary,
          generation: binary,
          generation_spec: StreamSpec.t()
        }

  @doc "The subjects of a room."
  @spec subjects({binary, binary}, map) :: t
  def subjects({tenant, room} = key, %{logs: logs, replicas: replicas}) do
    index = Subject.stream_index(Subject.partition(tenant, room), logs)

    %__MODULE__{
      input: Subject.input(key),
      output: Subject.output(key),
      log: Subject.log(key),
      snapshot: Subject.snapshot(key),
      generation: Subject.generation(index),
      generation_spec: StreamSpec.generation(index, replicas)
    }
  end

  @doc "Begins an append to the room's log; the caller gets `{:nats_reply, tag, result}`."
  @spec append(Context.t(), t, non_neg_integer, binary, term) :: :ok
  def append(context, subjects, expect, body, tag) do
    Spine.append_direct(context.spine, subjects.log, expect, body, tag)
  end

  @doc "What became of the append, from that result."
  @spec appended(Context.t(), t, {:ok, Nats.message()} | {:error, Nats.request_error()}) :: Spine.outcome()
  def appended(context, subjects, result), do: Spine.appended(context.spine, subjects.log, result)

  @doc "Performs one of the other calls; returns what the core is to be told."
  @spec perform(Context.t(), t, Core.effect()) :: Core.input() | :nothing
  def perform(context, subjects, {:read, token, gen_id?, snapshots?, log_from}) do
    # In case a generation must be written.
    draw = context.random.()

    case read(context.spine, subjects, gen_id?, snapshots?, log_from) do
      {:ok, found} ->
        {:read, token, draw, found}

      {:error, error} ->
        Logger.debug("read failed", subject: subjects.log, error: Spine.explain(error))
        {:read, token, draw, nil}
    end
  end

  def perform(context, subjects, {:write_gen, token, value}) do
    case Spine.append(context.spine, subjects.generation, 0, <<value::little-64>>) do
      # Most likely the stream went with the memory of a restarted broker.
      refused when refused in [:full, :unavailable, :too_big] -> Spine.ensure(context.spine, subjects.generation_spec)
      :wrong_last -> replace_unreadable(context.spine, subjects.generation, value)
      _ -> :ok
    end

    {:gen_written, token}
  end

  def perform(context, subjects, {:write_snapshot, token, expect, body}) do
    {:snapshot_written, token, Spine.append(context.spine, subjects.snapshot, expect, body)}
  end

  def perform(context, subjects, {:trim, keep}) do
    with {:error, error} <- Spine.purge_below(context.spine, subjects.log, keep) do
      Logger.debug("trim failed; the next snapshot tries again", subject: subjects.log, error: Spine.explain(error))
    end

    :nothing
  end

  # Something stands there already: a generation that another Brain has just written, or what is none. That would keep
  # every room of these logs shut for ever. In its place comes a new one, and every room begins a new epoch.
  defp replace_unreadable(spine, subject, value) do
    with {:ok, %{seq: seq, body: body}} when byte_size(body) != 8 <- Spine.last(spine, subject, :leader) do
      Logger.error("what is stored as generation is none; it is replaced", subject: subject, pos: seq)
      Spine.append(spine, subject, seq, <<value::little-64>>)
    end
  end

  # Generation, snapshots, log: in this order, each only if it was asked for.
  defp read(spine, subjects, gen_id?, snapshots?, log_from) do
    with {:ok, gen_id} <- generation(spine, subjects, gen_id?),
         {:ok, snapshots} <- snapshots(spine, subjects.snapshot, snapshots?),
         {:ok, log} <- messages(spine, subjects.log, log_from, @read_max) do
      {:ok, %{gen_id: gen_id, snapshots: snapshots, log: log.entries, more: log.more}}
    end
  end

  defp generation(_spine, _subjects, false), do: {:ok, nil}

  defp generation(spine, subjects, true) do
    case Spine.last(spine, subjects.generation, :leader) do
      {:ok, %{body: <<gen_id::little-64>>}} ->
        {:ok, gen_id}

      {:ok, _} ->
        {:ok, nil}

      # Gone with the memory of a restarted broker: made again, so that a generation can be written.
      {:error, :no_stream} ->
        _ = Spine.ensure(spine, subjects.generation_spec)
        {:ok, nil}

      {:error, error} ->
        {:error, error}
    end
  end

  defp snapshots(_spine, _subject, false), do: {:ok, []}
  defp snapshots(spine, subject, true), do: snapshots(spine, subject, 1, [])

  # All of them, in as many reads as it takes: the older one alone would be taken for the newest.
  defp snapshots(spine, subject, from, found) do
    with {:ok, batch} <- messages(spine, subject, from, @snapshots_max - length(found)) do
      found = found ++ batch.entries

      if batch.more and length(found) < @snapshots_max,
        do: snapshots(spine, subject, elem(List.last(found), 0) + 1, found),
        else: {:ok, found}
    end
  end

  defp messages(_spine, _subject, nil, _max), do: {:ok, %{entries: [], more: false}}

  defp messages(spine, subject, from, max) do
    with {:ok, batch} <- Spine.read(spine, subject, max(from, 1), max, :leader) do
      {:ok, %{batch | entries: Enum.map(batch.entries, &{&1.seq, &1.body})}}
    end
  end
end
