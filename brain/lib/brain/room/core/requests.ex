defmodule Brain.Room.Core.Requests do
  @moduledoc "What arrives on `in.…`: checked, queued, or turned away at once if the room is full."

  alias Brain.{Codec, Subject}
  alias Brain.Room.{Answers, Core, Decide, Dedupe, Incoming}
  alias Brain.Room.Core.{Queue, Speak}

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
          {:get, _caller} -> {:get, reply}
          {:sync, ask} -> {:sync, reply, ask, core.confirms}
        end

      %{core | queue: Queue.push(core.queue, waiting)}
    else
      turn_away(core, reply, incoming)
    end
  end

  # The queue is full: not applied, and said at once. Silent for a repeat of what is stored, or of what still waits and
  # may yet be; and without proof of ownership, for then another owner may apply it.
  defp turn_away(core, reply, {:command, command}) do
    user = command.caller.user

    if Dedupe.knows?(core.committed.state.dedupe, user, command.id) or not Core.proven?(core) or
         waiting?(core, user, command.id) do
      core
    else
      refusal = %{Decide.Refusal.plain(:busy) | retry_after_ms: @busy_retry_ms}
      ack = Answers.refused(command.id, refusal)
      core |> Speak.answered(user, ack) |> Core.emit({:reply, reply, Codec.encode(ack)})
    end
  end

  defp turn_away(core, reply, _get_or_sync), do: Speak.refuse_sync(core, reply, :busy)

  # True if a command with this id waits, or was judged and may be stored.
  defp waiting?(core, user, id) do
    same? = fn
      {:command, _, %{id: ^id, caller: %{user: ^user}}, _, _} -> true
      _ -> false
    end

    Queue.any?(core.queue, same?) or
      (core.inflight != nil and Enum.any?(core.inflight.taken, same?))
  end
end
