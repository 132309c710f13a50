-- Replaces the record of sign-ins, unless somebody else changed it meanwhile.
--
-- KEYS[1]  string tv:signin
-- ARGV     the record as it was read ('' for none), the record to put
--
-- Returns 1 where it was replaced, 0 where it has to be read again.
local there = redis.call('GET', KEYS[1]) or ''
if there ~= ARGV[1] then
  return 0
end
redis.call('SET', KEYS[1], ARGV[2])
return 1
