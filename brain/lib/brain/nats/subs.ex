defmodule Brain.Nats.Subs do
  @moduledoc """
  The subscriptions of one connection: who hears what, what is confirmed, what was lost. A value; the messages that it
  sends to subscribers are its only effect.
  """

  alias Brain.Nats.{Encoder, Sub}

  # `lost`: dropped since the last message that was kept. `waiting`: who is to be told when the broker has confirmed it.
  @typep entry :: %{
           sid: pos_integer,
           sub: Sub.t(),
           pid: pid,
           subject: binary,
           queue: binary | nil,
           max: pos_integer,
           lost: non_neg_integer,
           waiting: nil | {answer :: term, timer :: reference},
           monitor: reference
         }

  # `ids`: handle to sid. Sids count up and are never used again, so a late message cannot meet another subscription.
  defstruct by_sid: %{}, ids: %{}, monitors: %{}, next: 2

  @opaque t :: %__MODULE__{
            by_sid: %{pos_integer => entry},
            ids: %{reference => pos_integer},
            monitors: %{reference => pos_integer},
            next: pos_integer
          }

  @doc "None. Sid 1 is the inbox of requests and stands elsewhere."
  @spec new() :: t
  def new, do: %__MODULE__{}

  @doc "How many there are."
  @spec count(t) :: non_neg_integer
  def count(subs), do: map_size(subs.by_sid)

  @doc "The sid that the next one gets."
  @spec next(t) :: pos_integer
  def next(subs), do: subs.next

  @doc "Adds one, not yet confirmed."
  @spec add(t, Sub.t(), pid, binary, binary | nil, pos_integer, {term, reference}) :: t
  def add(subs, sub, pid, subject, queue, max, waiting) do
    sid = subs.next
    monitor = Process.monitor(pid)

    entry = %{
      sid: sid,
      sub: sub,
      pid: pid,
      subject: subject,
      queue: queue,
      max: max,
      lost: 0,
      waiting: waiting,
      monitor: monitor
    }

    %{
      subs
      | by_sid: Map.put(subs.by_sid, sid, entry),
        ids: Map.put(subs.ids, sub.id, sid),
        monitors: Map.put(subs.monitors, monitor, sid),
        next: sid + 1
    }
  end

  @doc "Takes one out, found by its sid, handle or subscriber's monitor."
  @spec remove(t, {:sid, pos_integer} | {:id, reference} | {:monitor, reference}) :: {entry, t} | :none
  def remove(subs, {:id, id}), do: remove_found(subs, subs.ids[id])
  def remove(subs, {:monitor, monitor}), do: remove_found(subs, subs.monitors[monitor])
  def remove(subs, {:sid, sid}), do: remove_found(subs, sid)

  defp remove_found(subs, sid) do
    case Map.pop(subs.by_sid, sid) do
      {nil, _by_sid} ->
        :none

      {entry, by_sid} ->
        Process.demonitor(entry.monitor, [:flush])

        {entry,
         %{
           subs
           | by_sid: by_sid,
             ids: Map.delete(subs.ids, entry.sub.id),
             monitors: Map.delete(subs.monitors, entry.monitor)
         }}
    end
  end

  @doc "Marks those as confirmed that are waiting; gives what each was waiting with, in order."
  @spec confirm(t, {:below, pos_integer} | pos_integer) :: {[{Sub.t(), {term, reference}}], t}
  def confirm(subs, {:below, end_sid}) do
    for(sid <- sids(subs), sid < end_sid, do: sid) |> Enum.reduce({[], subs}, &confirm_one/2) |> reversed()
  end

  def confirm(subs, sid), do: confirm_one(sid, {[], subs}) |> reversed()

  defp confirm_one(sid, {done, subs}) do
    case subs.by_sid do
      %{^sid => %{waiting: {_answer, _timer} = waiting} = entry} ->
        {[{entry.sub, waiting} | done], put_in(subs.by_sid[sid], %{entry | waiting: nil})}

      _ ->
        {done, subs}
    end
  end

  defp reversed({done, subs}), do: {Enum.reverse(done), subs}

  @doc "True if it is there and not yet confirmed."
  @spec waiting?(t, pos_integer) :: boolean
  def waiting?(subs, sid), do: match?(%{^sid => %{waiting: {_answer, _timer}}}, subs.by_sid)

  @doc "Those to a pattern, which the broker denied."
  @spec to_pattern(t, binary) :: [pos_integer]
  def to_pattern(subs, pattern), do: for(sid <- sids(subs), subs.by_sid[sid].subject == pattern, do: sid)

  @doc "All sids, ascending."
  @spec sids(t) :: [pos_integer]
  def sids(subs), do: subs.by_sid |> Map.keys() |> Enum.sort()

  @doc "What makes all of them again on a new connection."
  @spec frames(t) :: [iolist]
  def frames(subs) do
    for sid <- sids(subs), %{subject: subject, queue: queue} = subs.by_sid[sid], do: Encoder.sub(subject, queue, sid)
  end

  @doc """
  Delivers a message, if there is room. `make` makes it from the subscription's own subject, so that equal bytes need no
  copy; what it cannot make (headers that are none) is as if it had not come.
  """
  @spec deliver(t, pos_integer, (binary -> {:ok, map} | {:error, term})) :: t
  def deliver(%__MODULE__{} = subs, sid, make) do
    with %{^sid => %{sub: sub} = entry} <- subs.by_sid,
         {:ok, message} <- make.(entry.subject) do
      cond do
        not Sub.take(sub, entry.max) ->
          said(put_in(subs.by_sid[sid].lost, entry.lost + 1), sid)

        entry.lost > 0 ->
          Sub.settle(sub)
          send(entry.pid, {:nats_lost, sub, entry.lost})
          send(entry.pid, {:nats, sub, message})
          put_in(subs.by_sid[sid].lost, 0)

        true ->
          send(entry.pid, {:nats, sub, message})
          subs
      end
    else
      _ -> subs
    end
  end

  @doc "There is room again: says what was lost."
  @spec room(t, reference) :: t
  def room(%__MODULE__{} = subs, id) do
    case subs.ids do
      %{^id => sid} -> said(subs, sid)
      _ -> subs
    end
  end

  # If there is room for a message, the loss before it can be told. First owed, then looked: see `Sub.ack/2`.
  defp said(%__MODULE__{} = subs, sid) do
    case subs.by_sid do
      %{^sid => %{lost: lost, sub: sub, max: max, pid: pid}} when lost > 0 ->
        Sub.owe(sub)

        if Sub.outstanding(sub) < max do
          Sub.settle(sub)
          send(pid, {:nats_lost, sub, lost})
          put_in(subs.by_sid[sid].lost, 0)
        else
          subs
        end

      _ ->
        subs
    end
  end
end
