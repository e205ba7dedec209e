defmodule Brain.Subject do
  @moduledoc """
  NATS subjects, patterns and stream names, as in `proto/src/subject.rs`. Each constructor asserts that what it is given
  are ids, so no subject can be built from unchecked text; text from the network goes through `valid?/1` or `room/1`.

      iex> Brain.Subject.log({"acme", "lobby"})
      "log.214.t.acme.r.lobby"
      iex> Brain.Subject.room("in.t.acme.r.lobby")
      {:ok, {"acme", "lobby"}}

  | subject | written by | read by |
  | --- | --- | --- |
  | `in.t.T.r.R` | Shields | the room's owner |
  | `log.{p}.t.T.r.R` | the room's owner, fenced | JetStream, which republishes it to `out.t.T.r.R` |
  | `out.t.T.r.R` | JetStream; the owner (not stored) | Shields |
  | `snap.{p}.t.T.r.R` | the room's owner, fenced | the next owner |
  | `gen.{i}` | the first owner of stream `LOG_i` | owners |
  | `open.t.T` | Shields | one Brain of the queue group `brain` |
  """

  alias Brain.Id

  @typedoc "A concrete subject: no wildcards."
  @type t :: binary()
  @typedoc "A subject that may hold wildcards, for subscriptions."
  @type pattern :: binary()
  @typedoc "A JetStream stream's name."
  @type stream :: binary()

  @partitions 256

  @doc "The queue group of `open.t.*`."
  @spec open_queue() :: binary()
  def open_queue, do: "brain"

  @doc "How many partitions the log has, for ever."
  @spec partitions() :: pos_integer()
  def partitions, do: @partitions

  # === where a room lives

  @doc "Partition of a room: the first byte of sha256(tenant, 0, room)."
  @spec partition(Id.t(), Id.t()) :: byte()
  def partition(tenant, room) do
    <<partition, _::binary>> = digest(tenant, room)
    partition
  end

  @doc "The room in heartbeats' tails: the first 8 bytes of the same digest, little-endian."
  @spec room_hash(Id.t(), Id.t()) :: non_neg_integer()
  def room_hash(tenant, room) do
    <<hash::little-64, _::binary>> = digest(tenant, room)
    hash
  end

  defp digest(tenant, room), do: :crypto.hash(:sha256, [tenant, 0, room])

  @doc "Which of `count` (1..256) log streams holds partition `p`: ranges of equal size."
  @spec stream_index(byte(), pos_integer()) :: non_neg_integer()
  def stream_index(p, count) when p in 0..255, do: div(p * (count |> max(1) |> min(@partitions)), @partitions)

  @doc "The partitions that log stream `index` of `count` holds."
  @spec stream_partitions(non_neg_integer(), pos_integer()) :: [byte()]
  def stream_partitions(index, count), do: for(p <- 0..255, stream_index(p, count) == index, do: p)

  # === subjects

  @doc "Commands to a room."
  @spec input(Id.room_key()) :: t()
  def input(key), do: "in." <> place(key)

  @doc "What a room says: republished entries and live events."
  @spec output(Id.room_key()) :: t()
  def output(key), do: "out." <> place(key)

  @doc "A room's log."
  @spec log(Id.room_key()) :: t()
  def log({tenant, room} = key), do: "log.#{partition(tenant, room)}." <> place(key)

  @doc "A room's snapshots."
  @spec snapshot(Id.room_key()) :: t()
  def snapshot({tenant, room} = key), do: "snap.#{partition(tenant, room)}." <> place(key)

  @doc "The generation of log stream `index`."
  @spec generation(non_neg_integer()) :: t()
  def generation(index) when is_integer(index) and index >= 0, do: "gen.#{index}"

  @doc "Asks for a room to be opened."
  @spec open(Id.t()) :: t()
  def open(tenant), do: "open.t." <> id(:tenant, tenant)

  @doc "Forwards an open to the node that should take it."
  @spec open_at(Id.t()) :: t()
  def open_at(node), do: "sys.n.brain.#{id(:node, node)}.open"

  @doc "A Shield's heartbeat."
  @spec heartbeat_shield(Id.t()) :: t()
  def heartbeat_shield(node), do: "sys.n.hb.shield." <> id(:node, node)

  @doc "A Brain's heartbeat."
  @spec heartbeat_brain(Id.t()) :: t()
  def heartbeat_brain(node), do: "sys.n.hb.brain." <> id(:node, node)

  @doc "A presence partition's deltas."
  @spec presence(byte()) :: t()
  def presence(p) when p in 0..255, do: "pres.#{p}"

  @doc "A tenant-wide ban, last value."
  @spec ban(Id.t(), Id.t()) :: t()
  def ban(tenant, user), do: "ban.t.#{id(:tenant, tenant)}.u.#{id(:user, user)}"

  @doc "A Brain speaker's inbox."
  @spec inbox_brain(Id.t(), non_neg_integer()) :: t()
  def inbox_brain(node, n) when is_integer(n), do: "_INBOX.b.#{id(:node, node)}.#{n}"

  @doc "A Brain writer's inbox."
  @spec inbox_writer(Id.t(), non_neg_integer()) :: t()
  def inbox_writer(node, n) when is_integer(n), do: "_INBOX.w.#{id(:node, node)}.#{n}"

  defp place({tenant, room}), do: "t.#{id(:tenant, tenant)}.r.#{id(:room, room)}"

  @doc "True if the text is a user's id, which no subject of a room holds."
  @spec user_id?(binary()) :: boolean()
  def user_id?(text), do: Id.valid?(:user, text)

  defp id(kind, text) do
    case Id.parse(kind, text) do
      {:ok, id} -> id
      {:error, why} -> raise ArgumentError, "#{inspect(text)}: #{why}"
    end
  end

  # === patterns

  @doc "Commands to every room."
  @spec all_input() :: pattern()
  def all_input, do: "in.t.*.r.*"

  @doc "Opens of every tenant."
  @spec all_opens() :: pattern()
  def all_opens, do: "open.t.*"

  @doc "Control signals of every tenant."
  @spec all_tenant_signals() :: pattern()
  def all_tenant_signals, do: "sys.t.*.*"

  @doc "Heartbeats of all nodes."
  @spec all_heartbeats() :: pattern()
  def all_heartbeats, do: "sys.n.hb.>"

  @doc "Everything addressed to this Brain."
  @spec to_brain(Id.t()) :: pattern()
  def to_brain(node), do: "sys.n.brain.#{id(:node, node)}.>"

  @doc "All inboxes of a Brain's speaker."
  @spec inboxes_brain(Id.t()) :: pattern()
  def inboxes_brain(node), do: "_INBOX.b.#{id(:node, node)}.*"

  @doc "Tenant bans of one tenant."
  @spec bans(Id.t()) :: pattern()
  def bans(tenant), do: "ban.t.#{id(:tenant, tenant)}.u.*"

  # === streams

  @doc "The stream `LOG_i`."
  @spec log_stream(non_neg_integer()) :: stream()
  def log_stream(index) when is_integer(index) and index >= 0, do: "LOG_#{index}"

  @doc "The stream `GEN_i`."
  @spec generation_stream(non_neg_integer()) :: stream()
  def generation_stream(index) when is_integer(index) and index >= 0, do: "GEN_#{index}"

  @doc "The stream of all rooms' snapshots."
  @spec snapshot_stream() :: stream()
  def snapshot_stream, do: "SNAP"

  @doc "The stream of tenant bans."
  @spec ban_stream() :: stream()
  def ban_stream, do: "BAN"

  @doc "The stream that stores `subject` when there are `logs` log streams; nil for what is not stored."
  @spec stream_of(t(), pos_integer()) :: stream() | nil
  def stream_of(subject, logs) do
    case :binary.split(subject, ".") do
      ["log", rest] ->
        [token | more] = :binary.split(rest, ".")
        p = number(token, 255)
        if more != [] and p != nil, do: log_stream(stream_index(p, logs))

      ["snap", _rest] ->
        snapshot_stream()

      ["gen", rest] ->
        index = number(rest, 0xFFFF_FFFF)
        if index != nil, do: generation_stream(index)

      ["ban", _rest] ->
        ban_stream()

      _ ->
        nil
    end
  end

  # === text from the network

  @doc "True for what NATS would publish to: tokens parted by single dots, no wildcards, at most 512 bytes of UTF-8."
  @spec valid?(binary()) :: boolean()
  def valid?(text), do: tokens?(text, false)

  @doc "`valid?/1` for subscriptions: `*` for a token, `>` for the last ones."
  @spec valid_pattern?(binary()) :: boolean()
  def valid_pattern?(text), do: tokens?(text, true)

  defp tokens?(text, wildcards) do
    byte_size(text) in 1..512 and String.valid?(text) and clean?(text) and
      tokens_ok?(:binary.split(text, ".", [:global]), wildcards)
  end

  defp clean?(<<c, rest::binary>>) when c > ?\s and c != 0x7F, do: clean?(rest)
  defp clean?(rest), do: rest == <<>>

  defp tokens_ok?([], _wildcards), do: true
  defp tokens_ok?(["" | _], _wildcards), do: false
  defp tokens_ok?(["*" | rest], wildcards), do: wildcards and tokens_ok?(rest, wildcards)
  defp tokens_ok?([">" | rest], wildcards), do: wildcards and rest == []
  defp tokens_ok?([_ | rest], wildcards), do: tokens_ok?(rest, wildcards)

  @doc "The room in `in.…`, `out.…`, `log.…` or `snap.…`."
  @spec room(binary()) :: {:ok, Id.room_key()} | :error
  def room(subject) do
    with {:ok, place} <- below(:binary.split(subject, ".")),
         <<"t.", rest::binary>> <- place,
         [tenant, room] <- :binary.split(rest, ".r."),
         true <- Id.valid?(:tenant, tenant) and Id.valid?(:room, room) do
      {:ok, {tenant, room}}
    else
      _ -> :error
    end
  end

  defp below([head, rest]) when head in ["in", "out"], do: {:ok, rest}

  defp below([head, rest]) when head in ["log", "snap"] do
    case :binary.split(rest, ".") do
      [p, place] -> if number(p, 255), do: {:ok, place}, else: :error
      _ -> :error
    end
  end

  defp below(_), do: :error

  @doc """
  True for replies that a Brain may answer to on `in.…` and `open.…`: `_INBOX.s.{shield}.{slot}`, or
  `_INBOX.s.{shield}.{inbox}.{token}` of a single request. Anything else could turn the Brain's answer into a write of the
  asker's choosing.
  """
  @spec shield_inbox?(binary()) :: boolean()
  def shield_inbox?(<<"_INBOX.s.", rest::binary>>) do
    [node | tokens] = :binary.split(rest, ".", [:global])
    Id.valid?(:node, node) and length(tokens) in 1..2 and Enum.all?(tokens, &token?/1)
  end

  def shield_inbox?(_subject), do: false

  defp token?(token), do: token != "" and alphanumeric?(token)

  defp alphanumeric?(<<c, rest::binary>>) when c in ?a..?z or c in ?0..?9 or c in ?A..?Z, do: alphanumeric?(rest)
  defp alphanumeric?(rest), do: rest == <<>>

  # A number as we write it into a token: digits without sign or leading zero.
  defp number(token, max) when byte_size(token) in 1..10 do
    with {number, ""} when number <= max <- Integer.parse(token),
         true <- Integer.to_string(number) == token do
      number
    else
      _ -> nil
    end
  end

  defp number(_token, _max), do: nil
end
