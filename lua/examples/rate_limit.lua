-- At most `limit` messages of one client in `window_s` seconds; further ones are refused. kv tables are
-- shared by all states, and kv.incr counts in one step, so nothing is counted twice.
--
-- With MQTT 5 the client is told 0x87; an MQTT 3.1.1 client is disconnected (see
-- plugins/MODIFIERS.md for `throttle`, which slows it down instead).

local limit, window_s = 100, 10

kv.ensure_table { name = "rate_limit" }

local function allow(pub)
  local key = pub.mountpoint .. "/" .. pub.client_id
  if kv.incr("rate_limit", key, 1, window_s) > limit then return false end
  -- Whether the client may publish at all is for the next plugin to say.
  return next
end

hooks = { auth_on_publish = allow, auth_on_publish_m5 = allow }
