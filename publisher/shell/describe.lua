-- Sets fields of a series' hash.
--
-- KEYS[1]  hash tv:series:{SERIES}; field token
-- ARGV     fencing token, then field, value, …
--
-- Returns {status}.
if is_fenced(KEYS[1], ARGV[1]) then
  return {'fenced'}
end
redis.call('HSET', KEYS[1], unpack(ARGV, 2))
return {'appended'}
