defmodule Brain.Vectors do
  @moduledoc """
  The cases of `proto/vectors`, which the Rust crates write and every language must agree with.
  """

  @doc "The cases of one file: maps with binary keys, null as nil."
  @spec cases(binary()) :: [map()]
  def cases(file) do
    path = Path.expand("../../../proto/vectors/#{file}", __DIR__)
    %{"cases" => [_ | _] = cases} = :jiffy.decode(File.read!(path), [:return_maps, :use_nil])
    cases
  end

  @doc "Bytes from lower-case hex."
  @spec bytes(binary()) :: binary()
  def bytes(hex), do: Base.decode16!(hex, case: :lower)
end
