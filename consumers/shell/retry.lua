-- Counts one more attempt at an own pending entry.
--
-- KEYS[1]  stream
-- ARGV     group, own consumer, token, entry ID
--
-- Returns {'RAISED', attempts}, 0 where the entry is not pending; else what the fence says.
local key, group, own, id = KEYS[1], ARGV[1], ARGV[2], ARGV[4]
local refused = refusal(key, group, own, ARGV[3])
if refused then
  return refused
end
local line = redis.call('XPENDING', key, group, id, id, 1, own)[1]
if not line then
  return {'RAISED', 0}
end
redis.call('XCLAIM', key, group, own, 0, id, 'RETRYCOUNT', line[4] + 1, 'JUSTID')
return {'RAISED', line[4] + 1}
