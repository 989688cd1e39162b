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
require "auth/postgres_cockroach_commons"

pool = "auth_cockroachdb"
cockroachdb.ensure_pool { pool_id = pool }

hooks = auth_hooks(register_with(cockroachdb))
