defmodule Brain.Leash do
  @moduledoc """
  Ends the node when its standard input ends: whoever started it as a child holds the other end of a pipe, which the system
  closes however that process dies. Only with `--until-stdin-ends`, for a service manager gives no input at all.

  SIGTERM alone would not do: nobody sends one for a process that was killed, and the VM loses one that arrives while it
  boots. What arrives on the input is dropped.
  """

  use GenServer

  require Logger

  @doc "Watches standard input, or the file descriptor in `fd`. `ended` is called once."
  @spec start_link(%{required(:ended) => (() -> term), optional(:fd) => non_neg_integer}) :: GenServer.on_start()
  def start_link(options), do: GenServer.start_link(__MODULE__, options)

  @impl true
  def init(%{ended: ended} = options) do
    fd = Map.get(options, :fd, 0)
    {:ok, %{port: Port.open({:fd, fd, fd}, [:in, :eof, :binary]), ended: ended}}
  end

  @impl true
  def handle_info({port, :eof}, %{port: port} = state) do
    Logger.info("standard input ended: so does the node")
    state.ended.()
    {:noreply, state}
  end

  def handle_info({port, {:data, _}}, %{port: port} = state), do: {:noreply, state}
end
