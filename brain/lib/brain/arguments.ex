defmodule Brain.Arguments do
  @moduledoc "The command line of a node: `--config FILE [--node NAME] [--json]`, strict."

  alias Brain.Id

  @usage "usage: brain-node --config FILE [--node NAME] [--json]"

  @type t :: %{config: Path.t(), node: binary, json: boolean}

  @doc "Reads it; the error is a sentence for a person."
  @spec parse([charlist]) :: {:ok, t} | {:error, String.t()}
  def parse(arguments) do
    arguments = Enum.map(arguments, &List.to_string/1)

    case OptionParser.parse(arguments, strict: [config: :string, node: :string, json: :boolean]) do
      {options, [], []} ->
        with {:ok, config} <- Keyword.fetch(options, :config),
             {:ok, node} <- Id.parse(:node, Keyword.get(options, :node, "brain-1")) do
          {:ok, %{config: config, node: node, json: Keyword.get(options, :json, false)}}
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
