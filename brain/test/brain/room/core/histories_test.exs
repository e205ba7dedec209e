defmodule Brain.Room.HistoriesTest do
  @moduledoc "Random histories of one room, and the laws that hold in each. A failure prints its shortest history."
  use ExUnit.Case, async: true

  import Brain.Prop

  alias Brain.RoomHistory

  @moduletag timeout: 300_000

  test "without power cuts nothing acked is ever lost or doubled" do
    check(RoomHistory.steps(), &RoomHistory.play(RoomHistory.calm(&1)), runs: 1000, size: 320)
  end

  test "power cuts lose a tail and never the order" do
    check(RoomHistory.steps(), &RoomHistory.play/1, runs: 1000, size: 320)
  end
end
