defmodule Brain.Lockstep.Codecs do
  @moduledoc """
  Bytes through the codec and through the gate, for a comparison with prost: the twin of
  `sim-tests/src/lockstep/codecs.rs`.
  """

  alias Brain.{Code, Codec, Envelope}
  alias Brain.Proto.Lockstep.{Coded, Forwarded, Step}

  @typedoc "Every message by its full name."
  @type t :: %{binary() => module()}

  @fields %{cmd: 20, event: 21, signal: 22}

  @doc "The messages of both schemas that processes speak."
  @spec all() :: t()
  def all do
    _loaded_before = Application.load(:brain)

    for module <- Application.spec(:brain, :modules), name = name(Module.split(module)), into: %{} do
      {name, module}
    end
  end

  defp name(["Brain", "Proto", "V1", name]), do: "arqon.v1." <> name
  defp name(["Brain", "Proto", "Internal", name]), do: "arqon.internal.v1." <> name
  defp name(_other), do: nil

  @doc "What a step of the codec's machine comes to."
  @spec step(t(), Step.input()) :: {:coded, Coded.t()} | {:forwarded, Forwarded.t()}
  def step(all, {:code, %{name: name, body: body}}), do: {:coded, coded(name, Map.fetch!(all, name), body)}
  def step(_all, {:forward, %{body: body}}), do: {:forwarded, forwarded(Envelope.forwarded(body))}

  defp coded(name, module, body) do
    coded =
      case Codec.decode(module, body) do
        {:ok, message} -> %Coded{decoded: true, encoded: Codec.encode(message)}
        {:error, _reason} -> %Coded{}
      end

    if String.starts_with?(name, "arqon.v1."), do: canonical(coded, Codec.canonical(module, body)), else: coded
  end

  defp canonical(coded, :ok), do: %{coded | canonical: true}

  defp canonical(coded, {:error, fault}) do
    %{coded | code: Code.number(fault.code), detail: fault.detail, field: fault.field, at: fault.at}
  end

  defp forwarded({:ok, view}) do
    {field, payload} = view.payload

    %Forwarded{
      ok: true,
      message_id: if(view.message_id != "", do: view.message_id),
      trace_id: view.trace_id,
      tenant_id: view.tenant_id,
      room_id: view.room_id,
      timestamp: view.timestamp,
      ack_requested: view.ack_requested,
      signature: view.signature,
      payload_field: Map.fetch!(@fields, field),
      payload: payload,
      sender: view.sender || ""
    }
  end

  defp forwarded({:error, error}) do
    %Forwarded{
      code: Code.number(error.code),
      detail: error.detail,
      message_id: error.message_id,
      field: error.field,
      at: error.at
    }
  end
end
