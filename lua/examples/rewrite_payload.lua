-- Changes JSON payloads on the way in: below `sensors/` the temperature is sent in Fahrenheit and
-- stored in Celsius, and the client's id is added. Payloads that are no JSON pass unchanged.

local function rewrite(pub)
  if pub.topic:sub(1, 8) ~= "sensors/" then return next end
  local data = json.decode(pub.payload)
  if type(data) ~= "table" or type(data.fahrenheit) ~= "number" then return next end
  data.celsius = math.floor((data.fahrenheit - 32) * 50 / 9 + 0.5) / 10
  data.fahrenheit = nil
  data.client = pub.client_id
  return { payload = json.encode(data) }
end

hooks = { auth_on_publish = rewrite, auth_on_publish_m5 = rewrite }
