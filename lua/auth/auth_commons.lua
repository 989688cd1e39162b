-- What the bundled authentication scripts share. Every value of a call is local: while a script waits
-- for its database, other clients are served by other states of it, and a call that was given up must
-- leave nothing behind.
--
-- Scripts of your own may use the functions below after `require "auth/auth_commons"`. Scripts written for
-- VerneMQ do: the names that its file of this name defines are all here, with its states.

num_states = 10
keep_state = false

-- Raises an error when a value is of another type than `expected`: a name, or a list of names.
function type_assert(value, expected, what)
  local names = type(expected) == "table" and expected or { expected }
  for _, name in ipairs(names) do
    if type(value) == name then return end
  end
  error(what .. " must be a " .. table.concat(names, " or a ") .. ", not a " .. type(value))
end

local acl_types = { pattern = "string", modifiers = "table" }
local plain_types = { "string", "number", "boolean" }

-- Raises an error for a list of rules with a value of a type that no rule has; `cache_insert` does so, too.
function validate_acls(acls)
  for index, acl in ipairs(acls or {}) do
    for key, value in pairs(acl) do
      type_assert(key, "string", "a key of acls[" .. index .. "]")
      type_assert(value, acl_types[key] or plain_types, "acls[" .. index .. "]." .. key)
    end
  end
end

-- Puts the ACLs of a client into the cache, which then answers for it without Lua. Each is a list of
-- tables, or the same as JSON text, or absent: then nothing is allowed. One with a value of a wrong type
-- is an error (the last argument says so): nobody knows what it was meant to allow.
function cache_insert(mountpoint, client_id, username, publish_acl, subscribe_acl)
  return auth_cache.insert(mountpoint, client_id, username, publish_acl, subscribe_acl, true)
end

-- The row of this very client, or else the one for all client ids; only rows that `fits` accepts.
local function best_row(rows, client_id, fits)
  local other
  for _, row in ipairs(rows) do
    if fits(row) then
      if row.client_id == client_id then return row end
      other = other or row
    end
  end
  return other
end

local function accept(row, reg)
  if row == nil then return false end
  cache_insert(reg.mountpoint, reg.client_id, reg.username, row.publish_acl, row.subscribe_acl)
  return true
end

-- `execute` gives rows, or false for a statement that the server refused: then nobody knows whether
-- the password is right, which is no reason to say that it is wrong.
local function rows_of(results)
  if type(results) == "table" then return results end
  error("the database could not answer")
end

-- The database has compared the password: any row is a match.
function validate_result_server_side(results, reg)
  return accept(best_row(rows_of(results), reg.client_id, function() return true end), reg)
end

-- Rows have a bcrypt hash in `password`; a row of this very client is tried first.
function validate_result_client_side(results, reg, password)
  local rows = rows_of(results)
  local own, others = {}, {}
  for _, row in ipairs(rows) do
    table.insert(row.client_id == reg.client_id and own or others, row)
  end
  for _, list in ipairs { own, others } do
    for _, row in ipairs(list) do
      if bcrypt.checkpw(password, row.password) then return accept(row, reg) end
    end
  end
  return false
end

-- One document with the hash in `passhash`, or false.
function validate_document(doc, reg, password)
  if type(doc) ~= "table" or not bcrypt.checkpw(password, doc.passhash) then return false end
  return accept(doc, reg)
end

-- What a script defines as `auth_on_register` is meant for clients of MQTT 5, too.
function auth_on_register_m5(reg) return auth_on_register(reg) end

-- Only reached when a client has no entry in the cache: then nothing is known that would allow it.
function auth_on_publish(pub) return false end
function auth_on_subscribe(sub) return false end
function auth_on_publish_m5(pub) return false end
function auth_on_subscribe_m5(sub) return false end

-- Entries of the cache go by themselves: scripts of your own may name these, and need not.
function on_unsubscribe(unsub) end
function on_client_gone(client) end
function on_client_offline(client) end
function on_session_expired(client) end

-- The hooks of a script that authenticates with `register`.
function auth_hooks(register)
  return {
    auth_on_register = register,
    auth_on_register_m5 = register,
    auth_on_publish = auth_on_publish,
    auth_on_publish_m5 = auth_on_publish_m5,
    auth_on_subscribe = auth_on_subscribe,
    auth_on_subscribe_m5 = auth_on_subscribe_m5,
  }
end
