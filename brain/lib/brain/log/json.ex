defmodule Brain.Log.Json do
  @moduledoc """
  Flat JSON objects, as log lines and trace records are: texts, numbers, booleans. ASCII only: everything else in a text
  becomes an escape, so that one record is one line for every reader.
  """

  @doc "An object of these fields, in this order; `nil` is left out."
  @spec object([{atom, binary | atom | integer | boolean | nil}]) :: iolist
  def object(fields), do: [?{, members(fields), ?}]

  @doc "The members of an object, without its braces."
  @spec members([{atom, binary | atom | integer | boolean | nil}]) :: iolist
  def members([{_, nil} | fields]), do: members(fields)
  def members([{key, value} | fields]), do: [?", Atom.to_string(key), "\":", value(value) | more(fields)]
  def members([]), do: []

  defp more([{_, nil} | fields]), do: more(fields)
  defp more([{key, value} | fields]), do: [",\"", Atom.to_string(key), "\":", value(value) | more(fields)]
  defp more([]), do: []

  @doc "One value."
  @spec value(binary | atom | integer | boolean) :: iodata
  def value(true), do: "true"
  def value(false), do: "false"
  def value(value) when is_integer(value), do: Integer.to_string(value)
  def value(value) when is_atom(value), do: value(Atom.to_string(value))

  def value(value) when is_binary(value) do
    if plain?(value), do: [?", value, ?"], else: [?", for(char <- chars(value), do: escape(char)), ?"]
  end

  defp plain?(<<char, rest::binary>>) when char in 0x20..0x7E and char != ?" and char != ?\\, do: plain?(rest)
  defp plain?(rest), do: rest == ""

  # Bytes that are no UTF-8 show as U+FFFD.
  defp chars(text) do
    case :unicode.characters_to_list(text) do
      chars when is_list(chars) -> chars
      {_, good, <<_, rest::binary>>} -> good ++ [0xFFFD | chars(rest)]
    end
  end

  defp escape(?"), do: "\\\""
  defp escape(?\\), do: "\\\\"
  defp escape(?\n), do: "\\n"
  defp escape(char) when char in 0x20..0x7E, do: char

  defp escape(char) do
    for <<unit::16 <- :unicode.characters_to_binary([char], :unicode, :utf16)>> do
      ["\\u", unit |> Integer.to_string(16) |> String.pad_leading(4, "0")]
    end
  end
end
