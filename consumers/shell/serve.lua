-- Acknowledges and reads one stream for the group, where the caller rules it.
--
-- KEYS[1]  stream
-- ARGV     group, own consumer, token, '>' for new entries or the ID after which own
--          pending ones are wanted, most entries (0: none), IDs to acknowledge, …
--
-- Returns {'SERVED', {{id, {field, value, …}, deliveries}, …}}; deliveries stand with
-- pending entries only, whose fields are empty where the stream no longer has them.
-- Else what the fence says.
local key, group, own, cursor, count = KEYS[1], ARGV[1], ARGV[2], ARGV[4], ARGV[5]
local refused = refusal(key, group, own, ARGV[3])
if refused then
  return refused
end
acknowledge(key, group, ARGV, 6)
if count == '0' then
  return {'SERVED', {}}
end
if cursor == '>' then
  local read = redis.call('XREADGROUP', 'GROUP', group, own, 'COUNT', count, 'STREAMS', key, '>')
  return {'SERVED', read and read[1] and read[1][2] or {}}
end
local entries = {}
for _, line in ipairs(redis.call('XPENDING', key, group, '(' .. cursor, '+', count, own)) do
  local there = redis.call('XRANGE', key, line[1], line[1])[1]
  entries[#entries + 1] = {line[1], there and there[2] or {}, line[4]}
end
return {'SERVED', entries}
