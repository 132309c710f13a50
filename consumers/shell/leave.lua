-- Ends a membership and gives all leases back.
--
-- KEYS[1]  hash tv:group:{G}:members; MEMBER → 'EXPIRES DUE LEASE INCARNATION …'
-- KEYS[2]  hash tv:group:{G}:leases; NAME → 'MEMBER TOKEN'
-- ARGV     member, incarnation
--
-- Does nothing where another process has come with the same name. Returns {'LEFT'}.
local record = redis.call('HGET', KEYS[1], ARGV[1])
if record and string.match(record, '^%d+ %d+ %d+ (%S+)') ~= ARGV[2] then
  return {'LEFT'}
end
redis.call('HDEL', KEYS[1], ARGV[1])
local leases = redis.call('HGETALL', KEYS[2])
for i = 1, #leases, 2 do
  if string.match(leases[i + 1], '^(%S+) %d+$') == ARGV[1] then
    redis.call('HDEL', KEYS[2], leases[i])
  end
end
return {'LEFT'}
