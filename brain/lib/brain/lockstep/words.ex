defmodule Brain.Lockstep.Words do
  @moduledoc """
  A room's inputs from messages of `lockstep.proto`, and its effects as such: the twin of
  `sim-tests/src/lockstep/wire.rs`.
  """

  alias Brain.Code
  alias Brain.Proto.Lockstep.{Answered, Append, Committed, Effect, Fenced, Head, Live, Note, Owned, Read, Refused}
  alias Brain.Proto.Lockstep.{Reply, Step, StepDown, Subscribe, Trim, Unresolved, Void, WriteGen, WriteSnapshot}
  alias Brain.Room.Core

  @doc "A room's input."
  @spec input(Step.input()) :: Core.input()
  def input({:open, open}), do: {:open, open.reply, open.create}
  def input({:message, message}), do: {:message, message.reply, message.body}
  def input({:read, read}), do: {:read, read.token, read.draw, found(read.found)}
  def input({:gen_written, written}), do: {:gen_written, written.token}
  def input({:appended, ended}), do: {:appended, ended.token, outcome(ended)}
  def input({:snapshot_written, ended}), do: {:snapshot_written, ended.token, outcome(ended)}
  def input({:subscribed, done}), do: {:subscribed, done.token, done.ok}
  def input({:reconnected, _}), do: :reconnected
  def input({:wake, _}), do: :wake
  def input({:stop, _}), do: :stop

  defp found(nil), do: nil

  defp found(found) do
    %{
      gen_id: found.gen_id,
      snapshots: stored(found.snapshots),
      log: stored(found.log),
      more: found.more
    }
  end

  defp stored(messages), do: for(message <- messages, do: {message.pos, message.body})

  defp outcome(%{outcome: :stored, pos: pos}), do: {:stored, pos}
  @outcomes [:wrong_last, :unresolved, :full, :unavailable, :too_big]
  defp outcome(%{outcome: outcome}) when outcome in @outcomes, do: outcome

  @doc "A room's effects."
  @spec effects([Core.effect()]) :: [Effect.t()]
  def effects(effects), do: for(effect <- effects, do: %Effect{effect: effect(effect)})

  defp effect({:read, token, gen_id?, snapshots?, log_from}) do
    {:read, %Read{token: token, gen_id: gen_id?, snapshots: snapshots?, log_from: log_from}}
  end

  defp effect({:write_gen, token, value}), do: {:write_gen, %WriteGen{token: token, value: value}}
  defp effect({:append, token, expect, body}), do: {:append, %Append{token: token, expect: expect, body: body}}

  defp effect({:write_snapshot, token, expect, body}) do
    {:write_snapshot, %WriteSnapshot{token: token, expect: expect, body: body}}
  end

  defp effect({:trim, keep}), do: {:trim, %Trim{keep: keep}}
  defp effect({:subscribe, token}), do: {:subscribe, %Subscribe{token: token}}
  defp effect({:reply, to, body}), do: {:reply, %Reply{to: to, body: body}}
  defp effect({:live, body}), do: {:live, %Live{body: body}}
  defp effect({:step_down, why}), do: {:step_down, %StepDown{why: why}}
  defp effect({:note, note}), do: {:note, %Note{note: note(note)}}

  defp note({:owned, epoch, term, pos}), do: {:owned, %Owned{epoch: epoch, term: term, pos: pos}}

  defp note({:committed, epoch, seq, message_id, user, envelope}) do
    {:committed, %Committed{epoch: epoch, seq: seq, message_id: message_id, user: user, envelope: envelope}}
  end

  defp note({:head, epoch, term, pos, events}), do: {:head, %Head{epoch: epoch, term: term, pos: pos, events: events}}

  defp note({:answered, user, message_id, code, duplicate?}) do
    {:answered, %Answered{user: user, message_id: message_id, code: code, duplicate: duplicate?}}
  end

  defp note({:fenced, term}), do: {:fenced, %Fenced{term: term}}
  defp note(:unresolved), do: {:unresolved, %Unresolved{}}
  defp note({:void, pos}), do: {:void, %Void{pos: pos}}
  defp note({:refused, code}), do: {:refused, %Refused{code: Code.number(code)}}
end
