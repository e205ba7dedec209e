defmodule Brain.Arguments do
  @moduledoc "The command line of a node: `--config FILE [--node NAME] [--json] [--until-stdin-ends]`, strict."

  alias Brain.Id

  @usage "usage: brain-node --config FILE [--node NAME] [--json] [--until-stdin-ends]"

  @type t :: %{config: Path.t(), node: binary, json: boolean, leashed: boolean}

  @doc "Reads it; the error is a sentence for a person."
  @spec parse([charlist]) :: {:ok, t} | {:error, String.t()}
  def parse(arguments) do
    arguments = Enum.map(arguments, &List.to_string/1)

    known = [config: :string, node: :string, json: :boolean, until_stdin_ends: :boolean]

    case OptionParser.parse(arguments, strict: known) do
      {options, [], []} ->
        with {:ok, config} <- Keyword.fetch(options, :config),
             {:ok, node} <- Id.parse(:node, Keyword.get(options, :node, "brain-1")) do
          flag = &Keyword.get(options, &1, false)
          {:ok, %{config: config, node: node, json: flag.(:json), leashed: flag.(:until_stdin_ends)}}
        else
          :error -> {:error, "--config is missing: the file that `arq config render brain` writes; #{@usage}"}
          {:error, why} -> {:error, "--node: #{why}"}
        end

      {_, [argument | _], []} ->
        {:error, "unknown argument #{argument}; #{@usage}"}

      {_, _, [{option, _} | _]} ->
        {:error, "unknown or incomplete option #{option}; #{@usage}"}
    end
  end
end
