defmodule Brain.Lockstep do
  @moduledoc """
  The cores of this application behind a Unix socket, for a driver that holds them to the reference model step by step
  (`proto/src/lockstep.proto`; `cargo sim lockstep`). Started by hand on compiled modules, without the application:

      elixir -pa _build/dev/lib/brain/ebin -e 'Brain.Lockstep.main(System.argv())' PATH

  It says `ready` once it listens, serves one connection, one frame after the other, and ends with it. A core that raises
  is told in its step's answer; the next step finds it as it was before. `Brain.Lockstep.Machines` is what it serves.
  """

  alias Brain.Codec
  alias Brain.Lockstep.Machines
  alias Brain.Proto.Lockstep.{Batch, BatchReply}

  # Who started this connects at once.
  @connect_ms 60_000

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

  @doc "Serves the first connection until it closes."
  @spec serve(:gen_tcp.socket()) :: :ok
  def serve(listener) do
    {:ok, socket} = :gen_tcp.accept(listener, @connect_ms)
    serve(socket, Machines.new())
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
