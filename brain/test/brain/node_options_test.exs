defmodule Brain.NodeOptionsTest do
  # What each key of `[nats]` changes in a node's two connections and in its streams.
  use ExUnit.Case, async: true

  alias Brain.{Config, Node, NodeWorld}
  alias Brain.Spine.StreamSpec

  @urls ["nats://a", "nats://b", "nats://c"]

  # Another value than the default, and what it reaches.
  defp changed(key) do
    case key do
      :urls -> {["nats://other:4222"], [:writer, :speaker]}
      :tls -> {true, [:writer, :speaker]}
      key when key in [:publish_timeout_ms, :ping_interval_ms] -> {1234, [:writer, :speaker]}
      :logs -> {2, [:streams]}
      :replicas -> {3, [:streams]}
      :log_max_bytes -> {2_097_152, [:streams]}
      # The Shield's; the Brain's two users stand in [brain].
      key when key in [:user, :password_file] -> {"ann", []}
      new -> flunk("[nats] #{new} is new: say here what it reaches")
    end
  end

  defp made(config) do
    nats = config.nats

    %{
      writer: Node.nats_options(config, "brain-1", :writer, nil),
      speaker: Node.nats_options(config, "brain-1", :speaker, nil),
      streams: StreamSpec.all(nats.logs, nats.replicas, nats.log_max_bytes)
    }
  end

  test "every key of [nats] has an effect where it is taken, and nowhere else" do
    plain = made(NodeWorld.config("nats://127.0.0.1:4222"))

    for key <- Config.keys(:nats) do
      {value, reached} = changed(key)
      made = made(NodeWorld.config("nats://127.0.0.1:4222", nats: [{key, value}]))
      differs = for {what, options} <- made, options != plain[what], do: what
      assert Enum.sort(differs) == Enum.sort(reached), "[nats] #{key}"
    end

    for {role, options} <- Map.take(plain, [:writer, :speaker]) do
      with_user = Node.nats_options(NodeWorld.config("nats://x"), "brain-1", role, {"ann", "secret"})
      assert with_user[:user] == "ann" and with_user[:password] == "secret"
      assert options[:user] == nil
      # And the client takes each of them.
      assert {:ok, _} = Brain.Nats.Options.new([{:name, :options_test} | with_user])
    end
  end

  test "the first server is drawn by the node's name, as the Rust side draws it, and the others follow in order" do
    firsts =
      for n <- 1..30, uniq: true do
        drawn = Node.ordered(@urls, "shield-#{n}")
        at = Enum.find_index(@urls, &(&1 == hd(drawn)))
        assert drawn == for(n <- 0..2, do: Enum.at(@urls, rem(at + n, 3)))
        hd(drawn)
      end

    assert Enum.sort(firsts) == @urls
    # spine/src/configured.rs has the same.
    drawn = for name <- ["brain-1", "brain-2", "brain-3", "shield-1"], do: hd(Node.ordered(@urls, name))
    assert drawn == ["nats://a", "nats://a", "nats://b", "nats://c"]
  end

  test "a password that NATS cannot carry is refused with a sentence" do
    path = Path.join(System.tmp_dir!(), "brain-password-#{System.unique_integer([:positive])}")
    on_exit(fn -> File.rm(path) end)
    File.write!(path, <<0xFF, 0xFE>>)
    config = NodeWorld.config("nats://x", brain: [writer_user: "w", writer_password_file: path])
    assert {:error, why} = Config.credentials(config, :writer)
    assert why =~ path and why =~ "UTF-8"
  end
end
