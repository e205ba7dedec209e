defmodule Brain.Spine.StreamSpec do
  @moduledoc """
  What a stream must be. Always: discard new, no max_age, allow_direct, retention by limits. Twin of Rust's `StreamSpec`:
  both sides verify what the other created.
  """

  alias Brain.Subject

  @enforce_keys [:name, :subjects, :storage, :replicas]
  defstruct [
    :name,
    :subjects,
    :storage,
    :replicas,
    :republish,
    max_msgs_per_subject: 0,
    max_bytes: 0,
    deny_delete: false,
    rollover: false
  ]

  @typedoc """
  `max_msgs_per_subject` and `max_bytes`: 0 is no limit; a full stream refuses. `rollover`: with a limit per subject, the
  oldest of the subject goes instead. `republish`: each stored message goes out again, from a filter to a destination.
  """
  @type t :: %__MODULE__{
          name: binary,
          subjects: [binary],
          storage: :file | :memory,
          replicas: pos_integer,
          max_msgs_per_subject: non_neg_integer,
          max_bytes: non_neg_integer,
          deny_delete: boolean,
          rollover: boolean,
          republish: nil | {source :: binary, destination :: binary}
        }

  @doc "`LOG_index` of `count`."
  @spec log(non_neg_integer, pos_integer, pos_integer, non_neg_integer) :: t
  def log(index, count, replicas, max_bytes) do
    subjects =
      if count == 1,
        do: ["log.*.t.*.r.*"],
        else: Enum.map(Subject.stream_partitions(index, count), &"log.#{&1}.t.*.r.*")

    %__MODULE__{
      name: Subject.log_stream(index),
      subjects: subjects,
      storage: :file,
      replicas: replicas,
      max_bytes: max_bytes,
      deny_delete: true,
      republish: {"log.*.t.*.r.*", "out.t.{{wildcard(2)}}.r.{{wildcard(3)}}"}
    }
  end

  @doc "`SNAP`: the two newest snapshots of each room."
  @spec snapshots(pos_integer) :: t
  def snapshots(replicas), do: last_values(Subject.snapshot_stream(), "snap.*.t.*.r.*", :file, replicas, 2)

  @doc "`GEN_index`: one random number that only this memory holds."
  @spec generation(non_neg_integer, pos_integer) :: t
  def generation(index, replicas) do
    last_values(Subject.generation_stream(index), Subject.generation(index), :memory, replicas, 1)
  end

  @doc "`BAN`: tenant-wide bans."
  @spec bans(pos_integer) :: t
  def bans(replicas), do: last_values(Subject.ban_stream(), "ban.>", :file, replicas, 1)

  @doc "Every stream of a deployment with `logs` log streams."
  @spec all(pos_integer, pos_integer, non_neg_integer) :: [t]
  def all(logs, replicas, log_max_bytes) do
    Enum.flat_map(0..(logs - 1), &[log(&1, logs, replicas, log_max_bytes), generation(&1, replicas)]) ++
      [snapshots(replicas), bans(replicas)]
  end

  defp last_values(name, subject, storage, replicas, keep) do
    %__MODULE__{
      name: name,
      subjects: [subject],
      storage: storage,
      replicas: replicas,
      max_msgs_per_subject: keep,
      rollover: true
    }
  end

  @doc "The configuration that JetStream is asked for: the part of it that a specification determines."
  @spec config(t) :: map
  def config(%__MODULE__{} = spec) do
    config = %{
      "name" => spec.name,
      "subjects" => spec.subjects,
      "retention" => "limits",
      "storage" => Atom.to_string(spec.storage),
      "discard" => "new",
      "discard_new_per_subject" => spec.max_msgs_per_subject > 0 and not spec.rollover,
      "num_replicas" => spec.replicas,
      "max_age" => 0,
      "max_msgs" => -1,
      "max_msgs_per_subject" => limit(spec.max_msgs_per_subject),
      "max_bytes" => limit(spec.max_bytes),
      "deny_delete" => spec.deny_delete,
      "allow_direct" => true,
      "sealed" => false
    }

    case spec.republish do
      nil -> config
      {source, destination} -> Map.put(config, "republish", %{"src" => source, "dest" => destination})
    end
  end

  defp limit(0), do: -1
  # JetStream's numbers are signed.
  defp limit(n), do: min(n, 0x7FFF_FFFF_FFFF_FFFF)
end
