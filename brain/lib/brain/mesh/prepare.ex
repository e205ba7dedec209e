defmodule Brain.Mesh.Prepare do
  @moduledoc """
  What a node needs before it can serve: the streams, tried until they are there. Runs beside the Mesh, so that a node
  whose Spine is away can still be stopped.
  """

  require Logger

  alias Brain.{Context, Spine}
  alias Brain.Spine.StreamSpec

  @pause_min_ms 50
  @pause_max_ms 1000

  @doc "Its result is `:ok`, or `{:failed, why}` if a stream exists as something else."
  @spec begin(Context.t()) :: Task.t()
  def begin(context) do
    nats = context.config.nats
    Task.async(fn -> streams(context, StreamSpec.all(nats.logs, nats.replicas, nats.log_max_bytes)) end)
  end

  defp streams(context, specs) do
    Enum.reduce_while(specs, :ok, fn spec, :ok ->
      case ensured(context, spec, @pause_min_ms) do
        :ok -> {:cont, :ok}
        failed -> {:halt, failed}
      end
    end)
  end

  defp ensured(context, spec, pause_ms) do
    case Spine.ensure(context.spine, spec) do
      :ok ->
        :ok

      {:error, differs} when elem(differs, 0) == :differs ->
        {:failed, Spine.explain(differs)}

      {:error, error} ->
        Logger.warning("the Spine does not answer; trying again", stream: spec.name, error: Spine.explain(error))
        ensured(context, spec, pause(pause_ms))
    end
  end

  defp pause(pause_ms) do
    Process.sleep(pause_ms)
    min(pause_ms * 2, @pause_max_ms)
  end
end
