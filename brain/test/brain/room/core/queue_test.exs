defmodule Brain.Room.QueueTest do
  @moduledoc "What is counted beside the queue is what one would count in it."
  use ExUnit.Case, async: true

  alias Brain.Room.Core.Queue

  test "length, bytes and syncs follow what waits" do
    command = {:command, "r", nil, 100, 0}
    queue = Queue.new() |> Queue.push(command) |> Queue.push({:get, "r", :caller})
    queue = Queue.push_front(queue, {:sync, "r", nil, 0})
    assert {queue.len, queue.bytes, queue.syncs} == {3, 228, 1}
    assert [{:sync, _, _, _}, ^command, {:get, _, _}] = Queue.to_list(queue)
    assert {{:sync, _, _, _}, queue} = Queue.pop(queue)
    assert {{:command, _, _, _, _}, queue} = Queue.pop(queue)
    assert {queue.len, queue.bytes, queue.syncs} == {1, 64, 0}
    refute Queue.empty?(queue)
    assert {{:get, _, _}, queue} = Queue.pop(queue)
    assert Queue.empty?(queue) and Queue.pop(queue) == nil and queue == Queue.new()
  end

  test "it is full by number and by bytes" do
    assert Queue.has_room?(%Queue{len: 1023, bytes: 4 * 1024 * 1024 - 1})
    refute Queue.has_room?(%Queue{len: 1024})
    refute Queue.has_room?(%Queue{bytes: 4 * 1024 * 1024})
  end
end
