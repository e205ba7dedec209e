defmodule Brain.Nats.ContractNamesTest do
  # The contract suite of the Rust side is the list of what a Spine must do; this one has the same cases by name.
  use ExUnit.Case, async: true

  # Other promises of this client, each with the case that stands instead.
  @instead %{
    # Nothing is kept for a later connection: what is refused at once needs no deadline.
    "publish_without_broker_is_queued_then_times_out" => "publish_without_broker_is_refused_at_once",
    "a_publish_that_timed_out_is_never_sent" => "a_publish_that_was_refused_is_never_sent",
    "a_request_without_broker_ends_at_its_limit" => "a_request_without_broker_fails_at_once",
    # Nothing is queued that they could come before; that they are the first bytes is seen by a fake broker.
    "subscriptions_come_before_what_is_queued" => "subscriptions_come_before_anything_else"
  }

  test "every case of the contract stands here" do
    cases = Path.expand("../../../../spine/src/contract/cases.rs", __DIR__)
    [list | _] = cases |> File.read!() |> String.split("core:") |> tl() |> Enum.join() |> String.split("}", parts: 2)
    named = ~r/^\s+([a-z_]{8,});?$/m |> Regex.scan(list) |> Enum.map(&List.last/1)
    assert length(named) >= 60

    here = Path.join(__DIR__, "*_test.exs") |> Path.wildcard() |> Enum.map_join(&File.read!/1)
    missing = for name <- named, name = Map.get(@instead, name, name), not (here =~ ~s(test "#{name}")), do: name
    assert missing == []
  end
end
