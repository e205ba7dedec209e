defmodule Brain.Room.Core.Requests do
  @moduledoc "What arrives on `in.…`: checked, queued, or turned away at once if the room is full."

  alias Brain.{Codec, Subject}
  alias Brain.Room.{Answers, Core, Decide, Dedupe, Incoming}
  alias Brain.Room.Core.{Queue, Speak}
  alias Brain.Room.Incoming.Command

  @busy_retry_ms 200

  @doc "A message came."
  @spec on_message(Core.t(), nil | binary, binary) :: Core.t()
  def on_message(core, reply, body) do
    if reply != nil and Subject.shield_inbox?(reply) do
      {_, mono_ms} = core.now
      core = %{core | active_ms: mono_ms}

      case Incoming.read(body) do
        {:ok, incoming} -> take(core, reply, body, incoming)
        {:error, bad} -> refuse(core, reply, bad)
      end
    else
      # Answering elsewhere could turn the answer into a write of the asker's choosing: refused before it is looked at,
      # and not answered.
      Core.note(core, {:refused, :not_a_command})
    end
  end

  defp refuse(core, reply, bad) do
    refusal = %Decide.Refusal{code: bad.code, detail: bad.detail}
    ack = Answers.refused(bad.message_id, refusal)

    core
    |> Core.note({:refused, bad.code})
    |> Core.emit({:reply, reply, Codec.encode(ack)})
  end

  defp take(core, reply, body, incoming) do
    if Core.has_room?(core) do
      waiting =
        case incoming do
          {:command, command} -> {:command, reply, command, byte_size(body), core.sent}
          {:get, caller} -> {:get, reply, caller}
          {:sync, ask} -> {:sync, reply, ask, core.confirms}
        end

      %{core | queue: Queue.push(core.queue, waiting)}
    else
      turn_away(core, reply, incoming)
    end
  end

  # The queue is full: not applied, and said at once. Silent for a repeat of what is stored, or of what still waits and
  # may yet be; and without proof of ownership, for then another owner may apply it. What has the id of such a one and says
  # something else is no repeat: its id was used.
  defp turn_away(core, reply, {:command, command}) do
    case Core.proven?(core) and repeated(core, command) do
      false -> core
      :repeat -> core
      :reused -> turn_away(core, reply, command, Decide.Refusal.plain(:message_id_reused))
      nil -> turn_away(core, reply, command, %{Decide.Refusal.plain(:busy) | retry_after_ms: @busy_retry_ms})
    end
  end

  defp turn_away(core, reply, _get_or_sync), do: Speak.refuse_sync(core, reply, :busy)

  defp turn_away(core, reply, command, refusal) do
    ack = Answers.refused(command.id, refusal)
    core |> Speak.answered(command.caller.user, ack) |> Core.emit({:reply, reply, Codec.encode(ack)})
  end

  # If a command of this user and id is stored, waits, or was judged and may be stored: whether this one may be a repeat of
  # the first such one, or says something else.
  defp repeated(core, command) do
    case Dedupe.seen(core.committed.state.dedupe, command.caller.user, command.id) do
      nil ->
        case waiting(core, command) do
          nil -> nil
          first -> if Command.differs?(command, first), do: :reused, else: :repeat
        end

      seen ->
        if Command.repeats?(command, seen), do: :repeat, else: :reused
    end
  end

  defp waiting(core, %{id: id, caller: %{user: user}}) do
    taken = if core.inflight, do: core.inflight.taken, else: []

    Enum.find_value(taken ++ Queue.to_list(core.queue), fn
      {:command, _, %{id: ^id, caller: %{user: ^user}} = first, _, _} -> first
      _ -> nil
    end)
  end
end
