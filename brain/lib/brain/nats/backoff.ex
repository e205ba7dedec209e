defmodule Brain.Nats.Backoff do
  @moduledoc """
  How long to wait before the next attempt to connect: doubles from 20 ms to the configured longest pause, of which each
  connection takes another part, so that a broker that comes back is not met by all at once.
  """

  @first_ms 20

  @doc """
  `attempt` counts from 1 since the last connection; `part` (0.0 to 1.0) is the jitter. The very first attempt ever does
  not wait: see `Brain.Nats.Connection`.

      iex> Brain.Nats.Backoff.delay_ms(1, 1_000, 0.0)
      10
      iex> Brain.Nats.Backoff.delay_ms(50, 1_000, 1.0)
      1_000
  """
  @spec delay_ms(pos_integer, pos_integer, float) :: non_neg_integer
  def delay_ms(attempt, longest_ms, part) when part >= 0.0 and part <= 1.0 do
    full = min(@first_ms * Bitwise.bsl(1, min(attempt - 1, 16)), longest_ms)
    div(full, 2) + round(part * (full - div(full, 2)))
  end
end
