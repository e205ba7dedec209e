defmodule Brain.Page do
  @moduledoc """
  The operators' listener on `[http] host` and `[brain] metrics_port`: `/metrics`; `/healthz`, which says that the process
  lives; and `/readyz`: 200 if the node can serve rooms, else 503 and the reason.

  On OTP's own HTTP packets, because inets' httpd cannot say which port it was given for 0. GET and HEAD, one request a
  connection. Limits: 32 connections at once (more wait in the system's queue), lines of 4 KiB, 64 headers, 5 s from the
  accepted socket to the last byte of the answer.
  """

  use GenServer

  alias Brain.Metrics

  @acceptors 32
  @line_bytes_max 4096
  @headers_max 64
  @limit_ms 5000
  # What was not read of a refused request is read and thrown away, so that the answer is not lost to a reset.
  @rest_bytes_max 65_536

  # The longest that the node may take to say whether it is ready.
  @ready_limit_ms 1000

  @type options :: %{
          required(:name) => GenServer.name(),
          required(:host) => binary,
          required(:port) => :inet.port_number(),
          required(:metrics) => Metrics.t(),
          optional(:bound) => :atomics.atomics_ref(),
          optional(:ready) => (() -> :ok | {:error, String.t()})
        }

  @doc """
  Binds and serves; the error says what could not be bound. `bound`, an atomic of one number, keeps the port that was
  bound, and is preferred to `port`. `ready` is what `/readyz` tells.
  """
  @spec start_link(options) :: GenServer.on_start()
  def start_link(options), do: GenServer.start_link(__MODULE__, options, name: options.name)

  @doc "Where the page is, without its path: `http://127.0.0.1:4002`."
  @spec url(GenServer.server()) :: String.t()
  def url(page), do: GenServer.call(page, :url)

  @impl true
  def init(%{host: host, metrics: metrics} = options) do
    kept = Map.get_lazy(options, :bound, fn -> :atomics.new(1, []) end)
    port = if :atomics.get(kept, 1) == 0, do: options.port, else: :atomics.get(kept, 1)
    served = %{metrics: metrics, ready: Map.get(options, :ready, fn -> :ok end)}

    with {:ok, address} <- address(host),
         {:ok, socket} <- :gen_tcp.listen(port, options(address)),
         {:ok, bound} <- :inet.port(socket) do
      :atomics.put(kept, 1, bound)
      # Linked: a listener that breaks ends them all, and the supervisor begins anew.
      for _ <- 1..@acceptors, do: spawn_link(fn -> accept(socket, served) end)
      {:ok, %{url: "http://#{shown(address)}:#{bound}", socket: socket}}
    else
      {:error, reason} -> {:stop, {:bind, "[brain] metrics_port #{host}:#{port}: #{:inet.format_error(reason)}"}}
    end
  end

  @impl true
  def handle_call(:url, _from, state), do: {:reply, state.url, state}

  defp options(address) do
    [
      :binary,
      ip: address,
      packet: :http_bin,
      packet_size: @line_bytes_max,
      active: false,
      reuseaddr: true,
      nodelay: true,
      send_timeout: @limit_ms,
      send_timeout_close: true
    ]
  end

  defp address(host) do
    host = String.to_charlist(host)

    with {:error, _} <- :inet.parse_address(host),
         {:error, _} <- :inet.getaddr(host, :inet),
         do: :inet.getaddr(host, :inet6)
  end

  defp shown(address) when tuple_size(address) == 8, do: "[#{:inet.ntoa(address)}]"
  defp shown(address), do: "#{:inet.ntoa(address)}"

  # === One connection after the other

  defp accept(listener, served) do
    case :gen_tcp.accept(listener) do
      {:ok, socket} ->
        serve(socket, served, System.monotonic_time(:millisecond) + @limit_ms)
        :gen_tcp.close(socket)
        accept(listener, served)

      # The peer was gone before it was accepted, or there are no descriptors just now.
      {:error, reason} when reason in [:econnaborted, :emfile, :enfile, :system_limit] ->
        Process.sleep(100)
        accept(listener, served)

      {:error, reason} ->
        exit({:shutdown, reason})
    end
  end

  defp serve(socket, served, deadline) do
    with {:ok, {method, path}} <- request(socket, deadline),
         :ok <- headers(socket, deadline, @headers_max) do
      {status, type, body} = answer(method, path, served)
      _ = :gen_tcp.send(socket, response(method, status, type, IO.iodata_to_binary(body)))
      finish(socket, deadline)
    else
      {:bad, status} ->
        _ = :gen_tcp.send(socket, response(:GET, status, "text/plain", "not understood\n"))
        finish(socket, deadline)

      {:error, _} ->
        :ok
    end
  end

  defp request(socket, deadline) do
    case :gen_tcp.recv(socket, 0, left(deadline)) do
      {:ok, {:http_request, method, {:abs_path, path}, _version}} -> {:ok, {method, path}}
      {:ok, {:http_request, method, _, _}} -> {:ok, {method, ""}}
      {:ok, _} -> {:bad, "400 Bad Request"}
      {:error, :emsgsize} -> {:bad, "414 URI Too Long"}
      {:error, reason} -> {:error, reason}
    end
  end

  defp headers(_socket, _deadline, 0), do: {:bad, "431 Request Header Fields Too Large"}

  defp headers(socket, deadline, left) do
    case :gen_tcp.recv(socket, 0, left(deadline)) do
      {:ok, :http_eoh} -> :ok
      {:ok, {:http_header, _, _, _, _}} -> headers(socket, deadline, left - 1)
      {:ok, _} -> {:bad, "400 Bad Request"}
      {:error, :emsgsize} -> {:bad, "431 Request Header Fields Too Large"}
      {:error, reason} -> {:error, reason}
    end
  end

  defp answer(method, _, _) when method not in [:GET, :HEAD],
    do: {"405 Method Not Allowed", "text/plain", "GET alone\n"}

  defp answer(_, "/healthz", _), do: {"200 OK", "text/plain", "ok\n"}
  defp answer(_, "/metrics", served), do: {"200 OK", Metrics.content_type(), Metrics.encode(served.metrics)}

  defp answer(_, "/readyz", served) do
    case readiness(served.ready) do
      :ok -> {"200 OK", "text/plain", "ready\n"}
      {:error, why} -> {"503 Service Unavailable", "text/plain", [why, ?\n]}
    end
  end

  defp answer(_, _, _), do: {"404 Not Found", "text/plain", "/metrics, /healthz and /readyz are here\n"}

  # In a process of its own: the node may be restarting, or hang.
  defp readiness(ready) do
    task = Task.async(fn -> safely(ready) end)

    case Task.yield(task, @ready_limit_ms) || Task.shutdown(task, :brutal_kill) do
      {:ok, result} -> result
      _ -> {:error, "the node does not answer"}
    end
  end

  defp safely(ready) do
    ready.()
  catch
    _, _ -> {:error, "the node is being restarted"}
  end

  defp response(method, status, type, body) do
    [
      ["HTTP/1.1 ", status, "\r\ncontent-type: ", type, "\r\nconnection: close\r\n"],
      ["content-length: ", Integer.to_string(byte_size(body)), "\r\n\r\n"],
      if(method == :HEAD, do: [], else: body)
    ]
  end

  defp finish(socket, deadline) do
    _ = :gen_tcp.shutdown(socket, :write)
    _ = :inet.setopts(socket, packet: :raw)
    drop(socket, deadline, @rest_bytes_max)
  end

  defp drop(_socket, _deadline, left) when left <= 0, do: :ok

  defp drop(socket, deadline, left) do
    case :gen_tcp.recv(socket, 0, left(deadline)) do
      {:ok, data} -> drop(socket, deadline, left - byte_size(data))
      {:error, _} -> :ok
    end
  end

  defp left(deadline), do: max(deadline - System.monotonic_time(:millisecond), 0)
end
