-- Requests that no replica can take wait here until one can, or until they have waited long enough.
--
-- A backend sends them here by its backup server, with the headers conch-backend (its name) and
-- conch-wait (seconds at most); from here they go back to the same backend. In the log, a line
-- "W <backend>" tells the agent at once, and then each second: it has a sleeping service woken.
--
-- A worker that was replaced checks no server any more: what waits there goes on to its successor.

local PAUSE_MS = 20
-- By backend: whether it has a server, and when somebody waited last and was told of last.
local up, seen, told = {}, {}, {}
local replaced = false

local function able(name)
  local backend = core.backends[name]
  return backend ~= nil and tonumber(backend:get_stats()["act"] or 0) > 0
end

local function look(name, second)
  up[name] = able(name)
  if not up[name] and told[name] ~= second then
    told[name] = second
    core.log(core.info, "W " .. name)
  end
end

-- One look for all that wait, however many they are. Who was cut off says nothing: those that are not
-- seen for a while are gone.
core.register_task(function()
  while true do
    local second = core.now().sec
    if next(seen) ~= nil and not replaced then
      replaced = tonumber(core.get_info()["Stopping"] or 0) > 0
    end
    for name, last in pairs(seen) do
      if second - last > 1 then
        seen[name], up[name], told[name] = nil, nil, nil
      else
        look(name, second)
      end
    end
    core.msleep(PAUSE_MS)
  end
end)

core.register_action("hold", { "http-req" }, function(txn)
  local name = txn.sf:req_fhdr("conch-backend") or ""
  local limit = core.now().sec + (tonumber(txn.sf:req_fhdr("conch-wait")) or 0)
  local second = core.now().sec
  seen[name] = second
  look(name, second)
  while not up[name] and not replaced and second <= limit do
    core.msleep(PAUSE_MS)
    second = core.now().sec
    seen[name] = second
  end
  if up[name] then return end
  if replaced then
    txn.http:req_set_header("conch-wait", tostring(math.max(0, limit - second)))
    txn:set_var("txn.moved", 1)
  else
    txn:set_var("txn.late", 1)
  end
end, 0)
