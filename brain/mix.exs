defmodule Brain.MixProject do
  # The Elixir Brain. It has no dependencies: what it needs comes with Erlang/OTP, the tests' libraries with the system.
  use Mix.Project

  def project do
    [
      app: :brain,
      version: "0.1.0",
      elixir: "~> 1.14",
      elixirc_paths: elixirc_paths(Mix.env()),
      elixirc_options: [warnings_as_errors: true],
      erlc_options: [:warnings_as_errors, :debug_info],
      start_permanent: Mix.env() == :prod,
      deps: [],
      test_coverage: coverage(),
      releases: [brain: [include_executables_for: [:unix], applications: [runtime_tools: :permanent]]]
    ]
  end

  # What `mix test --cover` measures, and below which percentage of lines it fails: the rooms.
  defp coverage do
    [summary: [threshold: 80], ignore_modules: [~r/^(Elixir\.)?Brain\.(?!Room$|Room\.|RoomManager$)/]]
  end

  def application do
    [
      mod: {Brain.Application, []},
      extra_applications: [:logger, :crypto, :public_key, :ssl, :inets, :jiffy] ++ test_applications(Mix.env())
    ]
  end

  # Packages of the system: erlang-jiffy above, erlang-proper here.
  defp test_applications(:test), do: [:proper]
  defp test_applications(_), do: []

  defp elixirc_paths(:test), do: ["lib", "test/support"]
  defp elixirc_paths(_), do: ["lib"]
end
