defmodule Brain.Nats.SubsTest do
  # The account of a subscriber's mailbox, as a plain value: this process is the connection and the subscriber.
  use ExUnit.Case, async: true

  import Brain.Prop

  alias Brain.Nats.{Calls, Sub, Subs}

  defp one(max) do
    sub = Sub.new(self())
    {sub, Subs.add(Subs.new(), sub, self(), "a.b", nil, max, {:asker, make_ref()})}
  end

  defp deliver(subs, body), do: Subs.deliver(subs, 2, fn "a.b" -> {:ok, body} end)

  # What stands in the mailbox, in order: bodies, and losses as negative numbers. `{:room, id}` is the connection's.
  defp mailbox(seen \\ []) do
    receive do
      {:nats, _sub, body} -> mailbox([body | seen])
      {:nats_lost, _sub, count} -> mailbox([-count | seen])
    after
      0 -> Enum.reverse(seen)
    end
  end

  test "a loss is told before the next message, also if nobody has said yet that there is room" do
    {sub, subs} = one(1)
    subs = subs |> deliver(1) |> deliver(2) |> deliver(3)
    Sub.ack(sub, 1)
    assert_received {:room, _id}
    subs = deliver(subs, 4)
    assert mailbox() == [1, -2, 4]
    # It is told once.
    assert subs |> Subs.room(sub.id) |> Subs.room(sub.id)
    assert mailbox() == []
  end

  test "a loss is told when there is room, if nothing comes any more" do
    {sub, subs} = one(2)
    subs = subs |> deliver(1) |> deliver(2) |> deliver(3) |> Subs.room(sub.id)
    assert mailbox() == [1, 2]
    Sub.ack(sub, 2)
    assert_received {:room, id}
    Subs.room(subs, id)
    assert mailbox() == [-1]
  end

  test "whatever is delivered and acknowledged, nothing is missing without a word and nothing passes the bound" do
    check(
      {:proper_types.integer(1, 5), :proper_types.list(:proper_types.oneof([:message, :ack, :room]))},
      fn {max, steps} ->
        {sub, subs} = one(max)

        {_subs, sent, held, seen} =
          Enum.reduce(steps, {subs, 0, 0, []}, fn
            :message, {subs, sent, held, seen} ->
              subs = deliver(subs, sent + 1)
              {held, seen} = read(held, seen)
              assert held <= max
              {subs, sent + 1, held, seen}

            :ack, {subs, sent, held, seen} when held > 0 ->
              Sub.ack(sub, 1)
              {subs, sent, held - 1, seen}

            :ack, state ->
              state

            :room, {subs, sent, held, seen} ->
              subs = receive(do: ({:room, id} -> Subs.room(subs, id)), after: (0 -> subs))
              {held, seen} = read(held, seen)
              {subs, sent, held, seen}
          end)

        # The account adds up but for what is still to be told, and that only while the mailbox is full or will be asked.
        told = Enum.reduce(seen, 0, fn item, due -> account(item, due) end)
        assert told <= sent
        assert told == sent or held == max or match?({:room, _id}, receive(do: (room -> room), after: (0 -> nil)))
        flush()
      end,
      runs: 500
    )
  end

  # A message must be the one that is due.
  defp account(lost, due) when lost < 0, do: due - lost

  defp account(body, due) do
    assert body == due + 1
    body
  end

  defp read(held, seen) do
    new = mailbox()
    {held + Enum.count(new, &(&1 > 0)), seen ++ new}
  end

  defp flush do
    receive do
      _any -> flush()
    after
      0 -> :ok
    end
  end

  test "a call takes as many answers as it wants, or one with a status, and none after its end" do
    {1, calls} = Calls.open(Calls.new(), self(), :tag, 2, fn 1 -> make_ref() end)
    assert {:more, %{tag: :tag}, calls} = Calls.answer(calls, 1, nil)
    assert {:done, %{tag: :tag}, calls} = Calls.answer(calls, 1, nil)
    assert Calls.answer(calls, 1, nil) == :none
    assert Calls.close(calls, 1) == :none
    {2, calls} = Calls.open(calls, self(), :tag, 9, fn 2 -> make_ref() end)
    assert {:done, _call, _calls} = Calls.answer(calls, 2, 204)
    assert {[%{tag: :tag}], calls} = Calls.close_all(calls)
    assert Calls.close_all(calls) == {[], calls}
    assert Calls.token("_INBOX.x.17", 9) == 17
    for subject <- ["_INBOX.x.", "_INBOX.x.a", "_INBOX.x.1.2", "_IN"], do: assert(Calls.token(subject, 9) == nil)
  end
end
