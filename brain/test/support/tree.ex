defmodule Brain.Tree do
  @moduledoc """
  The processes of a supervision tree, found by walking it, so that a test of "each process" cannot forget one. Beside the
  children of supervisors, the processes that a child has linked to itself count: connections and the page have such.
  """

  @typedoc "Where a process stands: the ids from the top, the last one with a number if it is a linked one."
  @type path :: [term]

  @doc "All processes below a supervisor, with their paths."
  @spec walk(pid) :: [{path, pid}]
  def walk(top), do: top |> below([], [top]) |> elem(0)

  defp below(pid, path, seen) do
    for {id, child, type, _} <- GenServer.call(pid, :which_children), is_pid(child), reduce: {[], seen} do
      {found, seen} ->
        here = path ++ [id]

        {more, seen} =
          if type == :supervisor, do: below(child, here, [child | seen]), else: linked(child, here, [child | seen])

        {found ++ [{here, child} | more], seen}
    end
  end

  # What a worker started by itself. The supervisors above are in `seen`.
  defp linked(pid, path, seen) do
    links = with {:links, links} <- Process.info(pid, :links), do: links
    own = for link <- List.wrap(links), is_pid(link), link not in seen, not task?(link), parent(link) == pid, do: link
    {for({link, n} <- Enum.with_index(own, 1), do: {path ++ [n], link}), seen ++ own}
  end

  # A call that ends by itself is no part of the tree.
  defp task?(pid) do
    case Process.info(pid, :dictionary) do
      {:dictionary, dictionary} -> Keyword.has_key?(dictionary, :"$callers")
      nil -> true
    end
  end

  # Plain processes do not know who started them; those that OTP started do.
  defp parent(pid) do
    case Process.info(pid, :dictionary) do
      {:dictionary, dictionary} ->
        case dictionary[:"$ancestors"] do
          [parent | _] when is_pid(parent) -> parent
          [name | _] when is_atom(name) -> Process.whereis(name)
          _ -> linked_to(pid)
        end

      nil ->
        nil
    end
  end

  defp linked_to(pid) do
    case Process.info(pid, :links) do
      {:links, [one]} when is_pid(one) -> one
      {:links, links} -> Enum.find(links, &is_pid/1)
      nil -> nil
    end
  end

  @doc """
  For a program under test: reads lines of standard input, and answers each with one line on standard output.

      walk            the paths below `Brain.Root`, one list
      kill INDEX      kills the process at that place of the last walk
      hunt PATH       kills whatever process stands there, four times
  """
  @spec serve() :: no_return
  def serve do
    spawn(fn -> loop([]) end)
  end

  defp loop(walked) do
    case IO.gets("") do
      line when is_binary(line) -> line |> String.split() |> obey(walked) |> loop()
      _ -> :ok
    end
  end

  defp obey(["walk"], _) do
    walked = walk(Process.whereis(Brain.Root))
    say("walked", for({path, _} <- walked, do: shown(path)))
    walked
  end

  defp obey(["kill", index], walked) do
    {_, pid} = Enum.at(walked, String.to_integer(index))
    kill(pid, "killed")
    walked
  end

  defp obey(["hunt", path], _) do
    hunt(path, nil, 4)
    []
  end

  defp hunt(_path, _last, 0), do: :ok

  defp hunt(path, last, left) do
    standing = for {here, pid} <- walk(Process.whereis(Brain.Root)), shown(here) == path, pid != last, do: pid

    case standing do
      [pid] ->
        kill(pid, "hunted")
        hunt(path, pid, left - 1)

      # It is being started again.
      [] ->
        hunt(path, last, left)
    end
  catch
    # A supervisor on the way is not there.
    :exit, _ -> hunt(path, last, left)
  end

  defp kill(pid, done) do
    monitor = Process.monitor(pid)
    Process.exit(pid, :kill)

    receive do
      {:DOWN, ^monitor, :process, _, _} -> say(done, [])
    end
  end

  defp shown(path), do: Enum.map_join(path, "/", &inspect/1)

  defp say(what, words), do: IO.puts(Enum.join(["tree", what | words], " "))
end
