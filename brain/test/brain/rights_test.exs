defmodule Brain.RightsTest do
  use ExUnit.Case, async: true

  test "each right is its bit" do
    for {right, bit} <- [sub: 1, pub: 2, state: 4, mod: 16] do
      assert Brain.Rights.has?(bit, right)
      refute Brain.Rights.has?(0xFFFF_FFFF - bit, right)
    end
  end
end
