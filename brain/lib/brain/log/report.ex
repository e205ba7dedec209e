defmodule Brain.Log.Report do
  @moduledoc """
  Reports of Erlang/OTP and Elixir as one line that holds nothing of what users wrote.

  A crash report carries the crashed process' mailbox, state and last message, and its reason carries values (`badmatch`,
  `case_clause`), exception messages and the arguments of calls. Any of them can be a user's payload or a password. So a
  report is never printed as a term: its known parts are named, the stack is shown as functions with their arities, and every
  other value is shown as its shape (`term/1`): atoms, numbers and process ids as they are, texts by their size alone.
  """

  # Deeper terms, longer tuples, lists and stacks are cut.
  @depth 4
  @elements 6
  @frames 8

  @doc "The message of an event of `:logger`. A text of our own `Logger` calls stays as it is."
  @spec text(:logger.log_event()) :: iodata
  def text(%{msg: {:string, text}}), do: text
  def text(%{msg: {:report, report}}), do: report(report)
  def text(%{msg: {format, arguments}}), do: formatted(format, arguments)

  @doc """
  A reason why a process ended: its shape, and the stack if it has one.

      iex> IO.iodata_to_binary(Brain.Log.Report.reason({{:badmatch, "secret"}, [{Brain.Room, :step, ["secret"], [line: 7]}]}))
      "{:badmatch, <<6 bytes>>} at Brain.Room.step/1:7"
  """
  @spec reason(term) :: iodata
  def reason({reason, [{_, _, _, _} | _] = stack}) do
    case frames(stack) do
      [] -> [reason(reason)]
      frames -> [reason(reason), " at ", Enum.intersperse(frames, " < ")]
    end
  end

  def reason(reason), do: term(reason)

  @doc "What `catch` got, as `reason/1` shows it."
  @spec crash(:error | :exit | :throw, term, list) :: iolist
  def crash(kind, reason, stack), do: [Atom.to_string(kind), ?\s, reason({reason, stack})]

  @doc """
  A term's shape.

      iex> IO.iodata_to_binary(Brain.Log.Report.term({:error, 7, "secret", 'secret', %{"a" => 1}, %RuntimeError{}}))
      "{:error, 7, <<6 bytes>>, 'charlist of 6', %{1 key}, %RuntimeError{}}"
  """
  @spec term(term) :: iodata
  def term(term), do: term(term, @depth)

  defp term(term, _) when is_atom(term) or is_number(term) or is_pid(term), do: inspect(term)
  defp term(term, _) when is_reference(term) or is_port(term) or is_function(term), do: inspect(term)
  defp term(term, _) when is_binary(term), do: "<<#{byte_size(term)} bytes>>"
  defp term(term, _) when is_bitstring(term), do: "<<#{bit_size(term)} bits>>"
  defp term(%module{}, _) when is_atom(module), do: ["%", inspect(module), "{}"]
  defp term(term, _) when map_size(term) == 1, do: "%{1 key}"
  defp term(term, _) when is_map(term), do: "%{#{map_size(term)} keys}"
  defp term([], _), do: "[]"
  defp term({}, _), do: "{}"
  defp term(_, 0), do: "…"
  defp term(term, depth) when is_tuple(term), do: [?{, elements(Tuple.to_list(term), depth), ?}]

  defp term([head | _] = term, depth) when is_list(term) do
    cond do
      List.improper?(term) -> "improper list"
      # The same text in its other form.
      is_integer(head) -> "'charlist of #{length(term)}'"
      true -> [?[, elements(term, depth), ?]]
    end
  end

  defp elements(terms, depth) do
    {shown, rest} = Enum.split(terms, @elements)
    shown = Enum.map(shown, &term(&1, depth - 1))
    Enum.intersperse(if(rest == [], do: shown, else: shown ++ ["… #{length(rest)} more"]), ", ")
  end

  # Functions by arity, never their arguments.
  defp frames(stack) do
    for {module, function, arity, place} <- Enum.take(stack, @frames), is_atom(module) and is_atom(function) do
      arity = if is_list(arity), do: length(arity), else: arity
      line = if is_list(place) and is_integer(place[:line]), do: ":#{place[:line]}", else: ""
      [inspect(module), ?., Atom.to_string(function), ?/, inspect(arity), line]
    end
  end

  # === Known reports

  defp report(report) when is_list(report) do
    if Keyword.keyword?(report), do: report(Map.new(report)), else: ["report ", term(report)]
  end

  defp report(%{label: {:proc_lib, :crash}, report: [info | _]}) do
    name = if info[:registered_name] in [nil, []], do: call(info[:initial_call]), else: term(info[:registered_name])
    waiting = if is_list(info[:messages]), do: length(info[:messages]), else: 0

    reason =
      case info[:error_info] do
        {kind, reason, stack} when is_atom(kind) and is_list(stack) -> crash(kind, reason, stack)
        other -> reason(other)
      end

    ["process ", name, " crashed: ", reason, "; messages that waited: ", Integer.to_string(waiting)]
  end

  defp report(%{label: {kind, what}, report: report}) when is_list(report) do
    case Map.new(for {_, _} = pair <- report, do: pair) do
      %{supervisor: supervisor, reason: reason} = fields ->
        child = term(List.wrap(fields[:offender])[:id] || :unnamed)
        ["supervisor ", name(supervisor), ": child ", child, ": ", term(what), ": ", reason(reason)]

      fields ->
        labelled({kind, what}, fields)
    end
  end

  defp report(%{label: label, report: %{} = fields}), do: labelled(label, fields)
  defp report(%{label: label} = fields), do: labelled(label, fields)
  defp report(other), do: ["report ", term(other)]

  defp labelled(label, fields) do
    parts = for key <- [:name, :application], value = fields[key], do: [" ", name(value)]
    reason = for key <- [:reason, :exited], value = fields[key], do: [": ", reason(value)]
    [term(label), parts, reason]
  end

  defp name({:local, name}), do: name(name)
  defp name({pid, module}) when is_pid(pid) and is_atom(module), do: inspect(module)
  defp name(name), do: term(name)

  defp call({module, function, arguments}) when is_atom(module) and is_atom(function) and is_list(arguments),
    do: "#{inspect(module)}.#{function}/#{length(arguments)}"

  defp call(other), do: term(other)

  # A format with its arguments' shapes in their places.
  defp formatted(format, arguments) do
    parts = Regex.split(~r/~[^a-zA-Z~]*[a-zA-Z~]/, IO.chardata_to_string(format), include_captures: true)
    elem(Enum.map_reduce(parts, List.wrap(arguments), &part/2), 0)
  end

  defp part(<<?~, _::binary>> = directive, arguments) do
    case {String.last(directive), arguments} do
      {"n", _} -> {" ", arguments}
      {"~", _} -> {"~", arguments}
      {_, [argument | rest]} -> {reason(argument), rest}
      {_, []} -> {"", []}
    end
  end

  defp part(text, arguments), do: {text, arguments}
end
