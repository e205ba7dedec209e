defmodule Brain.Log.Handler do
  @moduledoc """
  Makes `Brain.Log` the one handler of the VM's `:logger`, so that what `Logger` and OTP report has the same form and
  goes the same way. Metadata is shown for a fixed list of keys; a report of OTP becomes one line of bounded length without
  anything that users wrote (`Brain.Log.Report`).
  """

  alias Brain.Log
  alias Brain.Log.Report

  # What our own calls of Logger give along.
  @shown [:node, :room, :epoch, :term, :pos, :why, :error, :stream, :subject, :code]
  # The longest text of a message.
  @chars_max 2000

  @doc "Puts it in the place of every other handler. Call once, when the VM is this node's alone."
  @spec install(Log.t()) :: :ok
  def install(log) do
    for id <- :logger.get_handler_ids(), do: :logger.remove_handler(id)
    :ok = :logger.set_primary_config(:level, primary(log.level))
    # That a process was started is nothing to tell.
    filters = [progress: {&:logger_filters.progress/2, :stop}]
    :ok = :logger.add_handler(:brain, __MODULE__, %{config: log, filters: filters})
  end

  @doc false
  @spec log(:logger.log_event(), :logger.handler_config()) :: :ok
  def log(event, %{config: log}) do
    _ = Log.write(log, [line(log, event)])
    :ok
  catch
    # The VM takes away a handler that crashes, and with it every later line.
    kind, reason ->
      text = ["a report could not be shown: ", Report.crash(kind, reason, __STACKTRACE__)]
      _ = Log.write(log, [Log.line(log, :error, System.system_time(:millisecond), text, [])])
      :ok
  end

  @doc "An event of `:logger` as a line."
  @spec line(Log.t(), :logger.log_event()) :: iolist
  def line(log, %{level: level, meta: meta} = event) do
    template = %{template: [:msg], single_line: true, chars_limit: @chars_max, depth: 20}
    event = %{event | msg: {:string, Report.text(event)}}
    message = event |> :logger_formatter.format(template) |> :unicode.characters_to_binary()
    fields = for key <- @shown, value = meta[key], do: {key, shown(value)}
    wall_ms = System.convert_time_unit(meta.time, :microsecond, :millisecond)
    Log.line(log, level(level), wall_ms, message, fields)
  end

  defp shown(value) when is_binary(value) or is_integer(value) or is_atom(value), do: value
  defp shown(value), do: IO.iodata_to_binary(Report.reason(value))

  defp level(level) when level in [:emergency, :alert, :critical, :error], do: :error
  defp level(:warning), do: :warn
  defp level(level) when level in [:notice, :info], do: :info
  defp level(:debug), do: :debug

  defp primary(:off), do: :none
  defp primary(:warn), do: :warning
  defp primary(:trace), do: :debug
  defp primary(level), do: level
end
