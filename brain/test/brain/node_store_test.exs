defmodule Brain.NodeStoreTest do
  # The broker loses its store, or a stream of it, under a running node.
  use ExUnit.Case, async: true

  import Brain.NodeWorld

  alias Brain.{Codec, Metrics, NatsServer, Node, Spine, Subject}
  alias Brain.Proto.{Internal, V1}

  @moduletag :capture_log
  @moduletag timeout: 240_000
  @key {"acme", "lobby"}

  defp until_ready(brain), do: eventually(fn -> with {:error, why} <- Node.ready(brain.bus), do: {:again, why} end)

  defp until_unready(brain, words) do
    eventually(fn ->
      case Node.ready(brain.bus) do
        {:error, why} -> if why =~ words, do: :ok, else: {:again, why}
        :ok -> :again
      end
    end)
  end

  defp resume(shield, epoch) do
    sync = %V1.Sync{since: %V1.Head{epoch: epoch, seq: 3}}
    ask = %V1.Envelope{room_id: "lobby", payload: {:signal, %V1.SystemSignal{ask: {:sync, sync}}}}
    ask = %{ask | sender: %V1.Sender{user: "ann", conn: "c1", rights: 127}}

    {:ok, reply} =
      Codec.decode(Internal.SyncReply, answer(shield, send_to(shield, Subject.input(@key), Codec.encode(ask)), 60_000))

    reply
  end

  test "a broker without its store gets its streams again, a new epoch begins, and readiness tells the truth" do
    world = world(["brain-1"])
    brain = brain(world, "brain-1")
    shield = shield(world)
    acks = for n <- 1..5, do: ask(shield, @key, say(@key, "ann", "#{n}"))
    %{epoch: epoch, seq: 5} = List.last(acks)
    assert Node.ready(brain.bus) == :ok
    assert {Metrics.get(brain.metrics, :ready), Metrics.get(brain.metrics, :spine_up)} == {1, 1}

    NatsServer.lose_store(world)
    until_unready(brain, "the Spine is away")
    assert {Metrics.get(brain.metrics, :ready), Metrics.get(brain.metrics, :spine_up)} == {0, 0}
    NatsServer.restart(world)

    assert %{code: 0, seq: 1, epoch: later} = ask(shield, @key, say(@key, "ann", "after"))
    assert later > epoch
    assert %{recovered: false, epoch: ^later, snapshot: [_]} = resume(shield, epoch)
    until_ready(brain)
    other = {"acme", "study"}
    assert %{code: 0, seq: 1} = ask(shield, other, say(other, "ann", "hello"))
  end

  test "a stream that somebody deleted is made again under a running node, and its rooms begin a new epoch" do
    world = world(["brain-1"])
    brain = brain(world, "brain-1")
    shield = shield(world)
    operator = operator(world, "_INBOX.o")
    acks = for n <- 1..5, do: ask(shield, @key, say(@key, "ann", "#{n}"))
    %{epoch: epoch, seq: 5} = List.last(acks)

    deadline = Spine.Call.deadline(operator.spine)
    assert {:ok, %{"success" => true}} = Spine.Call.api(operator.spine, "STREAM.DELETE.LOG_0", %{}, deadline)
    after_it = say(@key, "ann", "after")

    # Refused as long as the stream is away; the same bytes again, as a client does it.
    {:ok, %{epoch: later}} =
      eventually(fn ->
        case ask(shield, @key, after_it) do
          %{code: 0} = ack -> {:ok, ack}
          %{code: code} -> {:again, code}
        end
      end)

    assert later > epoch
    until_ready(brain)
    assert [%{seq: 1, epoch: ^later}] = shield |> log(@key) |> events()
  end
end
