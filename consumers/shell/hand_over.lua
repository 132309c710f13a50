-- Leaves one stream to the next holder: what is not acknowledged stays pending.
--
-- KEYS[1]  stream
-- ARGV     group, own consumer, token, 1 where no handler has had the lowest entry left,
--          IDs to acknowledge, …
--
-- Returns {'LEFT'}; else what the fence says. The consumer stays: its token is the fence.
local key, group, own = KEYS[1], ARGV[1], ARGV[2]
local refused = refusal(key, group, own, ARGV[3])
if refused then
  return refused
end
acknowledge(key, group, ARGV, 5)
local lowest = redis.call('XPENDING', key, group, '-', '+', 1, own)[1]
if lowest and ARGV[4] == '1' and lowest[4] > 0 and is_in_stream(key, lowest[1]) then
  -- The take-over will count one more.
  redis.call('XCLAIM', key, group, own, 0, lowest[1], 'RETRYCOUNT', lowest[4] - 1, 'JUSTID')
end
return {'LEFT'}
