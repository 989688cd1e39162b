-- Loaded first of this folder. It has no hooks; a place for what all scripts of a site have in common,
-- such as pools:
--
--     postgres.ensure_pool { pool_id = "site", host = "db.example.com" }

num_states = 1
