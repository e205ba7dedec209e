defmodule Brain.MetricsTest do
  use ExUnit.Case, async: true

  alias Brain.{Metrics, Page}

  # Every name of the Rust shell's registry, with its help, read from its source: the two are one to a dashboard.
  @twin File.read!(Path.join(__DIR__, "../../shell/src/metrics.rs"))

  test "names and helps are those of the Rust shell" do
    text = IO.iodata_to_binary(Metrics.encode(Metrics.new()))
    twins = Regex.scan(~r/metrics\s*\.(counter|gauge)\(\s*"(\w+)",\s*"([^"]+)",?\s*\)/, @twin, capture: :all_but_first)
    assert length(twins) == 20

    for [kind, name, help] <- twins do
      shown = if kind == "counter", do: name <> "_total", else: name
      assert text =~ "# HELP #{name} #{help}.\n# TYPE #{name} #{kind}\n#{shown} 0\n"
    end

    assert String.ends_with?(text, "# EOF\n")
  end

  test "counting" do
    metrics = Metrics.new()
    Metrics.add(metrics, :events)
    Metrics.add(metrics, :events, 4)
    Metrics.set(metrics, :rooms, 3)
    Metrics.set(metrics, :rooms, 2)
    assert {Metrics.get(metrics, :events), Metrics.get(metrics, :rooms)} == {5, 2}
  end

  test "the page serves metrics and health, and nothing else" do
    metrics = Metrics.new()
    Metrics.add(metrics, :fenced, 7)
    page = start_supervised!({Page, %{name: :page_test, host: "127.0.0.1", port: 0, metrics: metrics}})
    url = Page.url(page)
    assert {200, type, body} = get(url <> "/metrics")
    assert type == "application/openmetrics-text; version=1.0.0; charset=utf-8"
    assert body =~ "\nbrain_fenced_writes_total 7\n"
    assert {200, _, "ok\n"} = get(url <> "/healthz")
    assert {404, _, _} = get(url <> "/")
    assert {404, _, _} = get(url <> "/../etc/passwd")
    assert {404, _, _} = get(url <> "/tmp")
    assert raw(url, "HEAD /metrics HTTP/1.1\r\n\r\n") =~ ~r"^HTTP/1.1 200 OK.*\r\n\r\n$"s
    assert raw(url, "POST /metrics HTTP/1.1\r\ncontent-length: 2\r\n\r\nab") =~ ~r"^HTTP/1.1 405"
    assert raw(url, "GET /#{String.duplicate("x", 9000)} HTTP/1.1\r\n\r\n") =~ ~r"^HTTP/1.1 4\d\d|^$"
    assert raw(url, "GET / HTTP/1.1\r\n" <> String.duplicate("a: b\r\n", 100) <> "\r\n") =~ ~r"^HTTP/1.1 431"
    assert raw(url, "nonsense\r\n\r\n") =~ ~r"^HTTP/1.1 400"

    "http://127.0.0.1:" <> port = url
    Process.flag(:trap_exit, true)
    taken = %{name: :page_taken, host: "127.0.0.1", port: String.to_integer(port), metrics: metrics}
    assert {:error, {:bind, why}} = Page.start_link(taken)
    assert why == "[brain] metrics_port 127.0.0.1:#{port}: address already in use"
  end

  defp raw("http://127.0.0.1:" <> port, request) do
    {:ok, socket} = :gen_tcp.connect({127, 0, 0, 1}, String.to_integer(port), [:binary, active: false])
    :ok = :gen_tcp.send(socket, request)
    all(socket, "")
  end

  defp all(socket, read) do
    case :gen_tcp.recv(socket, 0) do
      {:ok, more} -> all(socket, read <> more)
      {:error, _} -> read
    end
  end

  defp get(url) do
    {:ok, {{_, status, _}, headers, body}} = :httpc.request(:get, {url, []}, [], body_format: :binary)
    {status, to_string(:proplists.get_value('content-type', headers)), body}
  end
end
