defmodule Brain.NatsWorld do
  @moduledoc """
  A broker of a test's own and the ways to connect to it: what the contract's cases share, as `contract/tools.rs` does.
  """

  import ExUnit.Assertions
  import ExUnit.Callbacks, only: [start_supervised!: 2]

  alias Brain.{Nats, NatsServer, Spine}
  alias Brain.Spine.StreamSpec

  @soon_ms 30_000
  @quiet_ms 300

  @doc "The longest wait for something that must happen."
  @spec soon_ms() :: pos_integer
  def soon_ms, do: @soon_ms

  @doc "The wait in which something that must not happen would have happened."
  @spec quiet_ms() :: pos_integer
  def quiet_ms, do: @quiet_ms

  @doc "Starts a broker, without any stream."
  @spec world([NatsServer.option()]) :: pid
  def world(setup \\ []), do: start_supervised!({NatsServer, setup}, id: make_ref())

  @doc "A new connection, not yet up. Short intervals, so that faults are noticed within a case's time."
  @spec connect(pid, keyword) :: Nats.conn()
  def connect(world, options \\ []) do
    name = :"nats_#{System.unique_integer([:positive])}"

    defaults = [
      name: name,
      urls: [NatsServer.url(world)],
      inbox_prefix: "_INBOX.b.one",
      ping_interval_ms: 500,
      reconnect_max_ms: 250,
      publish_timeout_ms: 5_000
    ]

    start_supervised!({Nats, Keyword.merge(defaults, options)}, id: name)
    name
  end

  @doc "A connection that is up."
  @spec connected(pid, keyword) :: Nats.conn()
  def connected(world, options \\ []) do
    conn = connect(world, options)
    up(conn)
    conn
  end

  @doc "Options of a connection as one of the broker's users."
  @spec as(Brain.NatsUsers.user(), binary) :: keyword
  def as(user, inbox), do: [user: user.name, password: user.password, label: user.name, inbox_prefix: inbox]

  @doc "A Spine over it, with the connection's deadline."
  @spec spine(Nats.conn(), keyword) :: Spine.t()
  def spine(conn, options \\ []), do: Spine.new(conn, Keyword.merge([timeout_ms: 5_000], options))

  @doc "Waits until the link is up; gives its generation."
  @spec up(Nats.conn()) :: pos_integer
  def up(conn) do
    {:up, generation} = until_link(conn, &match?({:up, _generation}, &1))
    generation
  end

  @doc "Waits until the link is down."
  @spec down(Nats.conn()) :: :ok
  def down(conn) do
    until_link(conn, &(&1 == :down))
    :ok
  end

  # In a task of its own, so that the news do not stay in the test's mailbox.
  defp until_link(conn, wanted) do
    Task.await(
      Task.async(fn ->
        {:ok, link} = Nats.watch(conn)
        until_link(conn, wanted, link)
      end),
      @soon_ms + 1_000
    )
  end

  defp until_link(conn, wanted, link) do
    if wanted.(link) do
      link
    else
      assert_receive {:nats_link, ^conn, link}, @soon_ms
      until_link(conn, wanted, link)
    end
  end

  @doc "Subscribes, and fails the test if it cannot."
  @spec listen(Nats.conn(), binary, binary | nil, pos_integer) :: Nats.Sub.t()
  def listen(conn, subject, queue \\ nil, max \\ 1_024) do
    assert {:ok, sub} = Nats.subscribe(conn, subject, queue, max: max)
    sub
  end

  @doc "The next message, acknowledged."
  @spec next(Nats.Sub.t()) :: Nats.message()
  def next(sub) do
    receive do
      {:nats, ^sub, message} ->
        Nats.ack(sub, 1)
        message

      {:nats_lost, ^sub, count} ->
        flunk("lost #{count} messages instead of a message")

      {:nats_ended, ^sub, reason} ->
        flunk("the subscription ended (#{inspect(reason)}) instead of a message")
    after
      @soon_ms -> flunk("no message")
    end
  end

  @doc "The next `n` messages' bodies."
  @spec bodies(Nats.Sub.t(), non_neg_integer) :: [binary]
  def bodies(sub, n), do: for(_ <- 1..n//1, do: next(sub).body)

  @doc "Nothing may come now."
  @spec silent(Nats.Sub.t()) :: :ok
  def silent(sub) do
    refute_receive {:nats, ^sub, _message}, @quiet_ms
    refute_received {:nats_lost, ^sub, _count}
    refute_received {:nats_ended, ^sub, _reason}
    :ok
  end

  @doc "Every stream of a small deployment."
  @spec streams(Spine.t()) :: :ok
  def streams(spine) do
    for spec <- StreamSpec.all(1, 1, 67_108_864), do: assert(:ok = Spine.ensure(spine, spec))
    :ok
  end

  @doc "Tries until it holds: for what the broker does in its own time and tells nobody of."
  @spec eventually((() -> result)) :: result when result: term
  def eventually(look, left_ms \\ @soon_ms) do
    cond do
      result = look.() ->
        result

      left_ms <= 0 ->
        flunk("it never held")

      true ->
        Process.sleep(20)
        eventually(look, left_ms - 20)
    end
  end
end
