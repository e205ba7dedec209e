defmodule Brain.Messages do
  @moduledoc """
  Every generated message, and PropEr types of them made from their field tables.
  """

  @doc "All message modules of a package's file (`V1`, `Internal`, `Lockstep`), or of all, sorted."
  @spec all(binary()) :: [module()]
  def all(space \\ "") do
    {:ok, modules} = :application.get_key(:brain, :modules)

    for module <- Enum.sort(modules),
        String.starts_with?(inspect(module), "Brain.Proto." <> space),
        Code.ensure_loaded?(module) and function_exported?(module, :__fields__, 0) do
      module
    end
  end

  @doc "Any of these messages."
  @spec any([module()]) :: :proper_types.type()
  def any(modules), do: :proper_types.oneof(for module <- modules, do: message(module))

  @doc "A message as it comes out of a decoder. `canonical: true` leaves out what the canonical rule refuses."
  @spec message(module(), keyword()) :: :proper_types.type()
  def message(module, options \\ []), do: :proper_types.lazy(fn -> struct_type(module, options) end)

  defp struct_type(module, options) do
    members = Enum.chunk_by(module.__fields__(), &member/1)
    types = for rows <- members, do: {member(hd(rows)), member_type(rows, options)}
    map(types, &struct!(module, &1))
  end

  defp member({_, _, _, {:oneof, name}}), do: name
  defp member({_, name, _, _}), do: name

  defp member_type([{_, _, _, {:oneof, _}} | _] = rows, options) do
    :proper_types.oneof([nil | for({_, name, kind, _} <- rows, do: {name, kind(kind, options)})])
  end

  defp member_type([{_, _, kind, :single}], options), do: kind(kind, options)
  defp member_type([{_, _, kind, :optional}], options), do: :proper_types.oneof([nil, kind(kind, options)])

  defp member_type([{_, _, kind, :repeated}], options),
    do: :proper_types.resize(3, :proper_types.list(kind(kind, options)))

  defp kind(:bool, _), do: :proper_types.bool()
  defp kind(:uint32, _), do: edges(0, 0xFFFF_FFFF)
  defp kind(kind, _) when kind in [:uint64, :fixed64], do: edges(0, 0xFFFF_FFFF_FFFF_FFFF)
  defp kind(:int64, _), do: edges(-0x8000_0000_0000_0000, 0x7FFF_FFFF_FFFF_FFFF)
  defp kind(:bytes, _), do: :proper_types.oneof(["", :proper_types.binary(), long()])
  defp kind(:string, _), do: :proper_types.oneof(["", text()])
  defp kind({:message, module}, options), do: message(module, options)

  defp kind({:enum, module}, options) do
    least = if options[:canonical], do: 0, else: -0x8000_0000
    map(edges(least, 0x7FFF_FFFF), &module.name/1)
  end

  # Where one more byte is needed, and the ends.
  defp edges(least, most) do
    powers = for n <- 0..9, edge <- [-1, 0], value = Bitwise.bsl(1, 7 * n) + edge, value <= most, do: value
    :proper_types.oneof([least, most, :proper_types.integer(least, most) | powers])
  end

  # 128 bytes and more: the length takes two.
  defp long, do: map(:proper_types.integer(120, 140), &:binary.copy("x", &1))

  defp text do
    letters = :proper_types.oneof([?a, ?é, ?€, ?😀, ?\0, :proper_types.integer(0, 0xD7FF)])
    map(:proper_types.list(letters), &List.to_string/1)
  end

  @doc "Another value made from a drawn one."
  @spec map(:proper_types.type(), (term() -> term())) :: :proper_types.type()
  def map(type, fun), do: :proper_types.bind(type, fn value -> :proper_types.exactly(fun.(value)) end, true)

  @doc "Bytes near those of a message: cut, with a byte changed, with bytes put in or doubled."
  @spec bent(binary()) :: :proper_types.type()
  def bent(bytes) do
    size = byte_size(bytes)
    at = :proper_types.integer(0, size)

    map({at, at, :proper_types.byte(), :proper_types.integer(0, 3)}, fn {from, to, byte, how} ->
      <<head::binary-size(from), tail::binary>> = bytes

      case {how, tail} do
        {0, _} -> head
        {1, <<_, tail::binary>>} -> head <> <<byte>> <> tail
        {2, _} -> head <> binary_part(bytes, min(from, to), abs(to - from)) <> tail
        _ -> head <> <<byte>> <> tail
      end
    end)
  end
end
