defmodule Brain.Nats.Dialer do
  @moduledoc """
  One attempt to connect, in a process of its own so that the connection's process stays free: TCP, INFO, TLS, CONNECT,
  and a PING whose PONG says that the broker has accepted the user. Then the socket is handed over.
  """

  alias Brain.Nats.{Encoder, Info, Options, Parser, Socket}

  @typedoc "What is handed over: the socket, what the broker said of itself, and what came behind the PONG."
  @type line :: %{socket: Socket.t(), info: Info.t(), parser: Parser.t(), frames: [Parser.frame()]}

  @doc """
  Dials `host` for the calling process, which gets `{:dialed, pid, {:ok, line} | {:error, reason}}` within `limit_ms` or
  so. Linked: the attempt ends with the caller.
  """
  @spec start_link(Options.host(), Options.t(), pos_integer) :: pid
  def start_link(host, options, limit_ms) do
    owner = self()

    spawn_link(fn ->
      result =
        with {:ok, line} <- dial(host, options, limit_ms) do
          case Socket.give(line.socket, owner) do
            :ok -> {:ok, line}
            {:error, reason} -> {:error, {:lost, reason}}
          end
        end

      send(owner, {:dialed, self(), result})
    end)
  end

  defp dial({_address, _port, tls} = host, options, limit_ms) do
    deadline = now() + limit_ms
    tls = tls or options.tls

    with {:ok, socket} <- Socket.connect(host, limit_ms),
         {:ok, info, parser, frames} <- info(socket, Parser.new(), deadline),
         tls = tls or info.tls_required,
         {:ok, socket} <- if(tls, do: secure(socket, host, options, parser, frames, deadline), else: {:ok, socket}),
         :ok <- Socket.send(socket, [Encoder.connect(hello(options, tls)), Encoder.ping()]),
         {:ok, info, parser, frames} <- welcomed(frames, socket, info, parser, deadline) do
      {:ok, %{socket: socket, info: info, parser: parser, frames: frames}}
    end
  end

  # Whatever stands behind INFO was not protected, and would be taken for part of what is.
  defp secure(socket, host, options, parser, frames, deadline) do
    if frames == [] and Parser.idle?(parser) do
      Socket.upgrade(socket, host, options, left(deadline))
    else
      {:error, :bytes_before_tls}
    end
  end

  defp info(socket, parser, deadline) do
    with {:ok, data} <- Socket.recv(socket, left(deadline)),
         {:ok, frames, parser} <- Parser.feed(parser, data) do
      case frames do
        [] -> info(socket, parser, deadline)
        [{:info, json} | frames] -> with {:ok, info} <- Info.parse(json), do: {:ok, info, parser, frames}
        [{:err, text} | _] -> {:error, {:refused, :binary.copy(text)}}
        _other -> {:error, :not_nats}
      end
    else
      {:error, reason, _frames} -> {:error, {:not_nats, reason}}
      {:error, reason} -> {:error, reason}
    end
  end

  # Until the PONG. An INFO may come at any time; the broker's last word before it hangs up is an -ERR.
  defp welcome(socket, info, parser, deadline) do
    with {:ok, data} <- Socket.recv(socket, left(deadline)),
         {:ok, frames, parser} <- Parser.feed(parser, data) do
      welcomed(frames, socket, info, parser, deadline)
    else
      {:error, reason, frames} ->
        case Enum.find(frames, &match?({:err, _text}, &1)) do
          {:err, text} -> {:error, {:refused, :binary.copy(text)}}
          nil -> {:error, {:not_nats, reason}}
        end

      {:error, reason} ->
        {:error, reason}
    end
  end

  defp welcomed([], socket, info, parser, deadline), do: welcome(socket, info, parser, deadline)
  defp welcomed([:pong | frames], _socket, info, parser, _deadline), do: {:ok, info, parser, frames}
  defp welcomed([{:err, text} | _], _socket, _info, _parser, _deadline), do: {:error, {:refused, :binary.copy(text)}}

  defp welcomed([{:info, json} | frames], socket, _info, parser, deadline) do
    with {:ok, info} <- Info.parse(json), do: welcomed(frames, socket, info, parser, deadline)
  end

  defp welcomed([:ping | frames], socket, info, parser, deadline) do
    with :ok <- Socket.send(socket, Encoder.pong()), do: welcomed(frames, socket, info, parser, deadline)
  end

  defp welcomed([_other | frames], socket, info, parser, deadline) do
    welcomed(frames, socket, info, parser, deadline)
  end

  defp hello(options, tls) do
    hello = %{
      "verbose" => false,
      "pedantic" => false,
      "tls_required" => tls,
      "name" => options.label,
      "lang" => "elixir",
      "version" => "1",
      "protocol" => 1,
      "echo" => true,
      "headers" => true,
      "no_responders" => true
    }

    if options.user, do: Map.merge(hello, %{"user" => options.user, "pass" => options.password.()}), else: hello
  end

  defp left(deadline), do: max(deadline - now(), 1)
  defp now, do: System.monotonic_time(:millisecond)
end
