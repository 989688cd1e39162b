-- Clients, their passwords and ACLs in MySQL or MariaDB.
--
--     vmq_diversity.auth_mysql2.enabled = on
--     vmq_diversity.mysql2.host|port|user|password|database = ...
--     vmq_diversity.mysql2.password_hash_method = sha256     (or password, md5, sha1)
--
--     CREATE TABLE vmq_auth_acl (
--       mountpoint VARCHAR(10) NOT NULL,
--       client_id VARCHAR(128) NOT NULL,
--       username VARCHAR(128) NOT NULL,
--       password VARCHAR(128),
--       publish_acl TEXT,
--       subscribe_acl TEXT,
--       CONSTRAINT vmq_auth_acl_primary_key PRIMARY KEY (mountpoint, client_id, username)
--     );
--     INSERT INTO vmq_auth_acl VALUES ('', '*', 'bob', SHA2('secret', 256),
--       '[{"pattern": "a/b/c"}, {"pattern": "%u/#", "max_qos": 1}]', '[{"pattern": "a/+"}]');
--
-- A row with client_id '*' is for all client ids; one for the very client wins.

require "auth/auth_commons"

local pool = "auth_mysql2"
mysql2.ensure_pool { pool_id = pool }

local query = "SELECT client_id, publish_acl, subscribe_acl FROM vmq_auth_acl "
  .. "WHERE mountpoint = ? AND (client_id = ? OR client_id = '*') AND username = ? AND password = "
  .. mysql2.hash_method()

local function register(reg)
  if reg.username == nil or reg.password == nil then return false end
  local rows = mysql2.execute(pool, query,
    reg.mountpoint, reg.client_id, reg.username, obf.decrypt(reg.password))
  return validate_result_server_side(rows, reg)
end

hooks = auth_hooks(register)
