defmodule Brain.Codec.Enum do
  @moduledoc """
  Makes an enum's module from its table: names are atoms, a number without a name stays a number (as in prost, 32 bits
  signed).
  """

  @doc false
  defmacro __using__(_options) do
    quote do
      import Brain.Codec.Enum, only: [enum: 1]
    end
  end

  @doc "Defines `name/1` and `number/1` from `[{number, name}]`."
  defmacro enum(rows) do
    names = for {number, name} <- rows, do: quote(do: def(name(unquote(number)), do: unquote(name)))
    numbers = for {number, name} <- rows, do: quote(do: def(number(unquote(name)), do: unquote(number)))

    quote do
      @doc "The name of a number, or the number."
      @spec name(integer()) :: t()
      unquote_splicing(names)
      def name(number) when is_integer(number), do: number

      @doc "The number of a name, or the number itself."
      @spec number(t()) :: integer()
      unquote_splicing(numbers)
      def number(number) when number in -0x8000_0000..0x7FFF_FFFF, do: number
    end
  end
end
