defmodule Brain.LockstepTest do
  use ExUnit.Case, async: true

  alias Brain.{Codec, Lockstep}
  alias Brain.Lockstep.Machines

  alias Brain.Proto.Lockstep.{
    Batch,
    BatchReply,
    Code,
    Forward,
    Heard,
    Identity,
    Lives,
    Living,
    OpenRoom,
    Rank,
    ReadDone,
    Reset,
    Rules,
    Step,
    Wake
  }

  defp played(steps) do
    {_machines, answer} = Lockstep.answer(Machines.new(), Codec.encode(%Batch{steps: steps}))
    {:ok, %BatchReply{replies: replies}} = Codec.decode(BatchReply, answer)
    replies
  end

  defp step(input, more \\ []) do
    struct!(%Step{machine: :room, key: "a", wall_ms: 1_760_000_000_000, input: input}, more)
  end

  defp reset do
    %Reset{
      tenant: "acme",
      room: "lobby",
      identity: %Identity{node: "brain-1", incarnation: 7, session: 1},
      rules: %Rules{idle_ms: 60_000, snapshot_entries: 10, snapshot_bytes: 100, trim_age_ms: 5, dedupe: 256}
    }
  end

  test "a core is made by reset, takes inputs, and its digest is that of its state" do
    [made, opened, failed] =
      played([
        step(nil, reset: reset(), digest: true),
        step({:open, %OpenRoom{reply: "_INBOX.s.shield-1.1", create: true}}),
        step({:read, %ReadDone{token: 1}}, state: true, mono_ms: 5)
      ])

    assert made.has_room and not made.serving and byte_size(made.digest) == 32 and made.state == ""
    assert [%{effect: {:read, %{token: 1, gen_id: true, snapshots: true, log_from: nil}}}] = opened.effects
    assert {failed.effects, failed.wake_at} == {[], 15}
    assert failed.digest == :crypto.hash(:sha256, failed.state) and failed.digest == made.digest
  end

  test "what a core raises is told, and the next step finds it as it was" do
    open = step({:open, %OpenRoom{reply: "_INBOX.s.shield-1.1", create: true}})
    [_, raised, opened] = played([step(nil, reset: reset()), step({:rank, %Rank{}}), open])
    assert raised.error =~ "FunctionClauseError" and raised.error =~ "words.ex"
    assert length(opened.effects) == 1
  end

  test "what was never made, and no machine at all, are answered" do
    assert [%{error: "no such core" <> _}, %{error: "no such peers" <> _}, %{error: "no such machine"}] =
             played([step({:wake, %Wake{}}), step(nil, machine: :placement), step(nil, machine: 99)])
  end

  test "peers are heard and ranked" do
    beat = Codec.encode(%Brain.Proto.Internal.Heartbeat{node: "brain-2", kind: 2, incarnation: 9})

    two = [%Living{node: "brain-1", incarnation: 3}, %Living{node: "brain-2", incarnation: 9}]

    [_, heard, garbage, lives, ranked] =
      played([
        step(nil, machine: :placement, reset: %Reset{down_after_ms: 100}),
        step({:heard, %Heard{beat: beat}}, machine: :placement),
        step({:heard, %Heard{beat: <<255>>}}, machine: :placement),
        step({:lives, %Lives{}}, machine: :placement),
        step({:rank, %Rank{tenant: "acme", room: "lobby", last_writer: 9, living: two}}, machine: :placement)
      ])

    assert [%{effect: {:heard, %{brain: true}}}] = heard.effects
    assert [%{effect: {:heard, %{brain: false}}}] = garbage.effects
    assert [%{effect: {:ranking, %{living: [%{node: "brain-2", incarnation: 9}]}}}] = lives.effects
    assert [%{effect: {:ranking, %{living: [%{node: "brain-2"}, %{node: "brain-1"}]}}}] = ranked.effects
  end

  test "bytes go through the codec, the canonical rule and the gate" do
    code = fn name, body -> step({:code, %Code{name: name, body: body}}, machine: :codec) end

    [head, turned, cut, internal, gate] =
      played([
        code.("arqon.v1.Head", <<8, 1, 16, 2>>),
        code.("arqon.v1.Head", <<16, 2, 8, 1>>),
        code.("arqon.v1.Head", <<8>>),
        code.("arqon.internal.v1.Tail", <<16, 1>>),
        step({:forward, %Forward{body: <<0>>}}, machine: :codec)
      ])

    assert [%{effect: {:coded, %{decoded: true, canonical: true, encoded: <<8, 1, 16, 2>>}}}] = head.effects
    assert [%{effect: {:coded, %{decoded: true, code: 1005, field: 1, encoded: <<8, 1, 16, 2>>}}}] = turned.effects
    assert [%{effect: {:coded, %{decoded: false, code: 1004}}}] = cut.effects
    assert [%{effect: {:coded, %{decoded: true, canonical: false, code: 0}}}] = internal.effects
    assert [%{effect: {:forwarded, %{ok: false, code: 1004}}}] = gate.effects
  end

  defp connected(path) do
    {:ok, socket} = :gen_tcp.connect({:local, path}, 0, [:binary, packet: 4, active: false])
    socket
  end

  defp asked(socket, step) do
    :ok = :gen_tcp.send(socket, Codec.encode(%Batch{steps: [step]}))
    {:ok, answer} = :gen_tcp.recv(socket, 0)
    {:ok, %BatchReply{replies: [reply]}} = Codec.decode(BatchReply, answer)
    reply
  end

  test "every connection is served, with cores of its own, until the first closes" do
    path = Path.join(System.tmp_dir!(), "arqon-lockstep-#{System.unique_integer([:positive])}")
    on_exit(fn -> File.rm(path) end)
    parent = self()
    {:ok, listener} = Lockstep.listen(path)
    spawn_link(fn -> send(parent, {:served, Lockstep.serve(listener)}) end)
    [first, second, third] = for _ <- 1..3, do: connected(path)
    assert asked(first, step(nil, reset: reset())).error == ""
    assert asked(second, step({:wake, %Wake{}})).error =~ "no such core"
    :gen_tcp.close(second)
    assert asked(third, step(nil, reset: reset())).error == ""
    assert asked(first, step({:wake, %Wake{}})).error == ""
    refute_received {:served, _}
    :gen_tcp.close(first)
    assert_receive {:served, :ok}, 60_000
  end
end
