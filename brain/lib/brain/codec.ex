defmodule Brain.Codec do
  @moduledoc """
  Protobuf for the messages below `Brain.Proto`, the twin of what prost does for the Rust crates: the same bytes out, and
  the same bytes taken in.

      iex> Brain.Codec.encode(%Brain.Proto.V1.Head{epoch: 1, seq: 300})
      <<8, 1, 16, 172, 2>>
      iex> Brain.Codec.decode(Brain.Proto.V1.Head, <<8, 1, 16, 172, 2>>)
      {:ok, %Brain.Proto.V1.Head{epoch: 1, seq: 300}}
      iex> Brain.Codec.decode(Brain.Proto.V1.Head, <<8>>)
      {:error, :cut_short}

  `Brain.Codec.Message` makes one encoder and one decoder for each message at compile time, from its field table.

  Encoding: fields ascending by number, defaults left out; a set member of a oneof and a set optional field are always
  written; repeated numbers packed. It raises on values that the schema cannot hold. That a `string` is UTF-8 is the
  caller's promise: what was decoded is.

  Decoding is as lenient as the schema language asks for: any order, the last one wins, messages given twice are merged,
  unknown fields are skipped. `canonical/2` is the strict rule. Binaries that are decoded are parts of the input: copy what
  outlives it (`:binary.copy/1`).
  """

  alias Brain.Codec.{Canonical, Wire}

  @typedoc "Why bytes are not the message."
  @type reason :: :cut_short | :varint | :tag | :wire_type | :utf8 | :group | :too_deep

  @doc "The message's bytes."
  @spec encode(struct()) :: binary()
  def encode(%module{} = message), do: :erlang.iolist_to_binary(module.__encode__(message))

  @doc "The message in all of `bytes`."
  @spec decode(module(), binary()) :: {:ok, struct()} | {:error, reason()}
  def decode(module, bytes) when is_binary(bytes) do
    {:ok, module.__decode__(bytes, Wire.depth_max())}
  catch
    {Wire, reason} -> {:error, reason}
  end

  @doc """
  The canonical rule on one message and every known message within (`Brain.Codec.Canonical`). For messages without packed
  fields, that is for all of package `arqon.v1`.

      iex> Brain.Codec.canonical(Brain.Proto.V1.Head, <<16, 2, 8, 1>>)
      {:error, %{code: :non_canonical_envelope, detail: "fields are not ascending", field: 1, at: 2}}
  """
  @spec canonical(module(), binary()) :: :ok | {:error, Canonical.fault()}
  def canonical(module, bytes) when is_binary(bytes) do
    _unknown = Canonical.check(module, bytes, byte_size(bytes), Canonical.unknown_max())
    :ok
  catch
    {Canonical, fault} -> {:error, fault}
  end
end
