/** Part of the prelude: functions of older Luas that Lua 5.4 has not, in `base.math` and `base.bit32`. */
export const OLDER_LUA = `
local m = base.math
local exp, log, floor, huge = math.exp, math.log, math.floor, math.huge
m.pow = m.pow or function(x, y) return x ^ y end
m.log10 = m.log10 or function(x) return log(x, 10) end
m.atan2 = m.atan2 or math.atan
m.cosh = m.cosh or function(x) return (exp(x) + exp(-x)) / 2 end
m.sinh = m.sinh or function(x) return (exp(x) - exp(-x)) / 2 end
m.tanh = m.tanh or function(x)
  if x > 20 then return 1.0 elseif x < -20 then return -1.0 end
  local a, b = exp(x), exp(-x)
  return (a - b) / (a + b)
end
m.ldexp = m.ldexp or function(x, e) return x * 2.0 ^ e end
m.frexp = m.frexp or function(x)
  if x == 0 or x ~= x or x == huge or x == -huge then return x, 0 end
  local a, e = x < 0 and -x or x, 0
  while a >= 1 do a, e = a / 2, e + 1 end
  while a < 0.5 do a, e = a * 2, e - 1 end
  return x < 0 and -a or a, e
end

local MASK = 0xFFFFFFFF
local function u32(x)
  local n = tonumber(x)
  if n == nil then error("number expected, got " .. type(x), 3) end
  return floor(n) & MASK
end
local bit32 = {}
function bit32.band(...)
  local r = MASK
  for i = 1, select("#", ...) do r = r & u32((select(i, ...))) end
  return r
end
function bit32.bor(...)
  local r = 0
  for i = 1, select("#", ...) do r = r | u32((select(i, ...))) end
  return r
end
function bit32.bxor(...)
  local r = 0
  for i = 1, select("#", ...) do r = r ~ u32((select(i, ...))) end
  return r
end
function bit32.bnot(x) return ~u32(x) & MASK end
function bit32.btest(...) return bit32.band(...) ~= 0 end
function bit32.lshift(x, n)
  if n < 0 then return bit32.rshift(x, -n) end
  return n > 31 and 0 or (u32(x) << n) & MASK
end
function bit32.rshift(x, n)
  if n < 0 then return bit32.lshift(x, -n) end
  return n > 31 and 0 or u32(x) >> n
end
function bit32.arshift(x, n)
  x = u32(x)
  if n < 0 then return bit32.lshift(x, -n) end
  local fill = x >= 0x80000000 and MASK or 0
  if n > 31 then return fill end
  return ((x >> n) | ~(MASK >> n) & fill) & MASK
end
function bit32.lrotate(x, n)
  x, n = u32(x), n & 31
  return ((x << n) | (x >> (32 - n))) & MASK
end
function bit32.rrotate(x, n) return bit32.lrotate(x, -n) end
local function field(at, width)
  width = width or 1
  if at < 0 or width < 1 or at + width > 32 then error("trying to access non-existent bits", 3) end
  return (1 << width) - 1
end
function bit32.extract(x, at, width) return (u32(x) >> at) & field(at, width) end
function bit32.replace(x, v, at, width)
  local mask = field(at, width)
  return (u32(x) & ~(mask << at) | (u32(v) & mask) << at) & MASK
end
base.bit32 = bit32
`;
