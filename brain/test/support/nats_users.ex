defmodule Brain.NatsUsers do
  @moduledoc """
  The broker's accounts and users and what each may do (CONTRACT 3): `ops/nats/users.conf` with other nodes and passwords, so
  that the tests run with what production runs with. (That file is compared with `spine/src/users.rs`.)
  """

  @path Path.expand("../../../ops/nats/users.conf", __DIR__)
  @external_resource @path
  @conf @path |> File.read!() |> String.replace(~r/^\s*#.*\n/m, "")

  @typedoc "A user: its account, where that reaches JetStream, and its line of the configuration."
  @type user :: %{account: binary, api: binary, name: binary, password: binary, line: binary}

  @doc "A Shield."
  @spec shield(binary, binary) :: user
  def shield(node, password), do: user("APP", "shield", node, password)

  @doc "A Brain's writer."
  @spec writer(binary, binary) :: user
  def writer(node, password), do: user("LOG", "writer", node, password)

  @doc "A Brain's speaker."
  @spec speaker(binary, binary) :: user
  def speaker(node, password), do: user("APP", "speaker", node, password)

  @doc "The operator, who may do everything where the streams are."
  @spec operator(binary) :: user
  def operator(password), do: everything("LOG", "operator", password)

  @doc "Who may do everything where Shields and speakers are."
  @spec witness(binary) :: user
  def witness(password), do: everything("APP", "witness", password)

  defp user(account, role, node, password) do
    [line] = Regex.run(~r/\{ user: "#{role}-1".*?\n +\} \}\n/s, @conf)
    variable = "$#{String.upcase(role)}_1_PASSWORD"
    name = "#{role}-#{node}"

    line =
      line
      |> String.replace(~s("#{role}-1"), inspect(name))
      |> String.replace(variable, inspect(password))
      |> String.replace(~r/\.1(?=[."])/, ".#{node}")

    %{account: account, api: api(account), name: name, password: password, line: line}
  end

  defp everything(account, name, password) do
    permissions = ~s({ publish: [">"], subscribe: [">"] })
    line = "{ user: #{inspect(name)}, password: #{inspect(password)}, permissions: #{permissions} }\n"
    %{account: account, api: api(account), name: name, password: password, line: line}
  end

  defp api("LOG"), do: "$JS.API"
  defp api("APP"), do: "store"

  @doc "The `accounts` block of a configuration file, with these users in place of production's."
  @spec accounts([user]) :: iodata
  def accounts(users) do
    [before, log, app] = String.split(@conf, ~r/^  (?=LOG|APP)/m)

    of = fn account ->
      for(user <- users, user.account == account, do: ["      ", user.line]) |> IO.iodata_to_binary()
    end

    put = &String.replace(&1, ~r/users = \[\n.*?\n    \]\n/s, fn _ -> "users = [\n#{of.(&2)}    ]\n" end)
    [before, "  ", put.(log, "LOG"), "  ", put.(app, "APP")]
  end
end
