-- What the scripts for PostgreSQL and CockroachDB share: the table is the same, and so is the protocol.
--
-- Scripts of your own may use `auth_on_register_common(postgres, reg)` after requiring this file and
-- `auth/auth_commons`; the pool is the one that their global `pool` names.

require "auth/auth_commons"

local function select(columns)
  return "SELECT client_id, " .. columns .. "publish_acl::TEXT, subscribe_acl::TEXT FROM vmq_auth_acl "
    .. "WHERE mountpoint = $1 AND (client_id = $2 OR client_id = '*') AND username = $3"
end
local with_hash = select("password, ")

-- Statements where the server compares the password, by the method's name.
local compared = {
  crypt = select("") .. " AND password = crypt($4, password)",
  sha256 = select("") .. " AND password = sha256($4:::TEXT)",
}

-- The register hook for a module, `postgres` or `cockroachdb`, with the method of its configuration.
function register_with(db)
  local method = db.hash_method()
  local statement = compared[method]
  return function(reg)
    if reg.username == nil or reg.password == nil then return false end
    local password = obf.decrypt(reg.password)
    if statement ~= nil then
      local rows = db.execute(pool, statement,
        reg.mountpoint, reg.client_id, reg.username, password)
      return validate_result_server_side(rows, reg)
    elseif method == "bcrypt" then
      local rows = db.execute(pool, with_hash, reg.mountpoint, reg.client_id, reg.username)
      return validate_result_client_side(rows, reg, password)
    end
    return false
  end
end

-- The same as a function of both, as VerneMQ's scripts have it.
function auth_on_register_common(db, reg) return register_with(db)(reg) end
