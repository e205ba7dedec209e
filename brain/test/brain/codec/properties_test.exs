defmodule Brain.Codec.PropertiesTest do
  # What holds for every message of the schemas, whatever is in it.
  use ExUnit.Case, async: true

  import Brain.Prop

  alias Brain.{Codec, Envelope, Messages}
  alias Brain.Proto.V1

  for module <- Messages.all() do
    @module module
    test "#{inspect(module)}: what was encoded is decoded" do
      check(Messages.message(@module), fn message ->
        assert Codec.decode(@module, Codec.encode(message)) == {:ok, message}
      end)
    end
  end

  for module <- Messages.all("V1") do
    @module module
    test "#{inspect(module)}: what we encode is canonical" do
      check(Messages.message(@module, canonical: true), fn message ->
        assert Codec.canonical(@module, Codec.encode(message)) == :ok
      end)
    end
  end

  test "a default message has no bytes" do
    for module <- Messages.all() do
      assert Codec.encode(struct(module)) == ""
      assert Codec.decode(module, "") == {:ok, struct(module)}
    end
  end

  defp bent do
    modules = Messages.all("V1")

    :proper_types.bind(
      Messages.any(modules),
      fn message -> {message.__struct__, Messages.bent(Codec.encode(message))} end,
      true
    )
  end

  test "what is canonical is decoded by everyone, and encodes to no more bytes" do
    check(
      bent(),
      fn {module, bytes} ->
        if Codec.canonical(module, bytes) == :ok do
          assert {:ok, message} = Codec.decode(module, bytes)
          assert byte_size(Codec.encode(message)) <= byte_size(bytes)
        end
      end,
      runs: 2000
    )
  end

  test "what is decoded can be encoded, and is then read alike" do
    check(
      bent(),
      fn {module, bytes} ->
        case Codec.decode(module, bytes) do
          {:ok, message} -> assert Codec.decode(module, Codec.encode(message)) == {:ok, message}
          {:error, reason} -> assert is_atom(reason)
        end
      end,
      runs: 2000
    )
  end

  test "no bytes raise" do
    modules = Messages.all()

    check(
      {:proper_types.oneof(modules), :proper_types.oneof([:proper_types.binary(), short_keys()])},
      fn {module, bytes} ->
        assert {tag, _} = Codec.decode(module, bytes)
        assert tag in [:ok, :error]

        if function_exported?(module, :__row__, 1) do
          case Codec.canonical(module, bytes) do
            :ok -> :ok
            {:error, %{at: at, field: field}} -> assert at in 0..byte_size(bytes) and field in 0..0x1FFF_FFFF
          end
        end

        for door <- [&Envelope.client/1, &Envelope.forwarded/1, &Envelope.delivered/1] do
          assert {tag, _} = door.(bytes)
          assert tag in [:ok, :error]
        end
      end,
      runs: 3000
    )
  end

  # Bytes that look like small fields: they get further than any bytes do.
  defp short_keys do
    byte = :proper_types.oneof([0, 1, 8, 10, 16, 18, 24, 26, 34, 42, 82, 0x80, 0xA2, 0xFF, :proper_types.byte()])
    Messages.map(:proper_types.list(byte), &:erlang.list_to_binary/1)
  end

  test "a message behind another is merged into it" do
    for module <- [V1.Envelope, V1.Command, V1.Snapshot, V1.Set, Brain.Proto.Internal.PresenceDelta] do
      check(
        {Messages.message(module), Messages.message(module)},
        fn {a, b} ->
          assert Codec.decode(module, Codec.encode(a) <> Codec.encode(b)) == {:ok, merged(module, a, b)}
        end,
        size: 10
      )
    end
  end

  # The schema language's words about it, on structs.
  defp merged(module, a, b) do
    rows = Enum.uniq_by(module.__fields__(), &member/1)

    Enum.reduce(rows, a, fn row, a ->
      name = member(row)
      Map.put(a, name, merged_member(row, Map.get(a, name), Map.get(b, name), Map.get(struct(module), name)))
    end)
  end

  defp member({_, _, _, {:oneof, name}}), do: name
  defp member({_, name, _, _}), do: name

  defp merged_member({_, _, _, :repeated}, old, new, _), do: old ++ new
  defp merged_member(_, old, default, default), do: old

  defp merged_member({_, _, _, {:oneof, _}}, {name, %module{} = old}, {name, new}, _),
    do: {name, merged(module, old, new)}

  defp merged_member({_, _, {:message, module}, :optional}, old, new, _) when old != nil, do: merged(module, old, new)
  defp merged_member(_, _, new, _), do: new

  test "an appended sender is read beside an unchanged envelope, and is exactly what is added" do
    check(
      {accepted(), Messages.message(V1.Sender)},
      fn {envelope, sender} ->
        bytes = Codec.encode(envelope)
        sent = Codec.encode(%V1.Envelope{sender: sender})
        assert {:ok, view} = Envelope.client(bytes)
        assert Codec.decode(V1.Envelope, bytes <> sent) == {:ok, %{envelope | sender: sender}}
        assert Envelope.forwarded(bytes <> sent) == {:ok, %{view | sender: Codec.encode(sender)}}
      end
    )
  end

  test "an accepted envelope is refused at every length but its own" do
    check(
      accepted(),
      fn envelope ->
        bytes = Codec.encode(envelope)

        for size <- 0..(byte_size(bytes) - 1) do
          assert {:error, error} = Envelope.client(binary_part(bytes, 0, size))
          assert error.code in [:malformed_envelope, :missing_field]
        end
      end,
      runs: 40
    )
  end

  test "every message cut short is refused or one with less in it" do
    check(
      Messages.any(Messages.all("V1")),
      fn %module{} = message ->
        bytes = Codec.encode(message)

        for size <- 0..byte_size(bytes) do
          case Codec.decode(module, binary_part(bytes, 0, size)) do
            {:ok, less} -> assert byte_size(Codec.encode(less)) <= size
            {:error, reason} -> assert reason in [:cut_short, :utf8]
          end
        end
      end,
      size: 20
    )
  end

  # What `Brain.Envelope.client/1` must accept.
  defp accepted do
    id = :proper_types.binary(16)
    signature = :proper_types.oneof(["", :proper_types.binary(64)])
    room = Messages.map(:proper_types.integer(1, 99), &"room-#{&1}")
    timestamp = :proper_types.oneof([-1, 1, 1_760_000_000_000])
    trace = :proper_types.oneof(["", :binary.copy("0", 55)])
    command = Messages.message(V1.Command, canonical: true)

    Messages.map({id, signature, room, timestamp, trace, command, :proper_types.bool()}, fn
      {id, signature, room, timestamp, trace, command, ack} ->
        %V1.Envelope{
          message_id: id,
          signature: signature,
          room_id: room,
          timestamp: timestamp,
          trace_id: trace,
          ack_requested: ack,
          payload: {:cmd, command}
        }
    end)
  end
end
