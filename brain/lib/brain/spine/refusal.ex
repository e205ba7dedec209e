defmodule Brain.Spine.Refusal do
  @moduledoc """
  What each of JetStream's refusals means, from nats-server's own code (2.15.1): only what it sends in place of storing the
  message is a refusal of an append. Every other error leaves the append unresolved. Twin of
  `spine/src/jetstream/refusal.rs`.
  """

  alias Brain.Spine
  alias Brain.Spine.StreamSpec

  @wrong_last_sequence 10_071
  @undecided 10_164
  @stream_not_found 10_059
  # The store's own words within this code tell a limit from a failure that may be one replica's alone.
  @store_failed 10_077
  # Nobody listens; too many wait; no leader; the server's own limit; a sealed stream: each before the message is proposed.
  @append_unavailable [503, 429, 10_167, 10_008, 10_009, 10_023, 10_109]
  # Not up, not enabled, no leader, no quorum, offline, too many requests.
  @read_unavailable [503, 429, 10_004, 10_007, 10_008, 10_009, 10_023, 10_039, 10_076, 10_118, 10_167]
  # No storage, no memory, no resources, no suitable peers, the account's limits.
  @no_room [10_047, 10_028, 10_023, 10_005, 10_002, 10_122]

  @doc "An error in place of a PubAck, or a bare status."
  @spec of_append(non_neg_integer, binary) :: Spine.append_error()
  def of_append(@wrong_last_sequence, _text), do: {:unresolved, :wrong_last}
  def of_append(@undecided, _text), do: {:unresolved, :undecided}
  def of_append(@store_failed, "maximum " <> _ = text), do: {:refused, :full, @store_failed, text}
  def of_append(@store_failed, "message too large" <> _ = text), do: {:refused, :too_big, @store_failed, text}
  # The account's limit, checked before the message is proposed.
  def of_append(10_002, text), do: {:refused, :full, 10_002, text}
  def of_append(code, text) when code in @append_unavailable, do: {:refused, :unavailable, code, text}
  def of_append(code, text) when code in [10_054, 10_097], do: {:refused, :too_big, code, text}
  def of_append(code, _text), do: {:unresolved, {:failed, code}}

  @doc "An error in place of a read's result."
  @spec of_read(non_neg_integer, binary) :: Spine.read_error()
  def of_read(@stream_not_found, _text), do: :no_stream
  def of_read(code, text) when code in @read_unavailable, do: {:unavailable, code, text}
  def of_read(code, text), do: {:refused, code, text}

  @doc "An error in place of a stream."
  @spec of_ensure(StreamSpec.t(), non_neg_integer, binary) :: Spine.no_room() | Spine.read_error()
  def of_ensure(spec, code, text) when code in @no_room do
    {:no_room, spec.name, {spec.max_bytes, spec.storage, spec.replicas}, code, text}
  end

  def of_ensure(_spec, code, text), do: of_read(code, text)
end
