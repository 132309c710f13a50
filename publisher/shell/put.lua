-- Puts one entry on a forming or corrections stream.
--
-- KEYS[1]  stream tv:forming:{SERIES} or tv:corrections:{SERIES}
-- KEYS[2]  hash   tv:series:{SERIES}; field token
-- ARGV     fencing token, entries to keep (about), entry ID, field name, payload
--
-- Returns {status}. A second attempt with the same ID finds its entry: `appended`.
-- One that comes after newer entries writes nothing: `diverged`.
if is_fenced(KEYS[2], ARGV[1]) then
  return {'fenced'}
end
local id = ARGV[3]
local there = redis.call('XRANGE', KEYS[1], id, id)[1]
if there then
  return {there[2][2] == ARGV[5] and 'appended' or 'diverged'}
end
local newer = redis.call('XREVRANGE', KEYS[1], '+', id, 'COUNT', 1)[1]
if newer then
  return {'diverged'}
end
redis.call('XADD', KEYS[1], 'MAXLEN', '~', ARGV[2], id, ARGV[4], ARGV[5])
return {'appended'}
