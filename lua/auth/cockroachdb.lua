-- Clients, their passwords and ACLs in CockroachDB.
--
--     vmq_diversity.auth_cockroachdb.enabled = on
--     vmq_diversity.cockroachdb.host|port|user|password|database = ...
--     vmq_diversity.cockroachdb.password_hash_method = bcrypt  (or sha256)
--
--     CREATE TABLE vmq_auth_acl (
--       mountpoint character varying(10) NOT NULL,
--       client_id character varying(128) NOT NULL,
--       username character varying(128) NOT NULL,
--       password character varying(128),
--       publish_acl json,
--       subscribe_acl json,
--       CONSTRAINT vmq_auth_acl_primary_key PRIMARY KEY (mountpoint, client_id, username)
--     );
--
-- With sha256 the password column holds sha256('secret') in hexadecimal. A row with client_id '*' is for
-- all client ids; one for the very client wins.

require "auth/auth_commons"

num_states = 10
keep_state = false

local pool = "auth_cockroachdb"
cockroachdb.ensure_pool { pool_id = pool }

local columns = "SELECT client_id, password, publish_acl, subscribe_acl FROM vmq_auth_acl "
local who = "WHERE mountpoint = $1 AND (client_id = $2 OR client_id = '*') AND username = $3"

local function register(reg)
  if reg.username == nil or reg.password == nil then return false end
  local password = obf.decrypt(reg.password)
  local method = cockroachdb.hash_method()
  if method == "sha256" then
    local rows = cockroachdb.execute(pool, columns .. who .. " AND password = sha256($4:::TEXT)",
      reg.mountpoint, reg.client_id, reg.username, password)
    return validate_result_server_side(rows, reg)
  elseif method == "bcrypt" then
    local rows = cockroachdb.execute(pool, columns .. who,
      reg.mountpoint, reg.client_id, reg.username)
    return validate_result_client_side(rows, reg, password)
  end
  return false
end

hooks = auth_hooks(register)
