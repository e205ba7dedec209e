defmodule Brain.Mesh.Prepare do
  @moduledoc """
  One round over the streams that a node needs: each is created, or found right. Runs beside the Mesh, so that a node whose
  Spine is away can still be stopped.

  A broker can come back without its store, and an operator can delete a stream. So the Mesh runs a round at the start,
  after each reconnect, when a room's call failed, and every `check_ms/0`; and after a round that failed until one does not.
  """

  alias Brain.{Context, Spine}
  alias Brain.Spine.StreamSpec

  # While the streams are right, they are looked at so often.
  @check_ms 10_000

  @typedoc "`:differs`: a stream exists as something else. `:again`: another round may succeed. Both with the reason."
  @type result :: :ok | {:differs | :again, stream :: binary, why :: binary}

  @doc "Milliseconds between two rounds while the streams are right."
  @spec check_ms :: pos_integer
  def check_ms, do: @check_ms

  @doc "Begins a round; the task's result is a `t:result/0`."
  @spec begin(Context.t()) :: Task.t()
  def begin(context) do
    nats = context.config.nats
    Task.async(fn -> round(context, StreamSpec.all(nats.logs, nats.replicas, nats.log_max_bytes)) end)
  end

  @doc "The first stream that is not right, and why."
  @spec round(Context.t(), [StreamSpec.t()]) :: result
  def round(context, specs) do
    Enum.find_value(specs, :ok, fn spec ->
      case Spine.ensure(context.spine, spec) do
        :ok -> nil
        {:error, {:differs, _, _, _, _} = differs} -> {:differs, spec.name, Spine.explain(differs)}
        {:error, error} -> {:again, spec.name, Spine.explain(error)}
      end
    end)
  end
end
