-- What the scripts for PostgreSQL and CockroachDB share: the table is the same, and so is the protocol.
--
-- Scripts of your own may use `auth_on_register_common(postgres, reg)` after requiring this file and
-- `auth/auth_commons`; the pool is the one that their global `pool` names.

require "auth/auth_commons"

local columns = "SELECT client_id, password, publish_acl::TEXT, subscribe_acl::TEXT FROM vmq_auth_acl "
local who = "WHERE mountpoint = $1 AND (client_id = $2 OR client_id = '*') AND username = $3"

-- How the server compares the password with the column, by the method's name.
local comparisons = {
  crypt = " AND password = crypt($4, password)",
  sha256 = " AND password = sha256($4:::TEXT)",
}

-- `db` is the module, `postgres` or `cockroachdb`.
function auth_on_register_common(db, reg)
  if reg.username == nil or reg.password == nil then return false end
  local password = obf.decrypt(reg.password)
  local method = db.hash_method()
  if method == "bcrypt" then
    local rows = db.execute(pool, columns .. who, reg.mountpoint, reg.client_id, reg.username)
    return validate_result_client_side(rows, reg, password)
  end
  local comparison = comparisons[method]
  if comparison == nil then return false end
  local rows = db.execute(pool, columns .. who .. comparison,
    reg.mountpoint, reg.client_id, reg.username, password)
  return validate_result_server_side(rows, reg)
end
