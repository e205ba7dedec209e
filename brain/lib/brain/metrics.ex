defmodule Brain.Metrics do
  @moduledoc """
  A node's metrics: a value, never a global, so that several nodes can live in one VM. Counting is one atomic add.

  Names, helps and order are those of the Rust shell, and so is the text (OpenMetrics): a dashboard cannot tell the two
  apart. There are no labels, so there is nothing to bound.
  """

  @metrics [
    rooms: {:gauge, "brain_room_count", "Rooms that this node owns or is opening"},
    take_overs: {:counter, "brain_take_overs", "Rooms taken over"},
    entries: {:counter, "brain_commits", "Log entries committed"},
    events: {:counter, "brain_events", "Events committed"},
    fenced: {:counter, "brain_fenced_writes", "Rooms lost to another owner"},
    unresolved: {:counter, "brain_unresolved", "Appends whose outcome had to be found out"},
    void: {:counter, "brain_void_entries", "Log entries that count for nothing"},
    dedupe_hits: {:counter, "brain_dedupe_hits", "Repeats answered with their original place"},
    refused: {:counter, "brain_commands_refused", "Commands answered with a code other than 0"},
    unreadable: {:counter, "brain_requests_unreadable", "Requests refused before they came to a room"},
    lost: {:counter, "brain_deliveries_lost", "Messages dropped because a subscription was full"},
    publish_failed: {:counter, "brain_publish_failed", "Answers and live events that could not be sent"},
    rooms_crashed: {:counter, "brain_rooms_crashed", "Room processes that ended by an error"},
    snapshots: {:counter, "brain_snapshots", "Snapshots stored"},
    snapshots_failed: {:counter, "brain_snapshots_failed", "Snapshots that could not be stored, or not surely"},
    snapshots_pending: {:gauge, "brain_snapshots_pending", "Rooms whose newest snapshot is not stored yet"},
    ready: {:gauge, "brain_ready", "1 while the node can serve rooms: what /readyz says"},
    streams_ensured: {:counter, "brain_streams_ensured", "Times that the streams were found right, or made so"},
    spine_up: {:gauge, "brain_spine_up", "1 while both connections to NATS are up"},
    rooms_refused:
      {:counter, "brain_rooms_refused", "Opens refused because the node, or the tenant, holds as many rooms as it may"},
    log_dropped:
      {:counter, "brain_log_lines_dropped", "Log lines that were not written: standard error is slow or closed"},
    observer_restarts:
      {:counter, "brain_observer_restarts", "Times that the log sink or the metrics page was started again"}
  ]

  @opaque t :: :counters.counters_ref()
  @type name ::
          :rooms
          | :take_overs
          | :entries
          | :events
          | :fenced
          | :unresolved
          | :void
          | :dedupe_hits
          | :refused
          | :unreadable
          | :lost
          | :publish_failed
          | :rooms_crashed
          | :snapshots
          | :snapshots_failed
          | :snapshots_pending
          | :ready
          | :streams_ensured
          | :spine_up
          | :rooms_refused
          | :log_dropped
          | :observer_restarts

  @content_type "application/openmetrics-text; version=1.0.0; charset=utf-8"

  @doc "All at 0."
  @spec new :: t
  def new, do: :counters.new(length(@metrics), [])

  @doc "Adds to a counter."
  @spec add(t, name, non_neg_integer) :: :ok
  def add(metrics, name, count \\ 1), do: :counters.add(metrics, index(name), count)

  @doc "Sets a gauge."
  @spec set(t, name, integer) :: :ok
  def set(metrics, name, value), do: :counters.put(metrics, index(name), value)

  @doc "The value now."
  @spec get(t, name) :: integer
  def get(metrics, name), do: :counters.get(metrics, index(name))

  @doc "The content type of `encode/1`."
  @spec content_type :: String.t()
  def content_type, do: @content_type

  @doc "Everything as a scrape shows it."
  @spec encode(t) :: iolist
  def encode(metrics) do
    lines =
      for {name, {kind, shown, help}} <- @metrics do
        value = Integer.to_string(get(metrics, name))
        suffix = if kind == :counter, do: "_total ", else: " "
        ["# HELP ", shown, " ", help, ".\n# TYPE ", shown, " ", Atom.to_string(kind), "\n", shown, suffix, value, "\n"]
      end

    [lines, "# EOF\n"]
  end

  for {{name, _}, index} <- Enum.with_index(@metrics, 1) do
    defp index(unquote(name)), do: unquote(index)
  end
end
