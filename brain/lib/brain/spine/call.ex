defmodule Brain.Spine.Call do
  @moduledoc """
  How a call to JetStream is made: in a process of its own, within one deadline. And what its answers are.
  """

  alias Brain.Log.Report
  alias Brain.Nats
  alias Brain.Nats.{Encoder, Headers, Info}
  alias Brain.Spine
  alias Brain.Spine.Refusal

  require Logger

  @typedoc "When it must have ended, by the monotonic clock in ms."
  @type deadline :: integer

  @doc """
  Runs `call`; the calling process gets `{:spine, tag, result}`. A call that crashes is logged and ends with `otherwise`.
  """
  @spec start(term, result, (() -> result)) :: :ok when result: term
  def start(tag, otherwise, call) do
    caller = self()
    spawn(fn -> send(caller, {:spine, tag, safely(otherwise, call)}) end)
    :ok
  end

  @doc "Runs `call` and waits for its result."
  @spec wait(result, (() -> result)) :: result when result: term
  def wait(otherwise, call) do
    tag = make_ref()
    start(tag, otherwise, call)

    receive do
      {:spine, ^tag, result} -> result
    end
  end

  defp safely(otherwise, call) do
    call.()
  catch
    kind, reason ->
      Logger.error("a call to JetStream crashed: #{Report.crash(kind, reason, __STACKTRACE__)}")
      otherwise
  end

  @doc "The deadline of a call that begins now."
  @spec deadline(Spine.t()) :: deadline
  def deadline(%Spine{timeout_ms: limit_ms}) when is_integer(limit_ms), do: now() + limit_ms

  @doc "What is left until a deadline."
  @spec left(deadline) :: non_neg_integer
  def left(deadline) when is_integer(deadline), do: max(deadline - now(), 0)

  @doc "Waits until the connection is up. Only within `start/3`: the news stay in the mailbox."
  @spec connected(Spine.t(), deadline) :: :ok | {:error, :timeout | :closed}
  def connected(spine, deadline) do
    case Nats.link(spine.conn) do
      {:up, _generation} -> :ok
      :down -> with {:ok, link} <- Nats.watch(spine.conn), do: up(spine.conn, link, deadline)
    end
  end

  defp up(_conn, {:up, _generation}, _deadline), do: :ok

  defp up(conn, :down, deadline) do
    receive do
      {:nats_link, ^conn, link} -> up(conn, link, deadline)
    after
      left(deadline) -> {:error, if(Nats.alive?(conn), do: :timeout, else: :closed)}
    end
  end

  @doc "One question, one answer. Waits for a connection first."
  @spec ask(Spine.t(), binary, iodata, deadline) :: {:ok, Nats.message()} | {:error, Spine.read_error()}
  def ask(spine, subject, body, deadline) do
    with :ok <- connected(spine, deadline) do
      spine.conn |> Nats.request(subject, [], body, left(deadline)) |> answered(spine)
    end
  end

  @doc "A failed request as a read's error."
  @spec answered({:ok, Nats.message()} | {:error, Nats.request_error()}, Spine.t()) ::
          {:ok, Nats.message()} | {:error, Spine.read_error()}
  def answered({:ok, message}, _spine), do: {:ok, message}
  def answered({:error, :no_responders}, _spine), do: {:error, refused(503, [])}
  def answered({:error, :too_big}, _spine), do: {:error, {:refused, 0, "the request is larger than max_payload"}}
  def answered({:error, :bad_subject}, _spine), do: {:error, :no_stream}
  def answered({:error, :closed}, spine), do: {:error, if(Nats.alive?(spine.conn), do: :timeout, else: :closed)}
  def answered({:error, _full_or_timeout}, _spine), do: {:error, :timeout}

  @doc "A call of JetStream's API with a JSON answer: its fields, or JetStream's own error in the second place."
  @spec api(Spine.t(), binary, map, deadline) ::
          {:ok, map} | {:api_error, code :: non_neg_integer, binary} | {:error, Spine.read_error()}
  def api(spine, call, request, deadline) do
    case ask(spine, "#{spine.api}.#{call}", :jiffy.encode(request), deadline) do
      {:ok, %{status: nil, body: body}} -> parse(body)
      {:ok, %{status: status, headers: headers}} -> {:error, refused(status, headers)}
      {:error, reason} -> {:error, reason}
    end
  end

  @doc """
  An answer's fields, or the error in it. `error` is looked at first: an error's answer also has fields that look like a
  result, such as `"seq": 0`. Its number is the finer code if there is one.
  """
  @spec parse(binary) :: {:ok, map} | {:api_error, non_neg_integer, binary} | {:error, Spine.read_error()}
  def parse(body) do
    case Info.decode(body) do
      {:ok, %{"error" => %{} = error}} -> {:api_error, number(error), text(error["description"])}
      {:ok, %{"error" => error}} when error != nil -> unreadable("an error that is none")
      {:ok, %{} = answer} -> {:ok, answer}
      _ -> unreadable("something that is no answer of JetStream")
    end
  end

  @doc "An answer that cannot be read."
  @spec unreadable(binary) :: {:error, Spine.read_error()}
  def unreadable(what), do: {:error, {:refused, 0, "JetStream sent #{what}"}}

  @doc "A bare status where a result was expected."
  @spec refused(non_neg_integer, Headers.t() | nil) :: Spine.read_error()
  def refused(503, _headers) do
    text = "nobody answers there: JetStream is not up, or the stream has no leader or does not exist"
    Refusal.of_read(503, text)
  end

  def refused(status, headers) do
    Refusal.of_read(status, Headers.get(headers || [], "Description") || "no reason given")
  end

  @doc "A stored message, if it has its subject and its position."
  @spec stored(term, term, binary) :: {:ok, Spine.stored()} | {:error, Spine.read_error()}
  def stored(subject, seq, body) do
    if is_integer(seq) and seq >= 0 and Encoder.subject?(subject) do
      {:ok, %{subject: subject, seq: seq, body: body}}
    else
      unreadable("a message without its subject or position")
    end
  end

  defp number(%{"err_code" => code}) when is_integer(code) and code > 0, do: code
  defp number(%{"code" => code}) when is_integer(code) and code > 0, do: code
  defp number(_error), do: 0

  defp text(text) when is_binary(text), do: text
  defp text(_text), do: ""

  defp now, do: System.monotonic_time(:millisecond)
end
