defmodule Brain.Nats do
  @moduledoc """
  A NATS client on `:gen_tcp` and `:ssl`: one supervised connection, which is one NATS user.

      {:ok, _pid} = Brain.Nats.start_link(name: :speaker, urls: ["nats://127.0.0.1:4222"], inbox_prefix: "_INBOX.b.b1")
      {:ok, sub} = Brain.Nats.subscribe(:speaker, "in.t.*.r.*", nil, max: 1_024)
      receive do
        {:nats, ^sub, %{body: body, reply: reply}} ->
          Brain.Nats.publish(:speaker, reply, nil, body)
          Brain.Nats.ack(sub, 1)
      end

  What it promises, each with a case in `test/brain/nats`:

  1. **Nothing here waits for the broker** but `request/5`, `subscribe/4` and `stop/2`, which have deadlines. While there
     is no connection, publishes and requests are refused at once with `:closed`; nothing is kept for a later one.
  2. `:ok` of a publish means queued, at most once: a lost connection loses what was queued, in silence. What must be
     known to have arrived is asked for by `request/5`, whose calls fail with `:closed` the moment the connection is lost.
  3. **Everything is bounded**: the queue to the socket (`:full`), requests in flight (`:full`), a subscriber's mailbox
     (`{:nats_lost, sub, count}`, see `Brain.Nats.Sub`), lines, frames.
  4. After a reconnect every subscription is made again before anything else is sent, and the link is announced as up
     only when the broker has answered a PING behind them.
  5. A payload over the broker's `max_payload` is refused here: the broker would end the connection.
  6. Whatever bytes come, this process does not crash: it says what was wrong and connects again.

  Messages to processes:

  | message | to | when |
  | --- | --- | --- |
  | `{:nats, sub, message}` | the subscriber | a message; each is answered for with `ack/2` |
  | `{:nats_lost, sub, count}` | the subscriber | so many are missing here; needs no `ack/2` |
  | `{:nats_ended, sub, reason}` | the subscriber | the broker denied it later, or the connection's process ends |
  | `{:nats_subscribed, tag, {:ok, sub} \\| {:error, reason}}` | who called `subscribe_async/5` | confirmed or refused |
  | `{:nats_reply, tag, {:ok, message} \\| {:error, reason}}` | who called `request_async/6` | once |
  | `{:nats_link, name, {:up, generation} \\| :down}` | who called `watch/1` | at each change |

  The connection is named by the atom it was started with. If its process ends, subscriptions end with it.
  """

  alias Brain.Nats.{Connection, Encoder, Frames, Headers, Options, Sub, Writer}

  @type conn :: atom
  @type message :: Frames.message()
  @type link :: {:up, generation :: pos_integer} | :down
  @type publish_error :: :closed | :full | :too_big | :bad_subject
  @type request_error :: :no_responders | :timeout | :closed | :full | :too_big | :bad_subject
  @type subscribe_error :: {:denied, binary} | :timeout | :closed | :full | :bad_subject | :unsubscribed

  @doc "Starts a connection, which then connects for as long as it takes. Options: `Brain.Nats.Options`."
  @spec start_link(keyword) :: GenServer.on_start()
  def start_link(options) do
    case Options.new(options) do
      {:ok, options} -> Connection.start_link(options)
      {:error, text} -> {:error, {:bad_option, text}}
    end
  end

  @doc "For a supervisor. The password is hidden in a function, so that no report prints it."
  @spec child_spec(keyword) :: Supervisor.child_spec()
  def child_spec(options) do
    # Long enough for `stop/2`'s last write.
    limit = Keyword.get(options, :publish_timeout_ms, 2_000) + 3_000
    start = {__MODULE__, :start_link, [Options.hide(options)]}
    %{id: {__MODULE__, options[:name]}, start: start, type: :worker, shutdown: limit}
  end

  @doc """
  Writes out what is queued, for at most the connection's `publish_timeout_ms`, and ends: subscriptions end, calls fail
  with `:closed`. One that a supervisor has started is stopped by that one, in the same way: here it would come back.
  """
  @spec stop(conn) :: :ok
  def stop(conn) do
    GenServer.stop(conn, :normal)
  catch
    :exit, _gone -> :ok
  end

  @doc "Queues a message. Never waits."
  @spec publish(conn, binary, binary | nil, iodata) :: :ok | {:error, publish_error}
  def publish(conn, subject, reply, body) do
    with true <- Encoder.subject?(subject) and (is_nil(reply) or Encoder.subject?(reply)),
         {:link, _generation, writer, counters, max_payload, bounds} <- row(conn, :link),
         true <- IO.iodata_length(body) <= max_payload || :too_big do
      Writer.push(writer, counters, Encoder.pub(subject, reply, body), bounds)
    else
      false -> {:error, :bad_subject}
      :too_big -> {:error, :too_big}
      :none -> {:error, :closed}
    end
  end

  @doc "Publishes and waits for the first answer, at most `limit_ms`. Nobody listens there: `:no_responders`, at once."
  @spec request(conn, binary, Headers.t(), iodata, non_neg_integer) :: {:ok, message} | {:error, request_error}
  def request(conn, subject, headers, body, limit_ms) do
    tag = make_ref()
    monitor = Process.monitor(conn)
    :ok = request_async(conn, subject, headers, body, limit_ms, tag)

    receive do
      {:nats_reply, ^tag, result} ->
        Process.demonitor(monitor, [:flush])
        result

      {:DOWN, ^monitor, :process, _conn, _reason} ->
        # Its last word may stand before that.
        receive do
          {:nats_reply, ^tag, result} -> result
        after
          0 -> {:error, :closed}
        end
    end
  end

  @doc """
  A request whose answer comes as `{:nats_reply, tag, result}`, once and surely, also for what fails at once; unless the
  connection's process is killed.
  """
  @spec request_async(conn, binary, Headers.t(), iodata, non_neg_integer, term) :: :ok
  def request_async(conn, subject, headers, body, limit_ms, tag) do
    request_many(conn, subject, headers, body, limit_ms, tag, 1)
  end

  @doc """
  A request with up to `most` answers, each `{:nats_reply, tag, {:ok, message}}`. The last is the `most`th, or one with a
  status, or `{:error, reason}`.
  """
  @spec request_many(conn, binary, Headers.t(), iodata, non_neg_integer, term, pos_integer) :: :ok
  def request_many(conn, subject, headers, body, limit_ms, tag, most) do
    with {:bad_subject, true} <- {:bad_subject, Encoder.subject?(subject) and Headers.valid?(headers)},
         {:link, _generation, _writer, _counters, max_payload, _bounds} <- row(conn, :link),
         {:too_big, true} <- {:too_big, Headers.size(headers) + IO.iodata_length(body) <= max_payload},
         {:connection, pid, open, max} <- row(conn, :connection),
         {:full, true} <- {:full, place(open, max)} do
      send(pid, {:call, self(), tag, subject, headers, body, limit_ms, most})
    else
      {reason, false} -> send(self(), {:nats_reply, tag, {:error, reason}})
      :none -> send(self(), {:nats_reply, tag, {:error, :closed}})
    end

    :ok
  end

  @doc """
  Subscribes the calling process and returns when the broker has confirmed it: what is published through the same broker
  afterwards is delivered. Waits at most the connection's `publish_timeout_ms`, for a connection as well.

  With `queue`, each message goes to one member of the group. Options: `max`, the most messages that may be delivered and
  not yet acknowledged (1,024).
  """
  @spec subscribe(conn, binary, binary | nil, max: pos_integer) :: {:ok, Sub.t()} | {:error, subscribe_error}
  def subscribe(conn, subject, queue, options \\ []) do
    with {:ok, pid, request} <- subscription(conn, subject, queue, options) do
      GenServer.call(pid, {:subscribe, request}, :infinity)
    end
  catch
    :exit, _gone -> {:error, :closed}
  end

  @doc """
  Subscribes without waiting: gives the handle at once; `{:nats_subscribed, tag, result}` comes when the broker has
  confirmed it, perhaps behind the first messages.
  """
  @spec subscribe_async(conn, binary, binary | nil, [max: pos_integer], term) :: {:ok, Sub.t()} | {:error, :closed}
  def subscribe_async(conn, subject, queue, options, tag) do
    with {:ok, pid, request} <- subscription(conn, subject, queue, options) do
      send(pid, {:subscribe, request, tag})
      {:ok, elem(request, 0)}
    end
  end

  @doc "Ends a subscription. Messages that are on their way may still come."
  @spec unsubscribe(conn, Sub.t()) :: :ok
  def unsubscribe(_conn, %Sub{} = sub) do
    send(sub.connection, {:unsubscribe, sub.id})
    :ok
  end

  @doc "The subscriber has dealt with `n` messages of `sub`: as many may come. Costs no message."
  @spec ack(Sub.t(), pos_integer) :: :ok
  def ack(sub, n \\ 1), do: Sub.ack(sub, n)

  @doc "The link now. Generations count the connections."
  @spec link(conn) :: link
  def link(conn) do
    case row(conn, :link) do
      {:link, generation, _writer, _counters, _max, _bounds} -> {:up, generation}
      :none -> :down
    end
  end

  @doc "The link now, and from now on each change as `{:nats_link, conn, link}` to the caller."
  @spec watch(conn) :: {:ok, link} | {:error, :closed}
  def watch(conn) do
    {:ok, GenServer.call(conn, :watch, :infinity)}
  catch
    :exit, _gone -> {:error, :closed}
  end

  @doc "True while the connection's process lives, connected or not."
  @spec alive?(conn) :: boolean
  def alive?(conn), do: row(conn, :connection) != :none

  @doc "The broker's id, the bytes and messages that wait for the socket, requests in flight, subscriptions."
  @spec status(conn) :: {:ok, map} | {:error, :closed}
  def status(conn) do
    {link, info, subscriptions} = GenServer.call(conn, :info, :infinity)
    {:connection, _pid, open, _max} = row(conn, :connection)

    {bytes, messages} =
      case row(conn, :link) do
        {:link, _generation, _writer, counters, _max, _bounds} -> Writer.queued(counters)
        :none -> {0, 0}
      end

    {:ok,
     %{
       link: link,
       broker: if(link != :down, do: info.server_id),
       queue_bytes: bytes,
       queue_messages: messages,
       calls: :atomics.get(open, 1),
       subscriptions: subscriptions
     }}
  catch
    :exit, _gone -> {:error, :closed}
  end

  defp subscription(conn, subject, queue, options) do
    max = Keyword.get(options, :max, 1_024)

    with true <- Encoder.subject?(subject, true) and (is_nil(queue) or Encoder.subject?(queue)),
         {:connection, pid, _open, _max} <- row(conn, :connection),
         {:patience, limit_ms} <- row(conn, :patience) do
      {:ok, pid, {Sub.new(pid), self(), subject, queue, max, limit_ms}}
    else
      false -> {:error, :bad_subject}
      :none -> {:error, :closed}
    end
  end

  # A place among the requests in flight; the connection gives it back with the last answer.
  defp place(open, max) do
    if :atomics.add_get(open, 1, 1) <= max do
      true
    else
      :atomics.sub(open, 1, 1)
      false
    end
  end

  defp row(conn, key) do
    case :ets.lookup(conn, key) do
      [row] -> row
      [] -> :none
    end
  rescue
    # There is no such table: the connection's process is gone.
    ArgumentError -> :none
  end
end
