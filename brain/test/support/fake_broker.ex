defmodule Brain.FakeBroker do
  @moduledoc """
  A broker made of a bare socket: the test says every byte. For what a real one never sends, or only rarely.
  """

  import ExUnit.Assertions
  import ExUnit.Callbacks, only: [start_supervised!: 2]

  alias Brain.Nats

  @limit_ms 30_000

  defstruct [:listener, :port]

  @type t :: %__MODULE__{listener: :gen_tcp.socket(), port: :inet.port_number()}

  @doc "Listens."
  @spec start() :: t
  def start do
    {:ok, listener} = :gen_tcp.listen(0, [:binary, active: false, ip: {127, 0, 0, 1}, reuseaddr: true, nodelay: true])
    {:ok, port} = :inet.port(listener)
    %__MODULE__{listener: listener, port: port}
  end

  @doc "Its `INFO`."
  @spec info(map) :: binary
  def info(more \\ %{}) do
    info = Map.merge(%{"server_id" => "FAKE", "max_payload" => 1_048_576, "headers" => true}, more)
    IO.iodata_to_binary(["INFO ", :jiffy.encode(info), "\r\n"])
  end

  @doc "A connection to it, not yet up."
  @spec connect(t, keyword) :: Nats.conn()
  def connect(broker, options \\ []) do
    name = :"fake_#{System.unique_integer([:positive])}"

    defaults = [
      name: name,
      urls: ["nats://127.0.0.1:#{broker.port}"],
      ping_interval_ms: 10_000,
      reconnect_max_ms: 20,
      publish_timeout_ms: 1_000,
      unique: fn -> "unique" end
    ]

    start_supervised!({Nats, Keyword.merge(defaults, options)}, id: name)
    name
  end

  @doc "The next connection made to it, greeted up to its `CONNECT` and `PING`."
  @spec accept(t, binary) :: :gen_tcp.socket()
  def accept(broker, info \\ info()) do
    {:ok, socket} = :gen_tcp.accept(broker.listener, @limit_ms)
    say(socket, info)
    assert "CONNECT {" <> _ = line(socket)
    assert line(socket) == "PING"
    socket
  end

  @doc "Accepts, and answers all that a client sends until it is up. Gives the lines between the two PINGs."
  @spec serve(t) :: {:gen_tcp.socket(), [binary]}
  def serve(broker) do
    socket = accept(broker)
    say(socket, "PONG\r\n")
    lines = lines_until(socket, "PING", [])
    say(socket, "PONG\r\n")
    {socket, lines}
  end

  @doc "Sends bytes."
  @spec say(:gen_tcp.socket(), iodata) :: :ok
  def say(socket, bytes), do: :ok = :gen_tcp.send(socket, bytes)

  @doc "The next line, without its end."
  @spec line(:gen_tcp.socket()) :: binary
  def line(socket) do
    :ok = :inet.setopts(socket, packet: :line)
    assert {:ok, line} = :gen_tcp.recv(socket, 0, @limit_ms)
    String.trim_trailing(line, "\r\n")
  end

  @doc "True when the client has hung up."
  @spec hung_up?(:gen_tcp.socket()) :: boolean
  def hung_up?(socket) do
    :ok = :inet.setopts(socket, packet: :raw)

    case :gen_tcp.recv(socket, 0, @limit_ms) do
      {:ok, _bytes} -> hung_up?(socket)
      {:error, reason} -> reason in [:closed, :econnreset]
    end
  end

  defp lines_until(socket, last, lines) do
    case line(socket) do
      ^last -> Enum.reverse(lines)
      line -> lines_until(socket, last, [line | lines])
    end
  end
end
