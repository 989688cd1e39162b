-- Writes every published message into the collection mqtt_messages of MongoDB. Publishers never wait for
-- it (see postgres_store.lua).
--
-- Configure vmq_diversity.mongodb.*.

num_states = 5

mongodb.ensure_pool { pool_id = "mongodb_store" }

local function store(pub)
  mongodb.insert("mongodb_store", "mqtt_messages", {
    at = os.time(),
    client_id = pub.client_id,
    username = pub.username,
    topic = pub.topic,
    qos = pub.qos,
    retain = pub.retain,
    payload = pub.payload,
  })
end

hooks = { on_publish = store, on_publish_m5 = store }
