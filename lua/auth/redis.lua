-- Clients, their passwords and ACLs in Redis.
--
--     vmq_diversity.auth_redis.enabled = on
--     vmq_diversity.redis.host|port|user|password|database = ...
--
-- The key is a JSON array without spaces, ["mountpoint","client id","username"]; the value is JSON:
--
--     SET '["","*","bob"]' '{"passhash": "$2a$12$...",
--       "publish_acl": [{"pattern": "a/b/c"}, {"pattern": "%u/#", "max_qos": 1}],
--       "subscribe_acl": [{"pattern": "a/+"}]}'
--
-- A key with client id "*" is for all client ids; one for the very client wins.

require "auth/auth_commons"

local pool = "auth_redis"
redis.ensure_pool { pool_id = pool }

local function find(reg, client_id)
  local key = json.encode { reg.mountpoint, client_id, reg.username }
  local value = redis.cmd(pool, "get", key)
  if value == nil then return nil end
  if value == false then error("Redis could not answer") end
  return json.decode(value)
end

local function register(reg)
  if reg.username == nil or reg.password == nil then return false end
  local password = obf.decrypt(reg.password)
  return validate_document(find(reg, reg.client_id), reg, password)
    or validate_document(find(reg, "*"), reg, password)
end

hooks = auth_hooks(register)
