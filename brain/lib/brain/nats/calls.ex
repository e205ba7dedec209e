defmodule Brain.Nats.Calls do
  @moduledoc """
  The requests of one connection that wait for answers: one inbox, one token a call. A value.

  A token is used once: an answer that comes after its call's end meets nobody.
  """

  # `left`: how many answers are still taken; the last one ends the call, and so does a status, which has no second.
  @typep call :: %{pid: pid, tag: term, timer: reference, left: pos_integer}

  defstruct waiting: %{}, next: 1

  @opaque t :: %__MODULE__{waiting: %{pos_integer => call}, next: pos_integer}

  @doc "None."
  @spec new() :: t
  def new, do: %__MODULE__{}

  @doc "The next call's token. `timer` makes its timer from it."
  @spec open(t, pid, term, pos_integer, (pos_integer -> reference)) :: {pos_integer, t}
  def open(calls, pid, tag, most, timer) do
    token = calls.next
    call = %{pid: pid, tag: tag, timer: timer.(token), left: most}
    {token, %{calls | waiting: Map.put(calls.waiting, token, call), next: token + 1}}
  end

  @doc "An answer has come: whose, and whether it is the last."
  @spec answer(t, pos_integer, nil | integer) :: {:more | :done, call, t} | :none
  def answer(calls, token, status) do
    case calls.waiting do
      %{^token => %{left: left} = call} when left > 1 and status == nil ->
        {:more, call, put_in(calls.waiting[token], %{call | left: left - 1})}

      %{^token => call} ->
        {:done, call, %{calls | waiting: Map.delete(calls.waiting, token)}}

      _ ->
        :none
    end
  end

  @doc "Ends a call without an answer."
  @spec close(t, pos_integer) :: {call, t} | :none
  def close(calls, token) do
    case Map.pop(calls.waiting, token) do
      {nil, _waiting} -> :none
      {call, waiting} -> {call, %{calls | waiting: waiting}}
    end
  end

  @doc "Ends all of them, in the order in which they were made."
  @spec close_all(t) :: {[call], t}
  def close_all(calls) do
    all = calls.waiting |> Enum.sort() |> Enum.map(fn {_token, call} -> call end)
    {all, %{calls | waiting: %{}}}
  end

  @doc "The token at the end of an inbox subject."
  @spec token(binary, non_neg_integer) :: pos_integer | nil
  def token(subject, prefix_size) do
    case subject do
      <<_::binary-size(prefix_size), digits::binary>> when byte_size(digits) in 1..18 -> digits(digits, 0)
      _ -> nil
    end
  end

  defp digits(<<c, rest::binary>>, n) when c in ?0..?9, do: digits(rest, n * 10 + c - ?0)
  defp digits(<<>>, n), do: n
  defp digits(_other, _n), do: nil
end
