defmodule Brain.BusTest do
  use ExUnit.Case, async: true

  alias Brain.Bus

  @moduletag :capture_log
  @limit_ms 60_000

  test "a bus that is killed is started anew, though a part of it outlives it" do
    Process.flag(:trap_exit, true)
    bus = Module.concat(__MODULE__, "Killed")
    {:ok, killed} = Bus.start_link(bus)
    [{part, left, _, _}] = Supervisor.which_children(killed)

    # It does not run, so it cannot end before the start below has begun.
    test = self()

    holder =
      Task.async(fn ->
        true = :erlang.suspend_process(left)
        send(test, :held)
        receive(do: (:release -> Process.sleep(50)))
        :erlang.resume_process(left)
      end)

    assert_receive :held, @limit_ms
    Process.exit(killed, :kill)
    assert_receive {:EXIT, ^killed, :killed}, @limit_ms
    assert {:error, {:shutdown, {_, ^part, {:already_started, ^left}}}} = Registry.start_link(keys: :unique, name: bus)
    send(holder.pid, :release)
    assert {:ok, started} = Bus.start_link(bus)
    refute Process.alive?(left)
    Task.await(holder, @limit_ms)

    assert {:ok, _} = Registry.register(bus, :here, nil)
    :ok = Supervisor.stop(started)
  end
end
