defmodule Brain.Room.DecideTest do
  use ExUnit.Case, async: true

  import Brain.RoomGen

  alias Brain.Proto.V1
  alias Brain.Room.{Chain, Decide, Dedupe, State, Tail}
  alias Brain.Room.Decide.Refusal

  @mod 16
  # pub and state: what users have.
  @user 6

  defp decide(command, state \\ %State{}, tail \\ %Tail{epoch: 9, seq: 4}, at \\ start_ms()),
    do: Decide.decide(state, tail, at, command)

  defp with_body(state \\ %State{}, body), do: State.apply(state, %V1.Envelope{}, %V1.Event{body: body, at: 1})
  defp with_key(key, ver, value \\ "old"), do: with_body({:key_set, %V1.KeySet{key: key, value: value, ver: ver}})
  defp with_lock(mode, user \\ "ann"), do: with_body({:locked, %V1.Locked{mode: mode, user: user}})

  defp code({:refuse, refusal}), do: refusal.code
  defp code({kind, _}), do: kind

  test "what is done is told as an event" do
    assert decide(command("ann", 1, say("hi"))) == {:event, {:said, %V1.Said{data: "hi", type: "text"}}}
    assert decide(command("ann", 1, set("k", "v"))) == {:event, {:key_set, %V1.KeySet{key: "k", value: "v", ver: 5}}}
    ends = start_ms() + 700
    assert {:event, {:key_set, %{expires_at: ^ends}}} = decide(command("ann", 1, set("k", "v", ttl_ms: 700)))
    deleted = decide(command("ann", 1, delete("k")), with_key("k", 3))
    assert deleted == {:event, {:key_deleted, %V1.KeyDeleted{key: "k"}}}
    locked = %V1.Locked{mode: :write, reason: "why", until: ends, user: "ann"}
    assert decide(command("ann", 1, lock(:write, reason: "why", ttl_ms: 700))) == {:event, {:locked, locked}}
    assert {:event, {:locked, %{until: 0}}} = decide(command("ann", 1, lock(:all)))
    assert decide(command("ann", 1, unlock()), with_lock(:all)) == {:event, {:unlocked, %V1.Unlocked{}}}
  end

  test "the last seq there is" do
    tail = %Tail{seq: 0xFFFF_FFFF_FFFF_FFFF}

    assert {:event, {:key_set, %{ver: 0xFFFF_FFFF_FFFF_FFFF}}} =
             decide(command("ann", 1, set("k", "v")), %State{}, tail)
  end

  test "each operation has its right" do
    for {op, right} <- [
          {say("hi"), 2},
          {set("k", "v"), 4},
          {delete("k"), 4},
          {lock(:all), @mod},
          {unlock(), @mod}
        ] do
      assert code(decide(command("ann", 1, op, rights: Bitwise.bxor(127, right)))) == :permission_denied
      refute code(decide(command("ann", 1, op, rights: right))) == :permission_denied
    end

    assert decide(command("ann", 1, {:kick, %V1.Kick{}})) == {:refuse, Refusal.plain(:unsupported_operation)}
    none = decide(command("ann", 1, nil))
    assert none == {:refuse, Refusal.because(:bad_command, "the command names no operation")}
  end

  test "only say can be ephemeral, and it is not deduplicated" do
    said = {:said, %V1.Said{data: "hi", type: "text"}}
    state = %State{dedupe: Dedupe.record(%Dedupe{}, "ann", %Dedupe.Seen{id: mid(1), timestamp: start_ms()}, 0)}
    assert decide(command("ann", 1, say("hi"), ephemeral: true, timestamp: 5), state) == {:ephemeral, said}
    refused = {:refuse, Refusal.because(:bad_command, "only say can be ephemeral")}
    assert decide(command("ann", 1, set("k", "v"), ephemeral: true)) == refused
  end

  test "a repeat gets its place before anything else is looked at" do
    seen = %Dedupe.Seen{id: mid(1), epoch: 9, seq: 3, timestamp: start_ms()}
    state = %State{dedupe: Dedupe.record(%Dedupe{}, "ann", seen, 0)}
    assert decide(command("ann", 1, nil, rights: 0), state) == {:repeat, seen}
    assert {:event, _} = decide(command("bob", 1, say("hi")), state)
    old = command("ann", 2, nil, rights: 0, timestamp: start_ms() - Dedupe.window_ms() - 1)
    assert decide(old, state) == {:refuse, Refusal.plain(:outcome_expired)}
  end

  test "the same id with other bytes is no repeat" do
    sent = command("ann", 1, say("hi"), raw: "the command")
    known = fn fingerprint -> %Dedupe.Seen{id: mid(1), seq: 3, timestamp: start_ms(), fingerprint: fingerprint} end
    state = fn seen -> %State{dedupe: Dedupe.record(%Dedupe{}, "ann", seen, 0)} end
    seen = known.(Chain.fingerprint(start_ms(), "the command"))
    assert decide(sent, state.(seen)) == {:repeat, seen}
    assert decide(%{sent | ephemeral: false, trace_id: "another", signature: <<1>>}, state.(seen)) == {:repeat, seen}
    refused = {:refuse, Refusal.plain(:message_id_reused)}
    assert decide(%{sent | raw: "another command"}, state.(seen)) == refused
    assert decide(%{sent | timestamp: start_ms() + 1}, state.(seen)) == refused
    # What was stored before there were fingerprints, and what a policy rewrote, is known by its id alone.
    assert decide(%{sent | raw: "another"}, state.(known.(0))) == {:repeat, known.(0)}
    assert decide(%{sent | raw: "rewritten", redacted_by: "policy"}, state.(seen)) == {:repeat, seen}
  end

  test "a ttl has a bound" do
    longest = Decide.ttl_max_ms()
    ends = start_ms() + longest
    assert {:event, {:key_set, %{expires_at: ^ends}}} = decide(command("ann", 1, set("k", "v", ttl_ms: longest)))
    assert {:event, {:locked, %{until: ^ends}}} = decide(command("ann", 1, lock(:all, ttl_ms: longest)))
    refused = {:refuse, Refusal.plain(:ttl_too_long)}

    for ttl <- [longest + 1, 0xFFFF_FFFF_FFFF_FFFF], op <- [set("k", "v", ttl_ms: ttl), lock(:all, ttl_ms: ttl)] do
      assert decide(command("ann", 1, op)) == refused
    end
  end

  test "a full window is busy" do
    dedupe = %Dedupe{bytes: Dedupe.room_bytes_max()}
    refused = decide(command("ann", 1, say("hi")), %State{dedupe: dedupe})
    assert refused == {:refuse, %Refusal{code: :busy, retry_after_ms: 1000}}
  end

  test "if_head is the room's head or nothing happens" do
    at = fn epoch, seq -> command("ann", 1, say("hi"), if_head: %V1.Head{epoch: epoch, seq: seq}) end
    assert {:event, _} = decide(at.(9, 4))
    refused = {:refuse, Refusal.because(:version_conflict, "the room's head is not if_head")}
    for head <- [at.(9, 3), at.(8, 4)], do: assert(decide(head) == refused)
  end

  test "a lock keeps commands out, moderators' aside" do
    for {mode, barred} <- [none: :event, join: :event, write: :room_locked, all: :room_locked] do
      assert code(decide(command("bob", 1, say("hi"), rights: @user), with_lock(mode))) == barred
      assert code(decide(command("bob", 1, say("hi")), with_lock(mode))) == :event
    end
  end

  test "versions are compared" do
    conflict = fn ver ->
      {:refuse, %Refusal{code: :version_conflict, detail: "the key has another version", ver: ver}}
    end

    for op <- [&set("k", "v", expect: &1), &delete("k", &1)] do
      assert {:event, _} = decide(command("ann", 1, op.(3)), with_key("k", 3))
      assert decide(command("ann", 1, op.(2)), with_key("k", 3)) == conflict.(3)
      assert decide(command("ann", 1, op.(0)), with_key("k", 3)) == conflict.(3)
      assert decide(command("ann", 1, op.(2))) == conflict.(0)
    end

    assert {:event, _} = decide(command("ann", 1, set("k", "v", expect: 0)))
    assert decide(command("ann", 1, delete("k", 0))) == {:refuse, Refusal.plain(:not_found)}
    assert decide(command("ann", 1, delete("k"))) == {:refuse, Refusal.plain(:not_found)}
  end

  test "sizes are bounded" do
    text = &String.duplicate("x", &1)

    for {op, code} <- [
          {set("", "v"), :value_too_large},
          {set(text.(129), "v"), :value_too_large},
          {set(text.(128), text.(16 * 1024)), :event},
          {set("k", text.(16 * 1024 + 1)), :value_too_large},
          {{:say, %V1.Say{type: text.(64)}}, :event},
          {{:say, %V1.Say{type: text.(65)}}, :bad_command},
          {lock(:all, reason: text.(256)), :event},
          {lock(:all, reason: text.(257)), :bad_command},
          {lock(:none), :bad_command},
          {lock(9), :bad_command}
        ] do
      assert code(decide(command("ann", 1, op))) == code
    end

    assert {:refuse, %{detail: "say.type is at most 64 bytes"}} =
             decide(command("ann", 1, {:say, %V1.Say{type: text.(65)}}))

    assert {:refuse, %{detail: "lock.mode is join, write or all"}} = decide(command("ann", 1, lock(:none)))

    assert {:refuse, %{detail: "lock.reason is at most 256 bytes"}} =
             decide(command("ann", 1, lock(:all, reason: text.(257))))
  end

  test "keys and bytes are bounded, what is replaced counted off" do
    many = Enum.reduce(1..256, %State{}, &with_body(&2, {:key_set, %V1.KeySet{key: "key-#{&1}"}}))
    full = Refusal.because(:state_quota, "a room has at most 256 keys")
    assert decide(command("ann", 1, set("one-more", "v")), many) == {:refuse, full}
    assert {:event, _} = decide(command("ann", 1, set("key-7", "v")), many)

    value = String.duplicate("x", 16 * 1024)
    heavy = Enum.reduce(1..31, %State{}, &with_body(&2, {:key_set, %V1.KeySet{key: "key-#{&1}", value: value}}))
    full = Refusal.because(:state_quota, "a room's state is at most 512 KiB")
    assert decide(command("ann", 1, set("one-more", value)), heavy) == {:refuse, full}
    assert {:event, _} = decide(command("ann", 1, set("key-7", value)), heavy)
  end

  test "another's lock is opened with force" do
    refused = Refusal.because(:permission_denied, "another moderator locked the room: unlock with force")
    assert decide(command("bob", 1, unlock()), with_lock(:all)) == {:refuse, refused}
    assert {:event, _} = decide(command("bob", 1, unlock(true)), with_lock(:all))
    assert decide(command("bob", 1, unlock(true))) == {:refuse, Refusal.plain(:not_found)}
  end
end
