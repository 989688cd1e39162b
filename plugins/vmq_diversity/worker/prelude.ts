import { ENDED } from "./fields.ts";
import { OLDER_LUA } from "./older-lua.ts";

/**
 * Runs in every state before the script: takes dangerous functions away, adds those of older Luas that
 * VerneMQ's has, and keeps globals apart from one call to the next. Written in Lua, since each rule
 * then stands where scripts meet it. Gets the token of waiting calls and a table of host functions; gives
 * the functions the engine works with.
 *
 * Globals live in `base`; scripts see the empty table `globals` in front of it, so that every
 * assignment to a global passes `write`, which notes the old value for the end of the call.
 */
export const PRELUDE = String.raw`
local WAIT, host, LATE, complete = ...
local next, type, rawget, rawset, select, error = next, type, rawget, rawset, select, error
local getmetatable, setmetatable, tostring, tonumber = getmetatable, setmetatable, tostring, tonumber
local rawequal = rawequal
local raw_load, raw_pairs = load, pairs
local getupvalue, setupvalue, upvalueid = debug.getupvalue, debug.setupvalue, debug.upvalueid
local raw_getinfo, traceback = debug.getinfo, debug.traceback
local create, resume, yield = coroutine.create, coroutine.resume, coroutine.yield
local concat, unpack, pack = table.concat, table.unpack, table.pack

local base, globals = {}, {}
local journal, is_dirty, NONE = nil, false, {}

local function note(key)
  if journal and journal[key] == nil then
    local old = rawget(base, key)
    if old == nil then old = NONE end
    journal[key] = old
    is_dirty = true
  end
end

local function write(_, key, value)
  note(key)
  base[key] = value
end

setmetatable(globals, {
  __index = base,
  __newindex = write,
  __pairs = function() return next, base, nil end,
  __metatable = false,
})

-- Arguments whose fields come when they are read (late-fields.ts): who looks past __index needs all of them.
local function whole(t, level)
  if rawequal(getmetatable(t), LATE) and not complete(t) then
    error("${ENDED}", level)
  end
end

function LATE.__pairs(t)
  whole(t, 4)
  return next, t, nil
end

-- ---- basic functions

local function forbidden(name)
  return function() error(name .. " is not available to scripts", 2) end
end

for _, name in ipairs { "assert", "error", "ipairs", "pairs", "pcall", "rawequal", "rawlen",
    "select", "tonumber", "tostring", "type", "xpcall" } do
  base[name] = _G[name]
end
base._G = globals
base._VERSION = "Lua 5.3"
base.unpack = unpack

function base.next(t, key)
  if t == globals then t = base end
  whole(t, 3)
  return next(t, key)
end

function base.rawget(t, key)
  if t == globals then t = base end
  if rawequal(getmetatable(t), LATE) then return t[key] end
  return rawget(t, key)
end

function base.rawset(t, key, value)
  if t == globals then
    note(key)
    rawset(base, key, value)
    return t
  end
  if rawequal(getmetatable(t), LATE) then
    t[key] = value
    return t
  end
  return rawset(t, key, value)
end

function base.getmetatable(value)
  if value == globals then value = base end
  local meta = getmetatable(value)
  if rawequal(meta, LATE) then return nil end
  return meta
end

-- A finalizer would run where no budget holds it.
local function guarded_setmetatable(t, meta)
  if type(meta) == "table" and rawget(meta, "__gc") ~= nil then
    error("__gc is not available to scripts", 2)
  end
  if t == globals then
    setmetatable(base, meta)
    return t
  end
  whole(t, 3)
  return setmetatable(t, meta)
end
base.setmetatable = guarded_setmetatable

local COLLECT = { collect = true, count = true, step = true, isrunning = true }
local collect = collectgarbage
function base.collectgarbage(what, arg)
  what = what or "collect"
  if COLLECT[what] then return collect(what, arg) end
  return 0
end

local function text_of(...)
  local parts = pack(...)
  for i = 1, parts.n do parts[i] = tostring(parts[i]) end
  return parts
end

function base.print(...) host.log("info", concat(text_of(...), "\t")) end

function base.load(chunk, name, _, ...)
  local env = globals
  if select("#", ...) > 0 then env = ... end
  return raw_load(chunk, name, "t", env)
end

function base.loadstring(text, name) return raw_load(text, name or text, "t", globals) end

function base.loadfile(path)
  local source, reason = host.read_file(path)
  if source == nil then return nil, reason end
  return raw_load(source, "@" .. path, "t", globals)
end

function base.dofile(path)
  local source, reason = host.read_file(path)
  if source == nil then error(reason, 2) end
  local chunk, fault = raw_load(source, "@" .. path, "t", globals)
  if chunk == nil then error(fault, 0) end
  return chunk()
end

-- ---- libraries

local function copy_of(t, names)
  local copy = {}
  for key, value in next, t do
    if names == nil or names[key] then copy[key] = value end
  end
  return copy
end

base.string = string
base.utf8 = copy_of(utf8)
base.table = copy_of(table)
base.math = copy_of(math)
${OLDER_LUA}
base.os = copy_of(os, { clock = true, date = true, difftime = true, time = true })
for _, name in ipairs { "execute", "exit", "remove", "rename", "setlocale", "tmpname" } do
  base.os[name] = forbidden("os." .. name)
end
base.io = {
  write = function(...)
    host.log("info", (concat(text_of(...)):gsub("\n$", "")))
    return base.io
  end,
  flush = function() return base.io end,
}
for _, name in ipairs { "open", "lines", "read", "popen", "input", "output", "tmpfile", "close" } do
  base.io[name] = forbidden("io." .. name)
end

base.debug = {
  traceback = traceback,
  getinfo = function(at, ...)
    if type(at) == "number" then at = at + 1 end
    local info = raw_getinfo(at, ...)
    if type(info) == "table" then info.func = nil end
    return info
  end,
  getmetatable = base.getmetatable,
  setmetatable = function(t, meta)
    if type(t) ~= "table" then error("debug.setmetatable takes a table", 2) end
    return guarded_setmetatable(t, meta)
  end,
  getuservalue = function() return nil end,
  setuservalue = function(value) return value end,
}

-- ---- coroutines: one that waits for the broker makes those around it wait, too

local function pass(co, ok, ...)
  if ok and (...) == WAIT then
    yield(WAIT)
    return pass(co, resume(co))
  end
  return ok, ...
end

local function raise(ok, ...)
  if ok then return ... end
  error((...), 0)
end

base.coroutine = copy_of(coroutine)
function base.coroutine.resume(co, ...) return pass(co, resume(co, ...)) end
function base.coroutine.wrap(f)
  local co = create(f)
  return function(...) return raise(pass(co, resume(co, ...))) end
end

-- ---- modules of the script's folder

local loaded, preload = {}, {}
base.package = {
  path = host.package_path(),
  cpath = "",
  config = "/\n;\n?\n!\n-\n",
  loaded = loaded,
  preload = preload,
  searchers = {},
  loadlib = forbidden("package.loadlib"),
}
function base.package.searchpath(name, path)
  local source, found = host.find_module(name, path)
  if source == nil then return nil, found end
  return found
end
function base.require(name)
  if type(name) ~= "string" then error("require takes the name of a module", 2) end
  local known = loaded[name]
  if known ~= nil then return known end
  local chunk, from = preload[name], ":preload:"
  if chunk == nil then
    local source, found = host.find_module(name, base.package.path)
    if source == nil then error(found, 2) end
    local fault
    chunk, fault = raw_load(source, "@" .. found, "t", globals)
    if chunk == nil then error("error loading module '" .. name .. "': " .. fault, 0) end
    from = found
  end
  local value = chunk(name, from)
  if value ~= nil then loaded[name] = value end
  if loaded[name] == nil then loaded[name] = true end
  return loaded[name]
end

-- ---- what a call leaves behind

local builtin = {}
local function mark(value)
  if (type(value) == "table" or type(value) == "function") and not builtin[value] then
    builtin[value] = true
    if type(value) == "table" then
      for key, item in next, value do mark(key) mark(item) end
    end
  end
end

local tables, copies, counts, metas = {}, {}, {}, {}
local closures, indices, values = {}, {}, {}
local function restore() end

local function restore_tables()
  for i = 1, #tables do
    local t, copy, same = tables[i], copies[i], 0
    for key, value in next, t do
      local old = copy[key]
      if old == value then same = same + 1 else t[key] = old end
    end
    if same ~= counts[i] then
      for key, old in next, copy do
        if rawget(t, key) ~= old then rawset(t, key, old) end
      end
    end
    if getmetatable(t) ~= metas[i] then setmetatable(t, metas[i]) end
  end
  for i = 1, #closures do
    local _, value = getupvalue(closures[i], indices[i])
    if value ~= values[i] then setupvalue(closures[i], indices[i], values[i]) end
  end
end

local function restore_all()
  if next(globals) ~= nil then
    for key in next, globals do globals[key] = nil end
  end
  if is_dirty then
    is_dirty = false
    for key, old in next, journal do
      journal[key] = nil
      if old == NONE then old = nil end
      rawset(base, key, old)
    end
  end
  restore_tables()
end

-- Tables and upvalues that the script made while it was loaded, up to a number of entries.
local function remember(limit)
  local seen, seen_upvalues, entries = {}, {}, 0
  local function visit(value)
    local kind = type(value)
    if (kind ~= "table" and kind ~= "function") or seen[value] or builtin[value] then return end
    if value == base or value == globals or entries > limit then return end
    seen[value] = true
    if kind == "table" then
      local copy, count = {}, 0
      for key, item in next, value do copy[key] = item count = count + 1 end
      entries = entries + count + 1
      if entries > limit then return end
      local at = #tables + 1
      tables[at], copies[at], counts[at], metas[at] = value, copy, count, getmetatable(value)
      for key, item in next, copy do visit(key) visit(item) end
      visit(getmetatable(value))
      return
    end
    for i = 1, 255 do
      local name, item = getupvalue(value, i)
      if name == nil then break end
      local id = upvalueid(value, i)
      if not seen_upvalues[id] and item ~= globals then
        seen_upvalues[id] = true
        entries = entries + 1
        local at = #closures + 1
        closures[at], indices[at], values[at] = value, i, item
        visit(item)
      end
    end
  end
  -- What stands in hooks was read once: only the functions in it matter.
  local hooks = rawget(base, "hooks")
  if type(hooks) == "table" then
    seen[hooks] = true
    for key, value in next, hooks do visit(value) end
  end
  for key, value in next, base do visit(value) end
  for key, value in next, loaded do visit(value) end
  return entries <= limit
end

local api = {}

-- The tables of the libraries are there: what is in base now belongs to the engine.
function api.seal()
  base.os.getenv, base.environment = base.environment.getenv, nil
  mark(base)
  mark(globals)
  loaded._G = globals
  for key, value in next, base do
    if type(value) == "table" and key ~= "_G" then loaded[key] = value end
  end
end

function api.compile(source, name) return raw_load(source, name, "t", globals) end

-- After the main chunk. With keep = false every call starts from what is there now.
function api.begin(keep, limit)
  if keep then return true end
  journal = {}
  restore = restore_all
  return remember(limit)
end

function api.invoke(hook, args)
  local answer = hook(args)
  restore()
  return answer
end

function api.invoke_whole(hook, args)
  complete(args)
  return api.invoke(hook, args)
end

function api.restore() restore() end
api.base = base
return api
`;
