defmodule Brain.IdTest do
  use ExUnit.Case, async: true
  doctest Brain.Id

  import Brain.Prop

  alias Brain.Id

  test "lengths" do
    for kind <- [:tenant, :room, :user, :node] do
      max = Id.max(kind)
      assert Id.valid?(kind, "a") and Id.valid?(kind, String.duplicate("Z", max))
      refute Id.valid?(kind, "") or Id.valid?(kind, String.duplicate("Z", max + 1))
    end
  end

  test "each byte, at the first place and behind it" do
    first = [?0..?9, ?A..?Z, ?a..?z] |> Enum.flat_map(&Enum.to_list/1)

    for byte <- 0..255 do
      assert Id.id?(<<byte>>, 8) == byte in first
      assert Id.id?(<<?a, byte>>, 8) == byte in [?_, ?- | first]
      assert Id.id?(<<?a, byte, ?b>>, 8) == byte in [?_, ?- | first]
    end
  end

  test "an id has one line" do
    refute Id.valid?(:room, "lobby\n")
    assert {:error, "a node id must be [A-Za-z0-9][A-Za-z0-9_-]{0,63}"} = Id.parse(:node, "é")
  end

  test "any bytes are judged" do
    pattern = ~r/\A[A-Za-z0-9][A-Za-z0-9_-]{0,7}\z/
    check(:proper_types.binary(), fn text -> Id.id?(text, 8) == Regex.match?(pattern, text) end, runs: 300)
  end
end
