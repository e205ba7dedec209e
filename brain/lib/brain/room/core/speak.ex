defmodule Brain.Room.Core.Speak do
  @moduledoc "Answering: what leaves once ownership is proven, and what is told when the room is served no longer."

  alias Brain.{Code, Codec, Rights}
  alias Brain.Room.{Answers, Core, Decide, Dedupe, Incoming, State}
  alias Brain.Room.Core.{Parts, Queue}

  @doc "Ends it. `lost`: the code for what surely was not applied; `nil` where nothing waits."
  @spec step_down(Core.t(), Core.why(), nil | Code.t()) :: Core.t()
  def step_down(core, why, lost) do
    inflight = core.inflight

    core =
      if lost == nil do
        %{core | inflight: nil}
      else
        waiting = Queue.to_list(core.queue)
        taken = if inflight == nil, do: [], else: inflight.taken
        core = %{core | inflight: nil, queue: Queue.new()}
        Enum.reduce(taken ++ waiting, core, &tell_lost(&2, &1, lost))
      end

    core =
      core.opens
      |> Enum.reverse()
      |> Enum.reduce(%{core | opens: []}, fn {reply, _create}, core ->
        body = Answers.opened(core.me.node, core.committed.tail, refusal_of_open(why))
        Core.emit(core, {:reply, reply, body})
      end)

    Core.emit(
      %{core | held: [], serving: false, phase: :gone, retry: %{core.retry | at: nil}},
      {:step_down, why}
    )
  end

  defp refusal_of_open(:absent), do: :room_absent
  defp refusal_of_open(:refused), do: :log_full
  defp refusal_of_open(_why), do: :unavailable

  @doc "Tells who waits that it was not applied."
  @spec tell_lost(Core.t(), Parts.waiting(), Code.t()) :: Core.t()
  # It may have come to the next owner as well, whose business it then is.
  def tell_lost(%{alone_before: alone_before} = core, {:command, _, _, _, arrived}, :not_applied)
      when arrived >= alone_before,
      do: core

  def tell_lost(%{committed: committed} = core, {:command, reply, command, _, _}, code) do
    user = command.caller.user

    # A repeat of what is stored was not applied *now*; to call it "surely not applied" would mislead.
    if Dedupe.knows?(committed.state.dedupe, user, command.id) do
      core
    else
      ack = Answers.refused(command.id, Decide.Refusal.plain(code))
      core |> answered(user, ack) |> Core.emit({:reply, reply, Codec.encode(ack)})
    end
  end

  # It needs an entry, too: of a full log no repeat makes one.
  def tell_lost(core, {:get, reply, _}, :log_full), do: refuse_sync(core, reply, :log_full)
  def tell_lost(core, {:get, reply, _}, _code), do: refuse_sync(core, reply, :unavailable)
  def tell_lost(core, {:sync, reply, _, _}, _code), do: refuse_sync(core, reply, :unavailable)

  @doc "Refuses a sync or a get."
  @spec refuse_sync(Core.t(), binary, Code.t()) :: Core.t()
  def refuse_sync(core, reply, code) do
    Core.emit(core, {:reply, reply, Answers.sync_refused(code, core.committed.tail)})
  end

  @doc "Says it all now if ownership is proven, else after the next confirmation."
  @spec say_all(Core.t(), [Parts.said()]) :: Core.t()
  def say_all(core, []), do: core

  def say_all(core, said) do
    if Core.proven?(core),
      do: Enum.reduce(said, core, &say(&2, &1)),
      else: %{core | held: Enum.reverse(said, core.held)}
  end

  defp say(core, {:ack, reply, user, ack}) do
    core |> answered(user, ack) |> Core.emit({:reply, reply, Codec.encode(ack)})
  end

  defp say(core, {:live, body}), do: Core.emit(core, {:live, body})

  defp say(core, {:get, reply, caller}) do
    case barred(core, caller) do
      nil ->
        head = Answers.sync_head(core.committed.tail)
        answer = %{head | snapshot: Answers.snapshot(core.key, core.committed)}
        Core.emit(core, {:reply, reply, Codec.encode(answer)})

      code ->
        refuse_sync(core, reply, code)
    end
  end

  @doc "Why this caller may not see the room; `nil`: it may. The same for SUB and `get`: both give the state away."
  @spec barred(Core.t(), Incoming.Caller.t()) :: nil | Code.t()
  def barred(core, caller) do
    lock = State.lock(core.committed.state)

    cond do
      not Rights.has?(caller.rights, :sub) -> :permission_denied
      Rights.has?(caller.rights, :mod) or lock == nil -> nil
      State.LockState.bars_join?(lock) -> :room_locked
      true -> nil
    end
  end

  @doc "Notes an answer to a command."
  @spec answered(Core.t(), nil | binary, Brain.Proto.V1.Ack.t()) :: Core.t()
  def answered(core, user, %{message_id: <<_::binary-size(16)>> = id} = ack) do
    Core.note(core, {:answered, user, id, ack.code, ack.duplicate})
  end

  def answered(core, _user, _ack), do: core
end
