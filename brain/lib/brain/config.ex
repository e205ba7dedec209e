defmodule Brain.Config do
  @moduledoc """
  The configuration: the terms that `arq config render brain` writes from `arqon.toml`.

  Reading is strict. The file comes from one program, so a key that is missing or foreign means that the two are of
  different builds; the error names the key and what to do. Every value is checked again, for the file can be edited.

      {:ok, config} = Brain.Config.load("brain.terms")
      config.brain.heartbeat_ms
  """

  # Every section and key that the file holds, in its order. What this Brain does not use stands here, too: a file that
  # lacks it was not rendered by this build.
  @schema [
    http: [host: :string, port: {0, 0xFFFF}],
    nats: [
      urls: :strings,
      user: :string?,
      password_file: :string?,
      tls: :boolean,
      publish_timeout_ms: {10, 60_000},
      ping_interval_ms: {100, 120_000},
      replicas: {1, 5},
      logs: {1, 256},
      log_max_bytes: {0x100000, 0x100000000000}
    ],
    auth: [
      signatures: [:optional, :required],
      audience: :string,
      issuer: :string?,
      jwks_file: :string?,
      hs256_secret_file: :string?,
      grace_s: {0, 3600},
      verify_at_brain: :boolean
    ],
    limits: [
      message_bytes: {1024, 0x40000},
      rooms: {1, 10_000},
      pub_per_s: {1, 1_000_000},
      pub_burst: {1, 1_000_000},
      accept_per_s: {1, 1_000_000},
      queue_bytes: {0x20000, 0x4000000},
      queue_messages: {16, 1_000_000}
    ],
    drain: [spread_s: {0, 600}, exit_s: {1, 900}],
    brain: [
      metrics_port: {0, 0xFFFF},
      writer_user: :string?,
      writer_password_file: :string?,
      speaker_user: :string?,
      speaker_password_file: :string?,
      rooms: {1, 1_000_000},
      tenant_rooms: {1, 1_000_000},
      room_idle_s: {1, 86_400},
      room_delete_s: {1, 31_536_000},
      snapshot_events: {1, 1_000_000},
      snapshot_s: {1, 86_400},
      heartbeat_ms: {20, 60_000},
      down_after_ms: {60, 600_000},
      forget_s: {1, 86_400},
      grace_ms: {0, 600_000},
      dedupe: {1, 256}
    ],
    log: [
      level: [:off, :error, :warn, :info, :debug, :trace],
      format: [:text, :json],
      trace_file: :string?
    ]
  ]

  @render "write the file again with `arq config render brain`"

  @typedoc "Sections by name; each a map of its keys. An absent text is `nil`."
  @type t :: %{
          http: map,
          nats: map,
          auth: map,
          limits: map,
          drain: map,
          brain: map,
          log: map
        }

  @doc "The keys of a section that the file holds, whether this Brain uses them or not."
  @spec keys(atom) :: [atom]
  def keys(section), do: @schema |> Keyword.fetch!(section) |> Keyword.keys()

  @doc "Reads and checks a file. The error is a sentence for a person."
  @spec load(Path.t()) :: {:ok, t} | {:error, String.t()}
  def load(path) do
    # The reader makes atoms of the file's words: it is the operator's own file, read once.
    case :file.consult(path) do
      {:ok, [terms]} ->
        with {:error, why} <- check(terms), do: {:error, "#{path}: #{why}"}

      {:ok, _} ->
        {:error, "#{path}: not one list of sections: #{@render}"}

      {:error, reason} ->
        {:error, "#{path}: #{:file.format_error(reason)}: #{@render}"}
    end
  end

  @doc "Checks terms that were read before."
  @spec check(term) :: {:ok, t} | {:error, String.t()}
  def check(terms) do
    with {:ok, sections} <- keys(terms, @schema, "section") do
      Enum.reduce_while(@schema, {:ok, %{}}, fn {name, known}, {:ok, config} ->
        case section(name, Map.fetch!(sections, name), known) do
          {:ok, values} -> {:cont, {:ok, Map.put(config, name, values)}}
          {:error, why} -> {:halt, {:error, why}}
        end
      end)
    end
  end

  @doc """
  The user and password of one of the two connections, `:writer` or `:speaker`; `nil` if the file names none. The
  password is read from its file now; surrounding white space is ignored. NATS carries it as JSON, so it must be UTF-8.
  """
  @spec credentials(t, :writer | :speaker) :: {:ok, nil | {binary, binary}} | {:error, String.t()}
  def credentials(%{brain: brain}, who) do
    {user, file} =
      case who do
        :writer -> {brain.writer_user, brain.writer_password_file}
        :speaker -> {brain.speaker_user, brain.speaker_password_file}
      end

    if user && file do
      case File.read(file) do
        {:ok, password} ->
          if String.valid?(password),
            do: {:ok, {user, String.trim(password)}},
            else: {:error, "#{file}: NATS takes passwords of UTF-8 alone; write this one as text, such as base64"}

        {:error, reason} ->
          {:error, "#{file}: #{:file.format_error(reason)}"}
      end
    else
      {:ok, nil}
    end
  end

  defp section(name, terms, known) do
    with {:ok, values} <- keys(terms, known, "[#{name}] key") do
      Enum.reduce_while(known, {:ok, %{}}, fn {key, type}, {:ok, section} ->
        case value(type, Map.fetch!(values, key)) do
          {:ok, value} ->
            {:cont, {:ok, Map.put(section, key, value)}}

          {:error, expected} ->
            {:halt, {:error, "[#{name}] #{key}: expected #{expected}: correct arqon.toml, then #{@render}"}}
        end
      end)
    end
  end

  # Exactly the known keys, each once.
  defp keys(terms, known, what) do
    names = Keyword.keys(known)

    cond do
      not is_list(terms) or not Enum.all?(terms, &match?({_, _}, &1)) ->
        {:error, "expected a list of pairs (#{what} and value): #{@render}"}

      foreign = Enum.find(terms, fn {name, _} -> name not in names end) ->
        {:error, "#{what} #{inspect(elem(foreign, 0))} is not known to this build: #{@render}"}

      missing = Enum.find(names, fn name -> not List.keymember?(terms, name, 0) end) ->
        {:error, "#{what} #{inspect(missing)} is missing: #{@render}"}

      length(terms) != length(names) ->
        {:error, "a #{what} stands there twice: #{@render}"}

      true ->
        {:ok, Map.new(terms)}
    end
  end

  defp value({low, high}, value) do
    if is_integer(value) and value in low..high, do: {:ok, value}, else: {:error, "a number from #{low} to #{high}"}
  end

  defp value(:string?, :undefined), do: {:ok, nil}
  defp value(:string?, value), do: value(:string, value)

  defp value(:string, value) do
    if is_binary(value) and value != "" and String.valid?(value), do: {:ok, value}, else: {:error, "a text"}
  end

  defp value(:strings, value) do
    if is_list(value) and value != [] and Enum.all?(value, &match?({:ok, _}, value(:string, &1))),
      do: {:ok, value},
      else: {:error, "a list of texts"}
  end

  defp value(:boolean, value) do
    if is_boolean(value), do: {:ok, value}, else: {:error, "true or false"}
  end

  defp value(words, value) when is_list(words) do
    if value in words, do: {:ok, value}, else: {:error, Enum.map_join(words, " or ", &Atom.to_string/1)}
  end
end
