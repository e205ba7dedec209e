# What one durable command costs the room's core, from the bytes on `in.…` to the bytes of its answer:
# `mix run bench/core.exs`. The log is a counter that stores at once, so what is measured is the core alone, in time
# of one processor. The median of several rounds.
alias Brain.Codec
alias Brain.Proto.V1.{Command, Envelope, Say, Sender, Set}
alias Brain.Room.Core

defmodule Bench.Core do
  @moduledoc false
  @start_ms 1_760_000_000_000
  @reply "_INBOX.s.shield-1.1"

  # Sixteen users, whose clocks move on: more than 256 of one user in one millisecond would be too many to remember.
  def body(n, op) do
    Codec.encode(%Envelope{
      trace_id: "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
      room_id: "lobby",
      timestamp: @start_ms + div(n, 64),
      message_id: <<n::128>>,
      payload: {:cmd, %Command{op: op.(n)}},
      sender: %Sender{user: "user-#{rem(n, 16)}", conn: "c-0123456789", rights: 127, received_at: @start_ms}
    })
  end

  def open(n) do
    rules = %{Core.rules() | snapshot_entries: 1_000_000_000, snapshot_bytes: 1_000_000_000}
    core = Core.new({"acme", "room-#{n}"}, %{node: "brain-1", incarnation: 7, session: n}, rules)
    {core, effects} = Core.step(core, {@start_ms, 0}, {:open, @reply, true})
    drive({core, 0}, {@start_ms, 0}, effects)
  end

  # Does what the core asks for until it asks for nothing.
  def drive({core, pos}, now, effects) do
    Enum.reduce(effects, {core, pos}, fn effect, {core, pos} ->
      case outcome(effect, pos) do
        nil ->
          {core, pos}

        {input, pos} ->
          {core, effects} = Core.step(core, now, input)
          drive({core, pos}, now, effects)
      end
    end)
  end

  defp outcome({:append, token, pos, _body}, pos), do: {{:appended, token, {:stored, pos + 1}}, pos + 1}

  defp outcome({:read, token, _, _, _}, pos),
    do: {{:read, token, 1, %{gen_id: 9, snapshots: [], log: [], more: false}}, pos}

  defp outcome({:subscribe, token}, pos), do: {{:subscribed, token, true}, pos}
  defp outcome(_said, _pos), do: nil

  # Each group's first command is in flight while the others arrive.
  def play(room, bodies, group), do: play(room, bodies, group, 0)

  defp play({core, _pos}, bodies, _group, n) when n >= tuple_size(bodies), do: core

  defp play({core, pos}, bodies, group, n) do
    now = {@start_ms + div(n, 64), div(n, 64)}
    last = min(n + group, tuple_size(bodies)) - 1

    {core, calls} =
      Enum.reduce(n..last, {core, []}, fn n, {core, calls} ->
        {core, effects} = Core.step(core, now, {:message, @reply, elem(bodies, n)})
        {core, calls ++ effects}
      end)

    play(drive({core, pos}, now, calls), bodies, group, last + 1)
  end
end

count = 20_000

# In a process like a room's, and what is played lies outside of it: or else the collector's work on it would be measured.
round = fn n, key, group ->
  Task.async(fn ->
    for {flag, value} <- Brain.Room.spawn_options(), do: Process.flag(flag, value)
    room = Bench.Core.open(n)
    bodies = :persistent_term.get(key)
    {before, _} = :erlang.statistics(:runtime)
    core = Bench.Core.play(room, bodies, group)
    {now, _} = :erlang.statistics(:runtime)
    tail = Core.committed(core).tail
    if tail.seq != count, do: raise("#{tail.seq} of #{count} were stored")
    (now - before) * 1000 / count
  end)
  |> Task.await(:infinity)
end

measure = fn name, op, group ->
  :persistent_term.put(name, List.to_tuple(for(n <- 1..count, do: Bench.Core.body(n, op))))
  us = for(n <- 1..5, do: round.(n, name, group)) |> Enum.sort() |> Enum.at(2)
  :persistent_term.erase(name)
  IO.puts("#{String.pad_trailing(name, 40)} #{:erlang.float_to_binary(us, decimals: 2)} us, #{round(1_000_000 / us)}/s")
end

say = fn _ -> {:say, %Say{data: :binary.copy("x", 128), type: "text"}} end
set = fn n -> {:set, %Set{key: "key-#{rem(n, 64)}", value: :binary.copy("x", 64)}} end
measure.("say, one command an entry", say, 1)
measure.("say, 4 commands a group", say, 4)
measure.("say, 64 commands a group", say, 64)
measure.("set of 64 keys, 64 commands a group", set, 64)
