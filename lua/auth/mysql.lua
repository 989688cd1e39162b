-- Clients, their passwords and ACLs in MySQL or MariaDB (the older of the two names; use mysql2 for new sites).
--
--     vmq_diversity.auth_mysql.enabled = on
--     vmq_diversity.mysql.host|port|user|password|database = ...
--     vmq_diversity.mysql.password_hash_method = password    (or md5, sha1, sha256)
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
--     INSERT INTO vmq_auth_acl VALUES ('', '*', 'bob', PASSWORD('secret'),
--       '[{"pattern": "a/b/c"}, {"pattern": "%u/#", "max_qos": 1}]', '[{"pattern": "a/+"}]');
--
-- A row with client_id '*' is for all client ids; one for the very client wins.

require "auth/auth_commons"

local pool = "auth_mysql"
mysql.ensure_pool { pool_id = pool }

local query = "SELECT client_id, publish_acl, subscribe_acl FROM vmq_auth_acl "
  .. "WHERE mountpoint = ? AND (client_id = ? OR client_id = '*') AND username = ? AND password = "
  .. mysql.hash_method()

local function register(reg)
  if reg.username == nil or reg.password == nil then return false end
  local rows = mysql.execute(pool, query,
    reg.mountpoint, reg.client_id, reg.username, obf.decrypt(reg.password))
  return validate_result_server_side(rows, reg)
end

hooks = auth_hooks(register)
