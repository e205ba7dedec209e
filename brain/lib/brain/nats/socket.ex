defmodule Brain.Nats.Socket do
  @moduledoc "One face for `:gen_tcp` and `:ssl`. The bytes are raw; packets are delivered a few at a time (`arm/1`)."

  alias Brain.Nats.Options

  # So many packets may stand in the owner's mailbox before it asks for more: with the buffer below about 2 MiB.
  @packets 32
  @buffer 65_536

  @type t :: {:tcp, :gen_tcp.socket()} | {:ssl, :ssl.sslsocket()}

  @doc "Connects, passive, within `limit_ms`."
  @spec connect(Options.host(), pos_integer) :: {:ok, t} | {:error, term}
  def connect({address, port, _tls}, limit_ms) do
    family = if tuple_size_of(address) == 8, do: [:inet6], else: []

    options =
      family ++
        [
          mode: :binary,
          packet: :raw,
          active: false,
          nodelay: true,
          keepalive: true,
          buffer: @buffer,
          high_watermark: 2 * @buffer,
          low_watermark: @buffer,
          show_econnreset: true
        ]

    with {:ok, socket} <- :gen_tcp.connect(address, port, options, limit_ms), do: {:ok, {:tcp, socket}}
  end

  @doc "Makes a TLS connection of it; the broker's certificate must be good and hold its name."
  @spec upgrade(t, Options.host(), Options.t(), pos_integer) :: {:ok, t} | {:error, term}
  def upgrade({:tcp, socket}, {address, _port, _tls}, options, limit_ms) do
    name = if options.server_name, do: String.to_charlist(options.server_name), else: address

    authorities =
      if options.cacertfile, do: [cacertfile: options.cacertfile], else: [cacerts: :public_key.cacerts_get()]

    tls =
      authorities ++
        named(name) ++
        [
          verify: :verify_peer,
          depth: 4,
          versions: [:"tlsv1.3", :"tlsv1.2"],
          customize_hostname_check: [match_fun: :public_key.pkix_verify_hostname_match_fun(:https)],
          mode: :binary,
          active: false,
          # Its own logger would write the peer's alerts at any level it likes.
          log_level: :error
        ]

    with {:ok, socket} <- :ssl.connect(socket, tls, limit_ms), do: {:ok, {:ssl, socket}}
  end

  # Without a name, `:ssl` checks the certificate against the address it is connected to.
  defp named(name) when is_list(name), do: [server_name_indication: name]
  defp named(_address), do: []

  @doc "Reads what there is, passive."
  @spec recv(t, pos_integer) :: {:ok, binary} | {:error, term}
  def recv({:tcp, socket}, limit_ms), do: :gen_tcp.recv(socket, 0, limit_ms)
  def recv({:ssl, socket}, limit_ms), do: :ssl.recv(socket, 0, limit_ms)

  @doc "Writes. Blocks while the broker takes nothing."
  @spec send(t, iodata) :: :ok | {:error, term}
  def send({:tcp, socket}, data), do: :gen_tcp.send(socket, data)
  def send({:ssl, socket}, data), do: :ssl.send(socket, data)

  @doc "Hands it to another process."
  @spec give(t, pid) :: :ok | {:error, term}
  def give({:tcp, socket}, pid), do: :gen_tcp.controlling_process(socket, pid)
  def give({:ssl, socket}, pid), do: :ssl.controlling_process(socket, pid)

  @doc """
  Asks for the next packets, as messages to the owner: `{:tcp | :ssl, socket, data}`; then `{:tcp_passive | :ssl_passive,
  socket}` says that they were delivered and this is due again.
  """
  @spec arm(t) :: :ok | {:error, term}
  def arm({:tcp, socket}), do: :inet.setopts(socket, active: @packets)
  def arm({:ssl, socket}), do: :ssl.setopts(socket, active: @packets)

  @doc "Closes at once, whatever waits to be written: a broker that hangs must not hold us up."
  @spec abort(t) :: :ok
  def abort({:tcp, socket}) do
    _ = :inet.setopts(socket, linger: {true, 0})
    :gen_tcp.close(socket)
  end

  def abort({:ssl, socket}) do
    # It asks the connection's processes, which may be stuck in a write.
    _ = spawn(fn -> :ssl.close(socket, {self(), 1_000}) end)
    :ok
  end

  @doc "Closes when everything is written."
  @spec close(t) :: :ok
  def close({:tcp, socket}), do: :gen_tcp.close(socket)
  def close({:ssl, _socket} = socket), do: abort(socket)

  defp tuple_size_of(address) when is_tuple(address), do: tuple_size(address)
  defp tuple_size_of(_name), do: 0
end
