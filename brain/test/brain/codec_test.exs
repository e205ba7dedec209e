defmodule Brain.CodecTest do
  use ExUnit.Case, async: true
  doctest Brain.Codec
end
