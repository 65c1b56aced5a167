-- A gRPC call is refused once all that its caller sends has been read, or as much as is bearable.
--
-- An answer in the middle of a message resets the stream, and that may overtake the status: callers
-- would be told of a cancelled call. The status and its words are in txn.refused_status and _words.

local BEARABLE = 64 * 1024 * 1024
local CHUNK = 16 * 1024

core.register_service("refuse", "http", function(applet)
  local left = BEARABLE
  repeat
    local part = applet:receive(CHUNK)
    left = left - #part
  until #part == 0 or left <= 0
  applet:set_status(200)
  applet:add_header("content-type", "application/grpc")
  applet:add_header("grpc-status", tostring(applet:get_var("txn.refused_status")))
  applet:add_header("grpc-message", tostring(applet:get_var("txn.refused_words")))
  applet:start_response()
end)
