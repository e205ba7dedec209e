defmodule Brain.CodecTest do
  use ExUnit.Case, async: true
  doctest Brain.Codec

  alias Brain.{Codec, Messages, Vectors}
  alias Brain.Proto.{Internal, V1}

  # arqon.internal.v1.LogEntry is Brain.Proto.Internal.LogEntry.
  defp module("arqon.v1." <> name), do: Module.concat(V1, name)
  defp module("arqon.internal.v1." <> name), do: Module.concat(Internal, name)

  for {%{"name" => name, "message" => message} = vector, n} <- Enum.with_index(Vectors.cases("codec.json")) do
    @vector vector
    test "vector #{n}: #{message}: #{name}" do
      module = module(@vector["message"])

      case Codec.decode(module, Vectors.bytes(@vector["hex"])) do
        {:ok, message} -> assert Base.encode16(Codec.encode(message), case: :lower) == @vector["again"]
        {:error, reason} -> assert {reason, @vector["again"]} == {reason, nil}
      end
    end
  end

  test "the vectors know every message that Shields, Brains and the log hold" do
    known = for %{"message" => name} <- Vectors.cases("codec.json"), uniq: true, do: module(name)
    assert Enum.sort(known) == Enum.sort(Messages.all("V1") ++ Messages.all("Internal"))
  end

  test "why bytes are refused" do
    for {module, bytes, reason} <- [
          {V1.Head, <<8>>, :cut_short},
          {V1.Say, <<10, 2, ?x>>, :cut_short},
          {V1.Head, <<8, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 2>>, :varint},
          {V1.Head, <<0, 1>>, :tag},
          {V1.Head, <<0x80, 0x80, 0x80, 0x80, 0x10, 1>>, :tag},
          {V1.Head, <<10, 0>>, :wire_type},
          {V1.Head, <<0x4E>>, :wire_type},
          {V1.Say, <<18, 1, 0xFF>>, :utf8},
          {V1.Head, <<0x4C>>, :group},
          {V1.Head, :binary.copy(<<0x4B>>, 101), :too_deep}
        ] do
      assert Codec.decode(module, bytes) == {:error, reason}
    end
  end

  test "an enum's unknown numbers stay numbers" do
    assert {:ok, %V1.Lock{mode: :all}} = Codec.decode(V1.Lock, <<8, 3>>)
    assert {:ok, %V1.Lock{mode: 77} = lock} = Codec.decode(V1.Lock, <<8, 77>>)
    assert Codec.encode(lock) == <<8, 77>>
    assert Codec.encode(%V1.Lock{mode: -1}) == <<8, 255, 255, 255, 255, 255, 255, 255, 255, 255, 1>>
    assert Codec.encode(%V1.Lock{mode: 0}) == Codec.encode(%V1.Lock{mode: :none})
  end

  test "what the schema cannot hold is not written" do
    for message <- [
          %V1.Head{epoch: -1},
          %V1.Head{epoch: 0x1_0000_0000_0000_0000},
          %V1.RoomOptions{presence: 0x1_0000_0000},
          %V1.Ban{until: 0x8000_0000_0000_0000},
          %V1.Ban{until: -0x8000_0000_0000_0001},
          %V1.Cursor{chain: -1},
          %V1.Lock{mode: :nobody},
          %V1.Lock{mode: 0x8000_0000},
          %V1.Unlock{force: 1},
          %V1.Say{data: nil},
          %V1.Command{op: {:nothing, %V1.Say{}}}
        ] do
      assert catch_error(Codec.encode(message)), inspect(message)
    end
  end

  test "a decoder makes no atoms" do
    before = :erlang.system_info(:atom_count)
    for n <- 1..20_000, do: Codec.decode(V1.Set, Codec.encode(%V1.Set{key: "a key that is no atom #{n}"}))
    assert :erlang.system_info(:atom_count) - before < 10_000
  end
end
