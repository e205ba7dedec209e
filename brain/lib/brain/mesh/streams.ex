defmodule Brain.Mesh.Streams do
  @moduledoc """
  What the Mesh knows of the node's streams and of its two connections, and when the next round of `Brain.Mesh.Prepare` is
  due. Readiness is told from it. A value; the Mesh owns the timers and the task.
  """

  alias Brain.{Context, Metrics, Nats}
  alias Brain.Mesh.Prepare

  require Logger

  # Between two rounds: doubles while they fail.
  @pause_min_ms 50
  @pause_max_ms 1000
  # At most one round so often because a room's call failed.
  @doubt_ms 1000

  @enforce_keys [:context]
  defstruct [
    :context,
    # The round under way.
    :task,
    # A reference of the timer that counts; timers before it do not.
    :timer,
    # Whether a round is to follow the one under way.
    again: false,
    # Whether the streams were right at the last round; else why not.
    right: {:error, "starting: the streams are not verified yet"},
    # Whether they were right once.
    once: false,
    links: %{},
    pause: @pause_min_ms,
    ended: nil
  ]

  @type t :: %__MODULE__{}

  @doc "Watches both connections and begins the first round."
  @spec begin(Context.t()) :: t
  def begin(context) do
    links =
      for conn <- [context.writer, context.speaker], {:ok, link} <- [Nats.watch(conn)], into: %{}, do: {conn, link}

    shown(check(%__MODULE__{context: context, links: links}))
  end

  @doc "Begins a round, or has one follow that is under way."
  @spec check(t) :: t
  def check(%{task: nil} = streams), do: %{streams | task: Prepare.begin(streams.context), again: false, timer: nil}
  def check(streams), do: %{streams | again: true}

  @doc "A timer of `next/2` ended."
  @spec due(t, reference) :: t
  def due(%{timer: timer} = streams, timer), do: check(streams)
  def due(streams, _late), do: streams

  @doc "A room's call failed: perhaps a stream is gone. At most one round a second for this reason."
  @spec doubted(t) :: t
  def doubted(%{task: nil, right: :ok} = streams) do
    since = Context.mono_ms(streams.context) - streams.ended
    if since >= @doubt_ms, do: check(streams), else: next(streams, @doubt_ms - since)
  end

  def doubted(streams), do: streams

  @doc "A connection came or went. A broker that was away may have lost its store."
  @spec linked(t, atom, Nats.link()) :: t
  def linked(streams, conn, link) do
    streams = %{streams | links: Map.put(streams.links, conn, link)}

    if conn == streams.context.writer and link != :down and streams.once,
      do: shown(check(%{streams | right: {:error, "the streams are being verified after a reconnect"}})),
      else: shown(streams)
  end

  @doc "The round has this result. `:first`: the streams are right for the first time; `{:failed, why}`: they never will."
  @spec ended(t, Prepare.result()) :: {:ok | :first | {:failed, binary}, t}
  def ended(streams, :ok) do
    if streams.right != :ok and streams.once, do: Logger.info("the streams are right again")
    Metrics.add(streams.context.metrics, :streams_ensured)
    first = if streams.once, do: :ok, else: :first
    streams = %{streams | task: nil, right: :ok, once: true, pause: @pause_min_ms}
    {first, streams |> done() |> followed(Prepare.check_ms())}
  end

  def ended(%{once: false} = streams, {:differs, _stream, why}), do: {{:failed, why}, done(%{streams | task: nil})}

  def ended(streams, {_, stream, why}) do
    # Said once a reason: a broker that is away for an hour is one line.
    level = if streams.right == {:error, why}, do: :debug, else: :error
    Logger.log(level, "a stream is not right; trying again", stream: stream, error: why)
    streams = %{streams | task: nil, right: {:error, why}, pause: min(streams.pause * 2, @pause_max_ms)}
    {:ok, streams |> done() |> followed(streams.pause)}
  end

  defp done(streams), do: shown(%{streams | ended: Context.mono_ms(streams.context)})

  defp followed(%{again: true} = streams, _pause), do: check(streams)
  defp followed(streams, pause), do: next(streams, pause)

  defp next(streams, pause) do
    timer = make_ref()
    Process.send_after(self(), {:check_streams, timer}, pause)
    %{streams | timer: timer}
  end

  @doc "Whether the connections and the streams are right; else why not."
  @spec ready(t) :: :ok | {:error, binary}
  def ready(streams) do
    away = for {conn, :down} <- streams.links, do: role(streams.context, conn)

    cond do
      map_size(streams.links) < 2 -> {:error, "starting: no connection to NATS yet"}
      away != [] -> {:error, "the Spine is away: no connection to NATS of the #{Enum.join(away, " and the ")}"}
      true -> with {:error, why} <- streams.right, do: {:error, "the streams are not right: " <> why}
    end
  end

  defp role(context, conn), do: if(conn == context.writer, do: "writer", else: "speaker")

  defp shown(streams) do
    up? = map_size(streams.links) == 2 and not Enum.any?(streams.links, &match?({_, :down}, &1))
    Metrics.set(streams.context.metrics, :spine_up, if(up?, do: 1, else: 0))
    streams
  end
end
