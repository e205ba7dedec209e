defmodule Brain.CodeTest do
  use ExUnit.Case, async: true

  alias Brain.Code

  test "every code is found by its number" do
    numbers = for code <- Code.all(), do: Code.number(code)
    assert numbers == Enum.sort(numbers) and numbers == Enum.uniq(numbers)
    assert Enum.map(numbers, &Code.from_number/1) == Code.all()
    for number <- [-1, 0, 1000, 0xFFFF, 0x1_0000_0000], do: assert(Code.from_number(number) == nil)
  end

  test "every code says what a client may do, where it appears, and what it means" do
    for code <- Code.all() do
      assert Code.retry(code) in [:never, :same, :later, :reconnect, :new_token]
      assert Code.scope(code) in [:frame, :command, :room, :close, :http]
      assert Code.message(code) != "" and Code.name(code) == Atom.to_string(code)
    end
  end

  test "what the room's core relies on" do
    assert {Code.number(:room_absent), Code.number(:not_applied)} == {5001, 6002}
    assert {Code.retry(:unavailable), Code.retry(:outcome_unknown), Code.retry(:not_applied)} == {:same, :same, :same}
  end
end
