defmodule Brain.Lockstep do
  @moduledoc """
  The cores of this application behind a Unix socket, for a driver that holds them to the reference model step by step
  (`proto/src/lockstep.proto`; `cargo sim lockstep`), and for simulated Brains that decide by them (`cargo sim run --brain
  elixir`). Started by hand on compiled modules, without the application:

      elixir -pa _build/dev/lib/brain/ebin -e 'Brain.Lockstep.main(System.argv())' PATH

  It says `ready` once it listens. Each connection has cores of its own and is served one frame after the other; the node
  ends with the first of them, its owner's. A core that raises is told in its step's answer; the next step finds it as it
  was before. `Brain.Lockstep.Machines` is what it serves.
  """

  alias Brain.Codec
  alias Brain.Lockstep.Machines
  alias Brain.Proto.Lockstep.{Batch, BatchReply}

  # Who started this connects at once.
  @connect_ms 60_000
  # 8 MB to begin with: a batch is a megabyte and more, and what becomes garbage with it was a third of all work to collect.
  @heap_words 1_000_000

  @doc "Serves at the socket that the one argument names, then ends the node."
  @spec main([binary()]) :: no_return()
  def main([path]) do
    {:ok, listener} = listen(path)
    IO.puts("ready")
    :ok = serve(listener)
    System.halt(0)
  end

  @doc "Listens at `path`. Frames: four bytes of length, big-endian, then the message."
  @spec listen(binary()) :: {:ok, :gen_tcp.socket()} | {:error, term()}
  def listen(path), do: :gen_tcp.listen(0, [:binary, packet: 4, active: false, ifaddr: {:local, path}])

  @doc "Serves the first connection until it closes, and every other one beside it."
  @spec serve(:gen_tcp.socket()) :: :ok
  def serve(listener) do
    {:ok, socket} = :gen_tcp.accept(listener, @connect_ms)
    machines = Machines.new()
    first = server(machines)
    monitor = Process.monitor(first)
    give(first, socket)
    others = spawn_link(fn -> accept(listener, machines) end)

    receive do
      {:DOWN, ^monitor, :process, _pid, :normal} -> :ok
      {:DOWN, ^monitor, :process, _pid, reason} -> exit(reason)
    end

    Process.unlink(others)
    Process.exit(others, :kill)
    :ok
  end

  defp accept(listener, machines) do
    {:ok, socket} = :gen_tcp.accept(listener)
    # What one driver sends is nothing to the others: no link.
    give(server(machines), socket)
    accept(listener, machines)
  end

  defp server(machines) do
    :erlang.spawn_opt(fn -> receive(do: ({:serve, socket} -> serve(socket, machines))) end, min_heap_size: @heap_words)
  end

  defp give(server, socket) do
    :ok = :gen_tcp.controlling_process(socket, server)
    send(server, {:serve, socket})
  end

  defp serve(socket, machines) do
    with {:ok, frame} <- :gen_tcp.recv(socket, 0),
         {machines, answer} = answer(machines, frame),
         :ok <- :gen_tcp.send(socket, answer) do
      serve(socket, machines)
    else
      {:error, :closed} -> :ok
    end
  end

  @doc "Answers one frame: a `Batch` by a `BatchReply`, each step by its reply, in order."
  @spec answer(Machines.t(), binary()) :: {Machines.t(), binary()}
  def answer(machines, frame) do
    {:ok, batch} = Codec.decode(Batch, frame)
    {replies, machines} = Enum.map_reduce(batch.steps, machines, &Machines.step(&2, &1))
    {machines, Codec.encode(%BatchReply{replies: replies})}
  end
end
