defmodule Brain.Prop do
  @moduledoc """
  Runs a property with PropEr inside an ExUnit test.

      import Brain.Prop

      test "reversing twice changes nothing" do
        check(:proper_types.list(:proper_types.int()), fn list ->
          assert Enum.reverse(Enum.reverse(list)) == list
        end)
      end

  Types are those of `:proper_types`; PropEr reads a tuple of types as the type of such tuples. The body fails by raising
  (`assert`) or by returning `false`. A failure is shrunk, then told with the smallest counterexample and the seed to repeat
  it. The seed follows ExUnit's, so `mix test --seed N` repeats a whole run.
  """

  import ExUnit.Assertions, only: [flunk: 1]

  @typedoc """
  - `:runs` how many inputs, 100 by default
  - `:size` the greatest size of an input, 42 by default
  - `:seed` three integers, by default made from ExUnit's seed
  """
  @type option :: {:runs, pos_integer()} | {:size, pos_integer()} | {:seed, {integer(), integer(), integer()}}

  @doc "Fails the test unless `body` holds for inputs of `type`."
  @spec check(term(), (term() -> term()), [option()]) :: :ok
  def check(type, body, options \\ []) when is_function(body, 1) do
    seed = Keyword.get_lazy(options, :seed, &seed/0)
    # PropEr keeps a generator that stands in the process already.
    :rand.seed(:exsplus, seed)
    runs = Keyword.get(options, :runs, 100)
    options = [:quiet, :long_result, numtests: runs, max_size: Keyword.get(options, :size, 42)]

    case :proper.quickcheck(:proper.forall(type, &holds?(body, &1)), options) do
      true -> :ok
      [input] -> falsified(input, body, seed)
      {:error, reason} -> flunk("the property cannot be tested: #{inspect(reason)}")
    end
  end

  # PropEr 1.2 cannot take an exception itself on this Erlang: it asks for a stack trace in a way that is gone.
  defp holds?(body, input) do
    body.(input) != false
  catch
    _kind, _reason -> false
  end

  # Runs the body once more, outside of PropEr, for the assertion's own text and place.
  defp falsified(input, body, seed) do
    told = "falsified by #{inspect(input, limit: :infinity, printable_limit: :infinity)}\nseed: #{inspect(seed)}"

    try do
      body.(input)
    rescue
      error in ExUnit.AssertionError ->
        reraise %{error | message: "#{error.message}\n#{told}"}, __STACKTRACE__

      error ->
        text = Exception.format(:error, error, __STACKTRACE__)
        reraise ExUnit.AssertionError, [message: "#{told}\n#{text}"], __STACKTRACE__
    catch
      kind, reason ->
        text = Exception.format(kind, reason, __STACKTRACE__)
        reraise ExUnit.AssertionError, [message: "#{told}\n#{text}"], __STACKTRACE__
    else
      false -> flunk(told)
      _ -> flunk("#{told}\nIt held when it was tried again: the property depends on more than its input.")
    end
  end

  defp seed do
    seed = ExUnit.configuration()[:seed] || 0
    {seed, 0, 1}
  end
end
