-- Writes every published message into PostgreSQL. Publishers never wait for it: on_publish is an
-- event, and when the database cannot keep up, messages beyond vmq_diversity.max_queued_calls are
-- left out and counted (vmq_diversity_calls_refused).
--
-- Configure vmq_diversity.postgres.*.
--
--     CREATE TABLE mqtt_messages (
--       at timestamptz NOT NULL DEFAULT now(),
--       client_id text, username text, topic text, qos int, retain boolean, payload bytea
--     );

num_states = 5

postgres.ensure_pool { pool_id = "postgres_store" }

local function store(pub)
  postgres.execute("postgres_store",
    "INSERT INTO mqtt_messages (client_id, username, topic, qos, retain, payload) "
      .. "VALUES ($1, $2, $3, $4, $5, decode($6, 'base64'))",
    pub.client_id, pub.username, pub.topic, pub.qos, pub.retain, crypto.base64(pub.payload))
end

hooks = { on_publish = store, on_publish_m5 = store }
