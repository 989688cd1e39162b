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
require "auth/postgres_cockroach_commons"

pool = "auth_postgres"
postgres.ensure_pool { pool_id = pool }

hooks = auth_hooks(register_with(postgres))
