-- Asks a web service who may connect.
--
-- Set `url` below, copy this file into vmq_diversity.script_dir. The service gets
--     POST {"client_id": "...", "username": "...", "password": "...", "mountpoint": ""}
-- and answers 200 with ACLs as JSON, {"publish_acl": [...], "subscribe_acl": [...]}, or 401 or 403.
-- Any other answer, and none within two seconds, leaves the decision to the next plugin.

local url = "http://127.0.0.1:8080/mqtt/auth"

num_states = 20

http.ensure_pool { pool_id = "http_auth", size = 20 }

local function register(reg)
  if reg.username == nil or reg.password == nil then return end
  local body = json.encode {
    client_id = reg.client_id,
    mountpoint = reg.mountpoint,
    username = reg.username,
    password = obf.decrypt(reg.password),
  }
  local answer = http.post("http_auth", url, body, { ["content-type"] = "application/json" },
    { timeout = 2000 })
  if not answer then return end
  if answer.status == 401 or answer.status == 403 then return false end
  if answer.status ~= 200 then return end
  local acl = json.decode(http.body(answer.ref))
  if type(acl) ~= "table" then return end
  auth_cache.insert(reg.mountpoint, reg.client_id, reg.username, acl.publish_acl, acl.subscribe_acl)
  return true
end

hooks = { auth_on_register = register, auth_on_register_m5 = register }
