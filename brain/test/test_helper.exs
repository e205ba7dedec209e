# Libraries of the system that the tests use, beside Erlang/OTP.
for library <- [:proper, :jiffy] do
  case :code.lib_dir(library) do
    {:error, :bad_name} -> raise "the Erlang library #{library} is not installed: `cargo xtask setup` says how"
    _ -> :ok
  end
end

ExUnit.start()
