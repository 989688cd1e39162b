-- Clients, their passwords and ACLs in PostgreSQL.
--
--     vmq_diversity.auth_postgres.enabled = on
--     vmq_diversity.postgres.host|port|user|password|database = ...
--     vmq_diversity.postgres.password_hash_method = crypt      (or bcrypt)
--
--     CREATE EXTENSION pgcrypto;                               -- for crypt
--     CREATE TABLE vmq_auth_acl (
--       mountpoint character varying(10) NOT NULL,
--       client_id character varying(128) NOT NULL,
--       username character varying(128) NOT NULL,
--       password character varying(128),
--       publish_acl json,
--       subscribe_acl json,
--       CONSTRAINT vmq_auth_acl_primary_key PRIMARY KEY (mountpoint, client_id, username)
--     );
--     INSERT INTO vmq_auth_acl VALUES ('', '*', 'bob', crypt('secret', gen_salt('bf')),
--       '[{"pattern": "a/b/c"}, {"pattern": "%u/#", "max_qos": 1}]', '[{"pattern": "a/+"}]');
--
-- A row with client_id '*' is for all client ids; one for the very client wins.

require "auth/auth_commons"

num_states = 10
keep_state = false

local pool = "auth_postgres"
postgres.ensure_pool { pool_id = pool }

local columns = "SELECT client_id, password, publish_acl, subscribe_acl FROM vmq_auth_acl "
local who = "WHERE mountpoint = $1 AND (client_id = $2 OR client_id = '*') AND username = $3"

local function register(reg)
  if reg.username == nil or reg.password == nil then return false end
  local password = obf.decrypt(reg.password)
  local method = postgres.hash_method()
  if method == "crypt" then
    local rows = postgres.execute(pool, columns .. who .. " AND password = crypt($4, password)",
      reg.mountpoint, reg.client_id, reg.username, password)
    return validate_result_server_side(rows, reg)
  elseif method == "bcrypt" then
    local rows = postgres.execute(pool, columns .. who, reg.mountpoint, reg.client_id, reg.username)
    return validate_result_client_side(rows, reg, password)
  end
  return false
end

hooks = auth_hooks(register)
