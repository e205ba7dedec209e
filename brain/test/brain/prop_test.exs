defmodule Brain.PropTest do
  use ExUnit.Case, async: true

  import Brain.Prop

  defp int, do: :proper_types.integer(0, 1000)

  test "a property that holds passes" do
    assert check(int(), fn n -> assert n <= 1000 end) == :ok
    assert check({int(), int()}, fn {a, b} -> a + b == b + a end) == :ok
  end

  test "the smallest counterexample and the seed are told" do
    for body <- [fn n -> assert n < 10 end, fn n -> n < 10 end, fn n -> if n >= 10, do: raise("no") end] do
      error = assert_raise ExUnit.AssertionError, fn -> check(int(), body, seed: {1, 2, 3}) end
      assert error.message =~ "falsified by 10\nseed: {1, 2, 3}"
    end
  end

  test "the same seed gives the same inputs" do
    inputs = fn ->
      check(int(), fn n -> send(self(), {:input, n}) end, seed: {4, 5, 6}, runs: 20)
      for _ <- 1..20, do: receive(do: ({:input, n} -> n))
    end

    assert inputs.() == inputs.()
  end
end
