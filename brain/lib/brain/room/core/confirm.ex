defmodule Brain.Room.Core.Confirm do
  @moduledoc """
  Proof of ownership: generation and head, read from the leaders, before anything is written or said after a reconnect or
  2 s without a PubAck. And the one place where answers to reads and retries are sent on their way.
  """

  alias Brain.Room.{Chain, Core, Fold, Saturating}
  alias Brain.Room.Core.{Commit, Open, Parts, Snapshot}

  @typedoc "A confirmation in progress: was the head found in its place, and where the log is read on from."
  @type progress :: {head_seen? :: boolean, from :: non_neg_integer}

  @doc "Begins one."
  @spec confirm(Core.t()) :: Core.t()
  def confirm(core), do: read_on(%{core | steady: true}, {false, core.committed.tail.pos})

  defp read_on(core, {head_seen?, from} = progress) do
    {core, token} = Core.ask(core)
    Core.emit(%{core | phase: {:confirming, progress}}, {:read, token, not head_seen?, false, from})
  end

  defp on_confirm(core, {false, _from}, draw, %{gen_id: nil}) do
    {core, token} = Core.ask(core)
    Core.emit(%{core | phase: :confirm_gen}, {:write_gen, token, draw})
  end

  defp on_confirm(core, {false, _from}, _draw, found) do
    tail = core.committed.tail

    case found.log do
      # If the generation is new: this same owner served through and its last entry is there, so nothing of this room
      # was lost.
      [{pos, body} | rest] when pos == tail.pos ->
        if Chain.chain(body) == tail.chain,
          do: walk(%{core | gen_id: found.gen_id}, rest, found),
          else: lost(core)

      _ ->
        lost(core)
    end
  end

  defp on_confirm(core, {true, _from}, _draw, found), do: walk(core, found.log, found)

  # What was acknowledged is no longer where it was: the log lost its tail.
  defp lost(core), do: Open.load(%{core | broken_at: core.committed.tail})

  defp walk(core, messages, found) do
    known = core.committed.tail.fence
    unknown = Enum.drop_while(messages, fn {pos, _body} -> pos <= known end)

    case step_over_void(core, unknown) do
      {:fenced, core} -> Commit.fenced(core)
      {:ok, core} -> confirmed(%{core | ahead: %{core.ahead | tail: core.committed.tail}}, found)
    end
  end

  defp step_over_void(core, []), do: {:ok, core}

  defp step_over_void(core, [{pos, body} | rest]) do
    case Fold.entry(core.committed, pos, body) do
      {committed, {:ok, _applied}} ->
        {:fenced, %{core | committed: committed}}

      {committed, {:error, _void}} ->
        %{core | committed: committed} |> Core.note({:void, pos}) |> step_over_void(rest)
    end
  end

  defp confirmed(core, %{more: true, log: [_ | _] = log}) do
    {pos, _body} = List.last(log)
    read_on(core, {true, Saturating.u64(pos + 1)})
  end

  defp confirmed(%{now: {_, mono_ms}} = core, _found) do
    %{
      core
      | retry: %Parts.Backoff{},
        confirms: core.confirms + 1,
        proof_ms: mono_ms,
        phase: :ready
    }
  end

  @doc "The read that was asked for ended; `nil`: it failed."
  @spec on_read(Core.t(), non_neg_integer, nil | Core.found()) :: Core.t()
  def on_read(core, _draw, nil), do: Core.pause(core)

  def on_read(%{phase: phase} = core, draw, found) do
    case phase do
      :load_head -> Open.on_load_head(core, draw, found)
      {:load_log, load} -> Open.on_load_log(core, load, found)
      :recheck -> Open.on_recheck(core, found)
      {:resolving, walked} -> Commit.on_resolve(core, walked, found)
      {:confirming, progress} -> on_confirm(core, progress, draw, found)
      _other -> core
    end
  end

  @doc "Asks the present phase's question again."
  @spec retry_now(Core.t()) :: Core.t()
  def retry_now(%{phase: phase} = core) do
    case phase do
      phase when phase in [:load_head, :load_gen] -> Open.load(core)
      :anchoring -> Snapshot.read_snapshots(core)
      {:load_log, load} -> Open.read_log(core, load)
      :appending -> Commit.send_entry(core)
      {:resolving, _walked} -> Commit.resolve(core)
      :recheck -> Open.recheck(core)
      :subscribing -> Open.subscribe(core)
      {:confirming, _progress} -> confirm(core)
      :confirm_gen -> confirm(core)
      phase when phase in [:new, :ready, :gone] -> core
    end
  end
end
