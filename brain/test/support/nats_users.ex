defmodule Brain.NatsUsers do
  @moduledoc "The broker's users and what each may do (CONTRACT 3), as `spine/src/users.rs` has them."

  @type user :: %{name: binary, password: binary, publish: [binary], subscribe: [binary]}

  @doc "A Shield."
  @spec shield(binary, binary) :: user
  def shield(node, password) do
    inbox = "_INBOX.s.#{node}.>"

    publish =
      ~w(in.t.*.r.* open.t.* pres.* sys.n.pr.* $JS.API.DIRECT.GET.> $JS.API.STREAM.MSG.GET.>) ++
        ["sys.n.hb.shield.#{node}", inbox]

    subscribe = ~w(out.t.*.r.* sys.t.*.* sys.n.hb.>) ++ ["sys.n.pr.#{node}", inbox]
    %{name: "shield-#{node}", password: password, publish: publish, subscribe: subscribe}
  end

  @doc "A Brain's writer."
  @spec writer(binary, binary) :: user
  def writer(node, password) do
    inbox = "_INBOX.w.#{node}.>"
    publish = ~w(log.> snap.> gen.> $JS.API.>) ++ [inbox]
    %{name: "writer-#{node}", password: password, publish: publish, subscribe: [inbox]}
  end

  @doc "A Brain's speaker."
  @spec speaker(binary, binary) :: user
  def speaker(node, password) do
    subscribe =
      ~w(in.t.*.r.* open.t.* pres.* sys.t.*.* sys.n.hb.>) ++
        ["sys.n.brain.#{node}.>", "sys.n.pr.#{node}", "_INBOX.b.#{node}.>"]

    publish = ~w(_INBOX.s.> _INBOX.b.> out.> sys.> pres.*)
    %{name: "speaker-#{node}", password: password, publish: publish, subscribe: subscribe}
  end

  @doc "The operator, who may do everything."
  @spec operator(binary) :: user
  def operator(password), do: %{name: "operator", password: password, publish: [">"], subscribe: [">"]}

  @doc "The `authorization` block of a configuration file."
  @spec authorization([user]) :: iodata
  def authorization(users) do
    lines =
      for user <- users do
        permissions = "{ publish: #{inspect(user.publish)}, subscribe: #{inspect(user.subscribe)} }"
        "    { user: #{inspect(user.name)}, password: #{inspect(user.password)}, permissions: #{permissions} }\n"
      end

    ["authorization {\n  users = [\n", lines, "  ]\n}\n"]
  end
end
