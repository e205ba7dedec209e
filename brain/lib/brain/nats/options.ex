defmodule Brain.Nats.Options do
  @moduledoc """
  Options of one connection, which is one NATS user. Checked before anything starts; what is wrong is said in words for
  the operator.

  | key | default | meaning |
  | --- | --- | --- |
  | `name` | – | an atom: the connection's name here |
  | `label` | the name | its name in the broker's lists |
  | `urls` | – | `nats://host:port`, or `tls://…`, tried in this order |
  | `user`, `password` | none | if the broker asks; the password may be a function without arguments |
  | `tls` | `false` | refuse a broker without TLS; a `tls://` URL does the same |
  | `cacertfile` | the system's | PEM file of the authorities that the broker's certificate is checked against |
  | `server_name` | the URL's host | the name that the certificate must hold |
  | `inbox_prefix` | `_INBOX` | replies to own requests arrive below it |
  | `ping_interval_ms` | 2,000 | two unanswered pings end the connection |
  | `reconnect_max_ms` | 1,000 | the longest pause between two attempts to connect |
  | `publish_timeout_ms` | 2,000 | the longest wait of `subscribe/4`, and of `stop/1` for what is queued |
  | `queue_messages`, `queue_bytes` | 16,384; 16 MiB | what may wait for the socket; beyond, `publish/4` says `:full` |
  | `max_calls` | 65,536 | requests in flight; beyond, they say `:full` |
  | `max_subscriptions` | 262,144 | beyond, `subscribe/4` says `:full` |
  | `jitter` | uniform random | function without arguments: a part of the reconnect's pause, 0.0 to 1.0 |
  | `unique` | 12 random bytes | function without arguments: a token of letters and digits, for the inbox |
  """

  alias Brain.Nats.Encoder

  @enforce_keys [:name, :hosts]
  defstruct [
    :name,
    :hosts,
    :label,
    :user,
    :password,
    :cacertfile,
    :server_name,
    tls: false,
    inbox_prefix: "_INBOX",
    ping_interval_ms: 2_000,
    reconnect_max_ms: 1_000,
    publish_timeout_ms: 2_000,
    queue_messages: 16_384,
    queue_bytes: 16 * 1_048_576,
    max_calls: 65_536,
    max_subscriptions: 262_144,
    jitter: &:rand.uniform/0,
    unique: &__MODULE__.random_token/0
  ]

  @type host :: {charlist | :inet.ip_address(), :inet.port_number(), tls :: boolean}
  @type t :: %__MODULE__{
          name: atom,
          hosts: [host, ...],
          label: binary,
          user: nil | binary,
          password: nil | (() -> binary),
          cacertfile: nil | binary,
          server_name: nil | binary,
          tls: boolean,
          inbox_prefix: binary,
          ping_interval_ms: pos_integer,
          reconnect_max_ms: pos_integer,
          publish_timeout_ms: pos_integer,
          queue_messages: pos_integer,
          queue_bytes: pos_integer,
          max_calls: pos_integer,
          max_subscriptions: pos_integer,
          jitter: (() -> float),
          unique: (() -> binary)
        }

  @numbers [
    :ping_interval_ms,
    :reconnect_max_ms,
    :publish_timeout_ms,
    :queue_messages,
    :queue_bytes,
    :max_calls,
    :max_subscriptions
  ]

  @doc "Checks options; an error is a sentence."
  @spec new(keyword) :: {:ok, t} | {:error, binary}
  def new(options) do
    {urls, rest} = Keyword.pop(hide(options), :urls, [])
    known = Map.keys(%__MODULE__{name: nil, hosts: []}) -- [:__struct__, :hosts]

    with [] <- Keyword.keys(rest) -- known,
         name when is_atom(name) and name not in [nil, true, false] <- rest[:name],
         {:ok, hosts} <- hosts(urls),
         options = struct(%__MODULE__{name: name, hosts: hosts, label: Atom.to_string(name)}, rest),
         nil <- Enum.find(@numbers, &(not positive?(Map.get(options, &1)))),
         true <- Encoder.subject?(options.inbox_prefix),
         {true, _} <- {is_nil(options.user) or is_function(options.password, 0), :password} do
      {:ok, options}
    else
      [unknown | _] -> {:error, "no option #{inspect(unknown)} of a NATS connection"}
      {:error, text} -> {:error, text}
      false -> {:error, "inbox_prefix must be a subject"}
      {false, :password} -> {:error, "a user without a password"}
      nil -> {:error, "a NATS connection needs a name, an atom"}
      key when key in @numbers -> {:error, "#{key} must be a whole number above 0"}
      other -> {:error, "#{inspect(other)} is no name of a NATS connection: give an atom"}
    end
  end

  @doc "The same options with the password in a function: no report of a supervisor can print it."
  @spec hide(keyword) :: keyword
  def hide(options) do
    case Keyword.fetch(options, :password) do
      {:ok, password} when is_binary(password) -> Keyword.put(options, :password, fn -> password end)
      _ -> options
    end
  end

  @doc "A token that no other process will draw."
  @spec random_token() :: binary
  def random_token, do: Base.encode32(:crypto.strong_rand_bytes(12), case: :lower, padding: false)

  @doc """
  A server's URL as host, port and whether it must speak TLS.

      iex> Brain.Nats.Options.host("nats://localhost")
      {:ok, {'localhost', 4222, false}}
      iex> Brain.Nats.Options.host("tls://[::1]:4443/")
      {:ok, {{0, 0, 0, 0, 0, 0, 0, 1}, 4443, true}}
  """
  @spec host(binary) :: {:ok, host} | {:error, binary}
  def host(url) do
    with %URI{scheme: scheme, host: <<_, _::binary>> = host, path: path, userinfo: nil, query: nil, fragment: nil} = uri
         when scheme in ["nats", "tls"] and path in [nil, "", "/"] <- parse(url),
         port when port in 1..65_535 <- uri.port || 4222,
         true <- String.printable?(host) and not String.contains?(host, [" ", "/"]) do
      {:ok, {address(String.to_charlist(host)), port, scheme == "tls"}}
    else
      _ -> {:error, "#{inspect(url)} is not the URL of a NATS server: write nats://host:port"}
    end
  end

  defp parse(url) when is_binary(url) do
    case URI.new(url) do
      {:ok, uri} -> uri
      {:error, _part} -> :error
    end
  end

  defp parse(_url), do: :error

  defp hosts([]), do: {:error, "no URL of a NATS server: give at least one as nats://host:port"}

  defp hosts(urls) do
    Enum.reduce_while(Enum.reverse(urls), {:ok, []}, fn url, {:ok, hosts} ->
      case host(url) do
        {:ok, host} -> {:cont, {:ok, [host | hosts]}}
        {:error, text} -> {:halt, {:error, text}}
      end
    end)
  end

  # A literal address stays one: it needs no resolver and goes into no certificate check by name.
  defp address(host) do
    case :inet.parse_address(host) do
      {:ok, address} -> address
      {:error, :einval} -> host
    end
  end

  defp positive?(n), do: is_integer(n) and n > 0
end
