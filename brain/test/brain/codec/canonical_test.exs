defmodule Brain.Codec.CanonicalTest do
  use ExUnit.Case, async: true

  alias Brain.{Code, Codec, Vectors}

  for %{"name" => name, "message" => message} = vector <- Vectors.cases("canonical.json") do
    @vector vector
    @module Module.concat(Brain.Proto.V1, message)
    test "vector: #{message}: #{name}" do
      bytes = Vectors.bytes(@vector["hex"])

      case Codec.canonical(@module, bytes) do
        :ok ->
          assert @vector["code"] == 0
          assert {:ok, _} = Codec.decode(@module, bytes)

        {:error, fault} ->
          assert Code.number(fault.code) == @vector["code"]
          assert fault.at <= byte_size(bytes)
      end
    end
  end
end
