-- A request that was drawn for a canary gets one of its pods: of two at random the less busy one.
--
-- txn.canary is SHARE:CANARY:STABLE:PLACE/WEIGHT,PLACE/WEIGHT…, the entry of the map "canaries". What is
-- chosen stands in txn.place; without one that can take it, the request goes where all others go.

local MOST_SESSIONS = 256
local MOST_REMEMBERED = 1000
local remembered, count = {}, 0

local function places_of(told)
  local found = remembered[told]
  if found ~= nil then return found end
  found = {}
  for name, weight in string.gmatch(string.match(told, "[^:]*$"), "([^,/]+)/(%d+)") do
    found[#found + 1] = { name = name, weight = math.max(1, tonumber(weight)) }
  end
  if count >= MOST_REMEMBERED then remembered, count = {}, 0 end
  remembered[told], count = found, count + 1
  return found
end

-- How busy a place is against its weight; nil where it can take nothing.
local function busy(backend, place)
  local server = backend.servers[place.name]
  if server == nil then return nil end
  local stats = server:get_stats()
  local sessions = tonumber(stats["scur"]) or 0
  if string.sub(stats["status"] or "", 1, 2) ~= "UP" or sessions >= MOST_SESSIONS then return nil end
  return (sessions + 1) / place.weight
end

core.register_action("draw", { "http-req" }, function(txn)
  local service, protocol = txn:get_var("txn.service"), txn:get_var("txn.protocol")
  local backend = core.backends[string.gsub(service or "", "/", ":", 1) .. ":" .. (protocol or "")]
  if backend == nil then return end
  local places = places_of(txn:get_var("txn.canary") or "")
  local start, seen, best, least = math.random(0, math.max(0, #places - 1)), 0, nil, nil
  for step = 1, #places do
    local place = places[(start + step - 1) % #places + 1]
    local load = busy(backend, place)
    if load ~= nil then
      seen = seen + 1
      if least == nil or load < least then best, least = place.name, load end
    end
    if seen == 2 then break end
  end
  if best ~= nil then txn:set_var("txn.place", best) end
end, 0)
