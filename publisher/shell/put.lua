-- Puts one entry on a forming or corrections stream.
--
-- KEYS[1]  stream tv:forming:{SERIES} or tv:corrections:{SERIES}
-- KEYS[2]  stream tv:bars:{SERIES}
-- KEYS[3]  hash   tv:series:{SERIES}; field token
-- ARGV     fencing token, entries to keep (about), entry ID, field name, payload,
--          open time in ms of the bar that must stand already, 0: none
--
-- Returns {status}. A second attempt with the same ID finds its entry: `appended`.
-- One that comes after newer entries, or before its bar, writes nothing: `diverged`.
if is_fenced(KEYS[3], ARGV[1]) then
  return {'fenced'}
end
local id = ARGV[3]
local there = redis.call('XRANGE', KEYS[1], id, id)[1]
if there then
  return {there[2][2] == ARGV[5] and 'appended' or 'diverged'}
end
local newer = redis.call('XREVRANGE', KEYS[1], '+', id, 'COUNT', 1)[1]
if newer or tonumber(ARGV[6]) > last_open_time(KEYS[2]) then
  return {'diverged'}
end
redis.call('XADD', KEYS[1], 'MAXLEN', '~', ARGV[2], id, ARGV[4], ARGV[5])
return {'appended'}
