defmodule Brain.ConfigTest do
  use ExUnit.Case, async: true

  alias Brain.Config

  # The very file that the Rust side's tests hold its renderer to.
  @snapshot Path.join(
              __DIR__,
              "../../../voltron-core/src/config/snapshots/voltron_core__config__tests__the_brains_terms.snap"
            )

  setup do
    [_, _, text] = @snapshot |> File.read!() |> String.split("---\n", parts: 3)
    path = Path.join(System.tmp_dir!(), "brain-config-#{System.unique_integer([:positive])}.terms")
    on_exit(fn -> File.rm(path) end)
    File.write!(path, text)
    {:ok, [terms]} = :file.consult(path)
    %{path: path, terms: terms}
  end

  test "what the renderer writes is read, every key of it", %{path: path} do
    assert {:ok, config} = Config.load(path)
    assert config.http == %{host: "127.0.0.1", port: 4001}
    assert config.nats.urls == ["nats://127.0.0.1:4222"]
    assert config.nats.user == "a\"b\\c\né\0"
    assert config.nats.password_file == nil
    assert config.brain.heartbeat_ms == 1000
    assert config.log == %{level: :info, format: :text, trace_file: nil}
  end

  test "a missing key and a foreign one are named, with what to do", %{terms: terms} do
    without = put_in(terms[:brain], Keyword.delete(terms[:brain], :heartbeat_ms))
    assert {:error, why} = Config.check(without)
    assert why == "[brain] key :heartbeat_ms is missing: write the file again with `arq config render brain`"

    foreign = put_in(terms[:nats][:colour], 1)
    assert {:error, why} = Config.check(foreign)
    assert why =~ "[nats] key :colour is not known to this build"

    assert {:error, why} = Config.check(Keyword.delete(terms, :log))
    assert why =~ "section :log is missing"
    assert {:error, why} = Config.check([{:extra, []} | terms])
    assert why =~ "section :extra is not known"
    assert {:error, why} = Config.check(put_in(terms[:http], [{:port, 1} | terms[:http]]))
    assert why =~ "twice"
  end

  test "values of another type or outside their range are named", %{terms: terms} do
    for {section, key, value, expected} <- [
          {:brain, :heartbeat_ms, 5, "a number from 20 to 60000"},
          {:brain, :heartbeat_ms, "1", "a number"},
          {:nats, :tls, 1, "true or false"},
          {:nats, :urls, [], "a list of texts"},
          {:nats, :urls, [1], "a list of texts"},
          {:log, :level, :loud, "off or error or warn"},
          {:brain, :writer_user, "", "a text"},
          {:http, :host, :undefined, "a text"}
        ] do
      assert {:error, why} = Config.check(put_in(terms[section][key], value))
      assert why =~ "[#{section}] #{key}: expected #{expected}"
    end
  end

  test "what is no such file is told with its path", %{path: path} do
    assert {:error, why} = Config.load(path <> ".not")
    assert why =~ path <> ".not: no such file"
    File.write!(path, "[{http, [}].")
    assert {:error, why} = Config.load(path)
    assert why =~ path
    File.write!(path, "a. b.")
    assert {:error, why} = Config.load(path)
    assert why =~ "not one list of sections"
    for terms <- [1, [1], [{:http, 1}], %{}], do: assert({:error, _} = Config.check(terms))
  end

  test "a password is its file without the white space around it", %{terms: terms, path: path} do
    {:ok, config} = Config.check(terms)
    assert Config.credentials(config, :writer) == {:ok, nil}
    File.write!(path, " s3cret\n")

    named = put_in(terms[:brain][:speaker_user], "sp") |> put_in([:brain, :speaker_password_file], path)
    {:ok, config} = Config.check(named)
    assert Config.credentials(config, :speaker) == {:ok, {"sp", "s3cret"}}
    {:ok, config} = Config.check(put_in(named[:brain][:speaker_password_file], path <> ".not"))
    assert {:error, why} = Config.credentials(config, :speaker)
    assert why =~ path <> ".not"
  end
end
