defmodule Brain.Mesh.Opened do
  @moduledoc "The answer of a node that cannot serve a room now."

  alias Brain.{Code, Codec}
  alias Brain.Proto.Internal

  @doc "Bytes of an `Opened` with `unavailable`: the Shield asks again."
  @spec unavailable(binary) :: binary
  def unavailable(node) do
    code = :unavailable
    Codec.encode(%Internal.Opened{code: Code.number(code), node: node, message: Code.message(code)})
  end
end
