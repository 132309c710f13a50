-- Keeps positions beside the streams.
--
-- KEYS[1]  hash tv:group:{G}:leases; NAME → 'MEMBER TOKEN'
-- KEYS[2]  hash tv:group:{G}:checkpoints; NAME → entry ID up to which all is acknowledged
-- ARGV     member, then name, token ('' for none), entry ID, …
--
-- A name with a token counts only while that is its lease; one without only rises.
-- Returns {'KEPT'}.
local function parts(id)
  local ms, sequence = string.match(id, '^(%d+)-(%d+)$')
  return tonumber(ms), tonumber(sequence)
end

local function rises(name, id)
  local before = redis.call('HGET', KEYS[2], name)
  if not before then
    return true
  end
  local ms, sequence = parts(id)
  local before_ms, before_sequence = parts(before)
  return ms > before_ms or (ms == before_ms and sequence > before_sequence)
end

for i = 2, #ARGV, 3 do
  local name, token, id = ARGV[i], ARGV[i + 1], ARGV[i + 2]
  local lease = token ~= '' and ARGV[1] .. ' ' .. token
  if (lease and redis.call('HGET', KEYS[1], name) == lease) or (not lease and rises(name, id)) then
    redis.call('HSET', KEYS[2], name, id)
  end
end
return {'KEPT'}
