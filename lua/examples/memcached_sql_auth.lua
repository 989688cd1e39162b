-- PostgreSQL with Memcached in front of it: a user's row is read from the database once in five minutes.
--
-- Configure vmq_diversity.postgres.* and vmq_diversity.memcache.*; the table is vmq_auth_acl of
-- auth/postgres.lua with bcrypt hashes. The cache holds the row with its hash, never a password.

require "auth/auth_commons"

local ttl_s = 300

num_states = 10

postgres.ensure_pool { pool_id = "memcached_sql" }
memcached.ensure_pool { pool_id = "memcached_sql" }

local query = "SELECT client_id, password, publish_acl, subscribe_acl FROM vmq_auth_acl "
  .. "WHERE mountpoint = $1 AND (client_id = $2 OR client_id = '*') AND username = $3"

local function rows_of(reg)
  local name = json.encode { reg.mountpoint, reg.client_id, reg.username }
  local key = "vmq:" .. crypto.hex(crypto.hash("sha256", name))
  -- A cache that is down is a cache that has nothing.
  local ok, cached = pcall(memcached.get, "memcached_sql", key)
  if ok and cached then return json.decode(cached) end
  local rows = postgres.execute("memcached_sql", query,
    reg.mountpoint, reg.client_id, reg.username)
  if type(rows) == "table" and #rows > 0 then
    pcall(memcached.set, "memcached_sql", key, json.encode(rows), ttl_s)
  end
  return rows
end

local function register(reg)
  if reg.username == nil or reg.password == nil then return false end
  return validate_result_client_side(rows_of(reg), reg, obf.decrypt(reg.password))
end

hooks = auth_hooks(register)
