defmodule Brain.Context do
  @moduledoc """
  What every process of a node shares: a value, made once when the node's supervisor starts.

  Clock and randomness are functions in it, so that a test can put its own there. The sessions' counter stands beside the
  incarnation because the two together make entry ids: neither may outlive the other, so both live exactly as long as
  the node's supervisor, whatever restarts below it.
  """

  alias Brain.{Config, Metrics, Trace}
  alias Brain.Mesh.Tails

  @enforce_keys [
    :node,
    :bus,
    :config,
    :writer,
    :speaker,
    :spine,
    :incarnation,
    :rules,
    :metrics,
    :tails,
    :snapshots,
    :sessions,
    :started,
    :wall_ms,
    :random,
    :log,
    :trace
  ]
  defstruct @enforce_keys

  @type t :: %__MODULE__{
          node: binary,
          bus: atom,
          config: Config.t(),
          writer: atom,
          speaker: atom,
          spine: Brain.Spine.t(),
          incarnation: non_neg_integer,
          rules: map,
          metrics: Metrics.t(),
          tails: Tails.t(),
          snapshots: Brain.Mesh.Snapshots.t(),
          sessions: :counters.counters_ref(),
          started: integer,
          wall_ms: (() -> integer),
          random: (() -> non_neg_integer),
          log: nil | Brain.Log.t(),
          trace: nil | Trace.t()
        }

  @doc "Both clocks, read now: the wall's milliseconds since 1970, and the advancing ones since the node's start."
  @spec now(t) :: {integer, non_neg_integer}
  def now(context), do: {context.wall_ms.(), mono_ms(context)}

  @doc "The advancing clock: milliseconds since the node's start."
  @spec mono_ms(t) :: non_neg_integer
  def mono_ms(%__MODULE__{started: started}) when is_integer(started) do
    System.monotonic_time(:millisecond) - started
  end

  # OTP takes no timer of 2^32 ms or more. A process whose timer ends looks at its deadlines and sets the next one, so a
  # shorter timer costs one look a day.
  @timer_max_ms 86_400_000

  @doc "What a timer is set to that is due in `ms`: never below 0, at most a day."
  @spec timer_ms(integer) :: non_neg_integer
  def timer_ms(ms), do: ms |> max(0) |> min(@timer_max_ms)

  @doc "A number that no room process of this incarnation had before."
  @spec next_session(t) :: pos_integer
  def next_session(context) do
    :counters.add(context.sessions, 1, 1)
    :counters.get(context.sessions, 1)
  end

  @doc "Under which name a process of this node is found on its bus."
  @spec via(t | atom, term) :: {:via, Registry, {atom, term}}
  def via(%__MODULE__{bus: bus}, what), do: via(bus, what)
  def via(bus, what) when is_atom(bus), do: {:via, Registry, {bus, what}}

  @doc "A random 64-bit number of the system."
  @spec u64 :: non_neg_integer
  def u64 do
    <<number::unsigned-little-64>> = :crypto.strong_rand_bytes(8)
    number
  end
end
