defmodule Brain.Page do
  @moduledoc """
  The operators' listener on `[http] host` and `[brain] metrics_port`: `/metrics`, and `/healthz`, which says that the
  process lives.

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

  @type options :: %{name: GenServer.name(), host: binary, port: :inet.port_number(), metrics: Metrics.t()}

  @doc "Binds and serves; the error says what could not be bound."
  @spec start_link(options) :: GenServer.on_start()
  def start_link(options), do: GenServer.start_link(__MODULE__, options, name: options.name)

  @doc "Where the page is, without its path: `http://127.0.0.1:4002`."
  @spec url(GenServer.server()) :: String.t()
  def url(page), do: GenServer.call(page, :url)

  @impl true
  def init(%{host: host, port: port, metrics: metrics}) do
    with {:ok, address} <- address(host),
         {:ok, socket} <- :gen_tcp.listen(port, options(address)),
         {:ok, bound} <- :inet.port(socket) do
      # Linked: a listener that breaks ends them all, and the supervisor begins anew.
      for _ <- 1..@acceptors, do: spawn_link(fn -> accept(socket, metrics) end)
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

  defp accept(listener, metrics) do
    case :gen_tcp.accept(listener) do
      {:ok, socket} ->
        serve(socket, metrics, System.monotonic_time(:millisecond) + @limit_ms)
        :gen_tcp.close(socket)
        accept(listener, metrics)

      # The peer was gone before it was accepted, or there are no descriptors just now.
      {:error, reason} when reason in [:econnaborted, :emfile, :enfile, :system_limit] ->
        Process.sleep(100)
        accept(listener, metrics)

      {:error, reason} ->
        exit({:shutdown, reason})
    end
  end

  defp serve(socket, metrics, deadline) do
    with {:ok, {method, path}} <- request(socket, deadline),
         :ok <- headers(socket, deadline, @headers_max) do
      {status, type, body} = answer(method, path, metrics)
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
  defp answer(_, "/metrics", metrics), do: {"200 OK", Metrics.content_type(), Metrics.encode(metrics)}
  defp answer(_, _, _), do: {"404 Not Found", "text/plain", "/metrics and /healthz are here\n"}

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
