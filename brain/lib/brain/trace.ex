defmodule Brain.Trace do
  @moduledoc """
  The trace file: what the simulator's oracles read, one JSON object a line, in the form that `docs/trace.md` describes.

  It has no holes: a room waits until its records are taken, before anything that they tell leaves the room, and the first
  failure ends the trace. Where no trace file is configured nothing is built and nobody waits.
  """

  use GenServer

  require Logger

  alias Brain.Log.Json

  # How much, and how long, may wait in memory.
  @buffer {:delayed_write, 64 * 1024, 100}

  @typedoc "The process that writes."
  @type t :: GenServer.server()

  @doc "Starts the writer for `host`; fails if the file cannot be opened."
  @spec start_link(%{name: GenServer.name(), path: Path.t(), host: binary}) :: GenServer.on_start()
  def start_link(options), do: GenServer.start_link(__MODULE__, options, name: options.name)

  @doc "Writes records, each its kind and keys in order."
  @spec write(nil | t, [{atom, keyword}]) :: :ok
  def write(nil, _), do: :ok
  def write(_, []), do: :ok
  def write(trace, records), do: GenServer.call(trace, {:write, records}, :infinity)

  @doc "The first 16 hex digits of the SHA-256 of some bytes."
  @spec hash16(binary) :: binary
  def hash16(bytes) do
    <<first::binary-8, _::binary>> = :crypto.hash(:sha256, bytes)
    Base.encode16(first, case: :lower)
  end

  @doc "The record of a room's note, `nil` for those that the trace does not tell."
  @spec record(tuple | atom, binary) :: nil | {atom, keyword}
  def record({:owned, epoch, term, _pos}, room), do: {:owned, room: room, epoch: epoch, term: term}

  def record({:committed, epoch, seq, message_id, user, envelope}, room) do
    m = Brain.Log.hex(message_id) || ""
    {:commit, room: room, epoch: epoch, seq: seq, m: m, user: user, h: hash16(envelope)}
  end

  def record({:answered, _user, message_id, code, _duplicate}, _room) do
    {:answer, m: Brain.Log.hex(message_id), code: code}
  end

  def record({:fenced, term}, room), do: {:fenced, room: room, term: term}
  def record(_, _), do: nil

  @doc "One line of the file."
  @spec line(non_neg_integer, non_neg_integer, binary, {atom, keyword}) :: iolist
  def line(n, t, host, {kind, keys}) do
    [Json.object([v: 1, n: n, t: t, host: host, k: kind] ++ keys), ?\n]
  end

  @impl true
  def init(%{path: path, host: host}) do
    # What waits in memory is written out at a stop.
    Process.flag(:trap_exit, true)

    case :file.open(path, [:append, :raw, :binary, @buffer]) do
      {:ok, file} ->
        {:ok, %{file: file, host: host, began: System.monotonic_time(:microsecond), n: 0}}

      {:error, reason} ->
        {:stop, {:trace_file, "[log] trace_file #{path}: #{:file.format_error(reason)}"}}
    end
  end

  @impl true
  def handle_call({:write, _}, _from, %{file: nil} = state), do: {:reply, :ok, state}

  def handle_call({:write, records}, _from, state) do
    t = System.monotonic_time(:microsecond) - state.began
    {lines, n} = Enum.map_reduce(records, state.n, &{line(&2, t, state.host, &1), &2 + 1})

    case :file.write(state.file, lines) do
      :ok ->
        {:reply, :ok, %{state | n: n}}

      {:error, reason} ->
        Logger.error("the trace cannot be written and ends here: #{:file.format_error(reason)}")
        {:reply, :ok, %{state | file: nil}}
    end
  end

  @impl true
  def terminate(_, %{file: nil}), do: :ok
  def terminate(_, %{file: file}), do: :file.close(file)
end
