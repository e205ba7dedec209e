defmodule Brain.Room.Core.Turn do
  @moduledoc "What a room does when nothing is awaited: confirm, renew its epoch, answer, build the next entry, or rest."

  alias Brain.Room.{Core, State}
  alias Brain.Room.Core.{Build, Confirm, Open, Queue, Snapshot, Speak, Sync}

  @doc "A deadline has passed."
  @spec on_wake(Core.t()) :: Core.t()
  def on_wake(core), do: core |> Snapshot.read_snapshots_if_due() |> retry_if_due()

  defp retry_if_due(%{retry: %{at: at}, now: {_, mono_ms}} = core) when at != nil and at <= mono_ms do
    Confirm.retry_now(%{core | retry: %{core.retry | at: nil}})
  end

  defp retry_if_due(core), do: core

  @doc "Finish what is in flight, answer, stop."
  @spec on_stop(Core.t()) :: Core.t()
  def on_stop(core) do
    core = %{core | stopping: true}

    # An entry of which no attempt is open is surely not stored.
    if not core.serving and (core.inflight == nil or core.inflight.attempts == 0),
      do: Speak.step_down(core, :stopped, :unavailable),
      else: core
  end

  @doc "Moves on as far as nothing is awaited."
  @spec pump(Core.t()) :: Core.t()
  def pump(%{retry: %{at: at}} = core) when at != nil, do: core
  def pump(%{phase: :ready} = core), do: core |> shorten() |> turn()

  # What is committed may be read and told whatever is in flight, as long as that is not unresolved.
  def pump(%{phase: :appending, serving: true} = core) do
    if Core.proven?(core) and not Core.unresolved?(core),
      do: core |> Open.answer_opens() |> Sync.answer_syncs(),
      else: core
  end

  def pump(core), do: core

  # Nothing is in flight, so what is committed is all there is: writes a snapshot if one is due and trims the log. After each
  # commit, for a saturated room never rests.
  defp shorten(%{stopping: true} = core), do: core
  defp shorten(core), do: core |> Snapshot.snapshot_if_due() |> Snapshot.trim()

  defp turn(core) do
    cond do
      core.renew_above == nil and quiet?(core) -> rest(core)
      not Core.proven?(core) -> Confirm.confirm(core)
      core.renew_above != nil -> Open.claim(core, true)
      true -> core |> speak() |> go_on() |> rest_if_ready()
    end
  end

  defp quiet?(core) do
    Queue.empty?(core.queue) and core.held == [] and core.opens == [] and
      State.ended(core.committed.state, Core.room_time(core)) == []
  end

  defp speak(core) do
    held = Enum.reverse(core.held)
    %{core | held: []} |> Speak.say_all(held) |> Open.answer_opens() |> Sync.answer_syncs()
  end

  defp go_on(core) do
    cond do
      core.renew_above != nil -> Open.claim(core, true)
      not Core.proven?(core) -> Confirm.confirm(core)
      true -> Build.build(core)
    end
  end

  defp rest_if_ready(%{phase: :ready, retry: %{at: nil}} = core) do
    if Queue.empty?(core.queue), do: rest(core), else: core
  end

  defp rest_if_ready(core), do: core

  # Nothing to do: stop if asked to, go dormant if it was quiet for long.
  defp rest(%{stopping: true} = core), do: Speak.step_down(core, :stopped, nil)

  defp rest(%{now: {_, mono_ms}} = core) do
    idle? = max(mono_ms - core.active_ms, 0) >= core.rules.idle_ms

    with true <- idle? and core.serving,
         {:quiet, core} <- Snapshot.snapshot_for_dormancy(core) do
      Speak.step_down(core, :idle, nil)
    else
      false -> core
      {:pending, core} -> core
    end
  end
end
