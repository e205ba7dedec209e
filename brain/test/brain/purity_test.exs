defmodule Brain.PurityTest do
  @moduledoc """
  The core is a function of its inputs: its compiled code calls nothing that could know more. What each module calls is
  read from its BEAM file and compared with a list; who needs more writes it down here, with a reason.
  """
  use ExUnit.Case, async: true

  # The core, by name. What stands beside it under the same names and has a process, a socket or a clock:
  @shell [Brain.Room]
  # Runs while others are compiled, and never after.
  @compile_time [Brain.Codec.Decoder, Brain.Codec.Encoder, Brain.Codec.Enum, Brain.Codec.Message, Brain.Codec.Table]
  @core ~r/^Brain\.(Room\.|Codec(\.|$)|Proto\.|Envelope(\.|$)|Mesh\.(Opened|Peers|Place)$|Code$|Id$|Subject$|Rights$)/

  # Plain data, every function of it.
  @data [Bitwise, Integer, List, Map, :binary, :gb_sets, :gb_trees, :lists, :maps, :queue]

  # Of what could do more, only these.
  @some %{
    ArgumentError => [:exception],
    Enum =>
      ~w(all? any? at chunk_by count drop drop_while each empty? filter find find_value flat_map into map map_reduce max min
         member? reduce reduce_while reject reverse sort sort_by split split_while sum take take_while to_list zip)a,
    Kernel => [:inspect, :struct!],
    String => [:starts_with?, :valid?],
    String.Chars => [:to_string],
    :crypto => [:hash],
    :erlang =>
      ~w(* + ++ - -- / /= < =/= =:= =< == > >= abs and atom_to_binary band bnot bor bsl bsr bxor byte_size binary_part
         div element error get_module_info hd integer_to_binary iolist_size iolist_to_binary is_map_key length map_get
         map_size max min not or raise rem setelement split_binary throw tl tuple_size xor)a
  }

  defp core do
    {:ok, modules} = :application.get_key(:brain, :modules)
    Enum.filter(modules, &(inspect(&1) =~ @core and &1 not in @shell and &1 not in @compile_time))
  end

  # The file that was compiled: what is loaded may be instrumented for coverage.
  defp beam(module), do: to_charlist(Application.app_dir(:brain, "ebin/#{module}.beam"))

  defp imports(beam) do
    {:ok, {_, [imports: imports]}} = :beam_lib.chunks(beam, [:imports])
    imports
  end

  defp forbidden(imports, core) do
    for {module, function, arity} <- imports,
        module not in core and module not in @data and function not in Map.get(@some, module, []),
        do: {module, function, arity}
  end

  test "the core calls nothing but plain data and itself" do
    core = core()
    called = for module <- core, call <- forbidden(imports(beam(module)), core), do: {module, call}
    assert called == []
  end

  # It takes modules apart, instruction by instruction: on a busy machine more than the minute that a test has.
  @tag timeout: 600_000
  test "the core waits for no message" do
    waits = for module <- core(), waits?(beam(module)), do: module
    assert waits == []
    [{_, beam}] = Code.compile_string("defmodule Brain.PurityTest.Waits, do: def(it, do: receive(do: (x -> x)))")
    assert waits?(beam)
  end

  # `receive` is no call, but an instruction.
  defp waits?(beam) do
    {:beam_file, _, _, _, _, functions} = :beam_disasm.file(beam)
    for({:function, _, _, _, code} <- functions, {:loop_rec, _, _} <- code, do: true) != []
  end

  test "the core is all there" do
    core = core()
    rooms = [Brain.Room.Core, Brain.Room.Core.Build, Brain.Room.Fold, Brain.Room.Decide, Brain.Room.Dedupe.Seen]

    for module <- rooms ++ [Brain.Codec, Brain.Proto.V1.Envelope, Brain.Code, Brain.Mesh.Place],
        do: assert(module in core)
  end

  test "a clock, a dice, a process or an atom from the outside would be found" do
    source = """
    defmodule Brain.PurityTest.Impure do
      def now, do: System.system_time()
      def mono, do: :erlang.monotonic_time()
      def draw(list), do: Enum.random(list)
      def bytes, do: :crypto.strong_rand_bytes(8)
      def remember(term), do: Process.put(:it, term)
      def me, do: self()
      def tell(pid, it), do: send(pid, it)
      def atom(text), do: String.to_atom(text)
    end
    """

    [{_, beam}] = Code.compile_string(source)
    found = for {module, function, _} <- forbidden(imports(beam), core()), do: {module, function}

    for call <- [
          {:erlang, :system_time},
          {:erlang, :monotonic_time},
          {Enum, :random},
          {:crypto, :strong_rand_bytes},
          {:erlang, :send},
          {:erlang, :self}
        ],
        do: assert(call in found)

    assert Enum.any?(found, &(&1 in [{Process, :put}, {:erlang, :put}]))
    assert Enum.any?(found, &(&1 in [{String, :to_atom}, {:erlang, :binary_to_atom}]))
  end
end
