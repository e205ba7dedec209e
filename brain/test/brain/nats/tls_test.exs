defmodule Brain.Nats.TlsTest do
  # The real broker with TLS: its certificate must come from the authority that is named, and hold the name.
  use ExUnit.Case, async: false

  import Brain.NatsWorld

  alias Brain.{Nats, NatsServer}

  @moduletag timeout: 90_000, capture_log: true

  # An authority and a certificate of it for localhost and 127.0.0.1, as files.
  defp authority do
    folder = Path.join(System.tmp_dir!(), "arqon-tls-#{System.pid()}-#{System.unique_integer([:positive])}")
    File.mkdir_p!(folder)
    on_exit(fn -> File.rm_rf!(folder) end)
    names = {:Extension, {2, 5, 29, 17}, false, [dNSName: 'localhost', iPAddress: <<127, 0, 0, 1>>]}
    # A curve that the broker knows as well.
    key = [key: {:namedCurve, :secp256r1}]
    chain = %{root: key, intermediates: [], peer: [extensions: [names]] ++ key}
    made = :public_key.pkix_test_data(%{server_chain: chain, client_chain: %{root: key, intermediates: [], peer: key}})
    {type, key} = made.server_config[:key]
    write(folder, "cert.pem", [{:Certificate, made.server_config[:cert], :not_encrypted}])
    write(folder, "key.pem", [{type, key, :not_encrypted}])
    write(folder, "ca.pem", for(der <- made.client_config[:cacerts], do: {:Certificate, der, :not_encrypted}))
    folder
  end

  defp write(folder, name, entries), do: File.write!(Path.join(folder, name), :public_key.pem_encode(entries))

  defp secured(folder) do
    world(config: "tls { cert_file: \"#{folder}/cert.pem\", key_file: \"#{folder}/key.pem\", timeout: 10 }\n")
  end

  # What became of its first attempt, in the words of the log.
  defp refused(world, options) do
    :ok = :logger.add_handler(:refused, __MODULE__, %{level: :warning, config: %{to: self()}})
    conn = connect(world, options)
    assert_receive {:logged, "no connection" <> why}, soon_ms()
    assert {:ok, :down} = Nats.watch(conn)
    assert :ok = stop_supervised(conn)
    :ok = :logger.remove_handler(:refused)
    forget()
    why
  end

  # What later attempts of the same connection said.
  defp forget do
    receive do
      {:logged, _} -> forget()
    after
      0 -> :ok
    end
  end

  @doc false
  # A handler of the system's log: the test waits for what is said, however long it takes.
  def log(event, %{config: %{to: to}}) do
    send(to, {:logged, IO.chardata_to_string(:logger_formatter.format(event, %{template: [:msg]}))})
  end

  test "a good certificate: everything works, and a new connection after a loss" do
    folder = authority()
    world = secured(folder)
    port = NatsServer.port(world)
    ca = Path.join(folder, "ca.pem")

    for host <- ["localhost", "127.0.0.1"] do
      conn = connected(world, urls: ["tls://#{host}:#{port}"], cacertfile: ca)
      sub = listen(conn, "out.>")
      big = :crypto.strong_rand_bytes(900_000)
      assert :ok = Nats.publish(conn, "out.a", nil, big)
      assert next(sub).body == big
      for n <- 1..1_000, do: assert(:ok = Nats.publish(conn, "out.a", nil, "#{n}"))
      assert bodies(sub, 1_000) == Enum.map(1..1_000, &to_string/1)
      assert Nats.request(conn, "nobody", [], "?", soon_ms()) == {:error, :no_responders}
    end

    conn = connected(world, tls: true, cacertfile: ca)
    sub = listen(conn, "out.>")
    NatsServer.kill(world)
    down(conn)
    NatsServer.restart(world)
    assert up(conn) == 2
    assert :ok = Nats.publish(conn, "out.a", nil, "again")
    assert next(sub).body == "again"
    # What is queued is written before it ends.
    witness = listen(connected(world, cacertfile: ca), "out.>")
    for n <- 1..1_000, do: assert(:ok = Nats.publish(conn, "out.b", nil, "#{n}"))
    assert :ok = stop_supervised(conn)
    assert bodies(witness, 1_000) == Enum.map(1..1_000, &to_string/1)
  end

  test "a hung broker is noticed through TLS" do
    folder = authority()
    world = secured(folder)
    conn = connected(world, cacertfile: Path.join(folder, "ca.pem"), ping_interval_ms: 200)
    NatsServer.pause(world)
    # Writes that hang must not hold the connection's process up.
    big = String.duplicate("x", 900_000)
    assert {:error, :full} = Enum.find(Stream.repeatedly(fn -> Nats.publish(conn, "a", nil, big) end), &(&1 != :ok))
    down(conn)
    NatsServer.resume(world)
    assert up(conn) == 2
  end

  test "another authority, another name, or no TLS at all is refused" do
    {folder, other} = {authority(), authority()}
    world = secured(folder)
    url = "tls://localhost:#{NatsServer.port(world)}"
    assert refused(world, urls: [url], cacertfile: Path.join(other, "ca.pem")) =~ "unknown_ca"
    # The system's authorities do not know it either.
    assert refused(world, urls: [url]) =~ "unknown_ca"
    ca = Path.join(folder, "ca.pem")
    assert refused(world, urls: [url], cacertfile: ca, server_name: "other.example") =~ "hostname_check_failed"
    assert refused(world(), tls: true, cacertfile: ca) =~ "tls_alert"
  end
end
