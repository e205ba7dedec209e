#!/bin/sh
# Dialyzer over the Brain: `brain/dialyzer.sh [PLT]`, after `MIX_ENV=prod mix compile` in brain/. Any warning fails.
# The PLT (Erlang's and Elixir's libraries; some minutes) is built where it is absent, and again by itself when a library
# has changed: keep it between runs. Default: brain/_build/brain.plt.
set -eu
cd "$(dirname "$0")"
plt=${1:-_build/brain.plt}
export ERL_LIBS=${ELIXIR_LIB:-/usr/lib/elixir/lib} LANG=C.UTF-8

if ! dialyzer --check_plt --plt "$plt" --quiet 2>/dev/null; then
  mkdir -p "$(dirname "$plt")"
  dialyzer --build_plt --output_plt "$plt.new" --quiet \
    --apps erts kernel stdlib crypto public_key asn1 ssl inets jiffy elixir logger || {
    # 1: warnings about functions that the libraries name and do not have; the PLT is built all the same.
    test $? -eq 2
  }
  mv "$plt.new" "$plt"
fi

exec dialyzer --plt "$plt" --no_check_plt --format dialyzer \
  -Wunmatched_returns -Werror_handling -Wextra_return -Wmissing_return _build/prod/lib/brain/ebin
