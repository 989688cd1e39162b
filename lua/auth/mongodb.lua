-- Clients, their passwords and ACLs in MongoDB.
--
--     vmq_diversity.auth_mongodb.enabled = on
--     vmq_diversity.mongodb.host|port|login|password|database = ...
--
-- Documents of the collection vmq_acl_auth:
--
--     { mountpoint: "", client_id: "*", username: "bob",
--       passhash: "$2a$12$...",                                -- bcrypt
--       publish_acl: [{ pattern: "a/b/c" }, { pattern: "%u/#", max_qos: 1 }],
--       subscribe_acl: [{ pattern: "a/+" }] }
--
-- A document with client_id "*" is for all client ids; one for the very client wins.

require "auth/auth_commons"

local pool = "auth_mongodb"
mongodb.ensure_pool { pool_id = pool }

local function find(reg, client_id)
  return mongodb.find_one(pool, "vmq_acl_auth",
    { mountpoint = reg.mountpoint, client_id = client_id, username = reg.username })
end

local function register(reg)
  if reg.username == nil or reg.password == nil then return false end
  local password = obf.decrypt(reg.password)
  return validate_document(find(reg, reg.client_id), reg, password)
    or validate_document(find(reg, "*"), reg, password)
end

hooks = auth_hooks(register)
