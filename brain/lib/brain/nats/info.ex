defmodule Brain.Nats.Info do
  @moduledoc "What a NATS server says of itself in `INFO`: the part that this client acts on, with its types checked."

  defstruct server_id: "", version: "", max_payload: 1_048_576, tls_required: false, headers: false, lame_duck: false

  @type t :: %__MODULE__{
          server_id: binary,
          version: binary,
          max_payload: pos_integer,
          tls_required: boolean,
          headers: boolean,
          lame_duck: boolean
        }

  @doc "Reads the JSON of an `INFO`. Unknown keys are ignored: newer servers add some."
  @spec parse(binary) :: {:ok, t} | {:error, :bad_info}
  def parse(json) do
    with {:ok, %{} = info} <- decode(json),
         max when is_integer(max) and max > 0 <- Map.get(info, "max_payload", 1_048_576) do
      {:ok,
       %__MODULE__{
         server_id: text(info["server_id"]),
         version: text(info["version"]),
         max_payload: max,
         tls_required: info["tls_required"] == true,
         headers: info["headers"] == true,
         lame_duck: info["ldm"] == true
       }}
    else
      _ -> {:error, :bad_info}
    end
  end

  @doc "JSON as terms with binary keys. Never raises."
  @spec decode(binary) :: {:ok, term} | :error
  def decode(json) do
    {:ok, :jiffy.decode(json, [:return_maps, :use_nil, :copy_strings])}
  catch
    _kind, _reason -> :error
  end

  defp text(value) when is_binary(value), do: value
  defp text(_value), do: ""
end
