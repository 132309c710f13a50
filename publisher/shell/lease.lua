-- The publisher's lease: who may hold the TradingView session and write.
--
-- KEYS[1]  hash tv:publisher; fields holder, token, expires_ms (server's clock)
-- ARGV     action (acquire, renew, release), holder, token, time to live in ms
--
-- Returns the token held now, 0 where the lease is another's. Tokens never
-- fall, not even after a flush: a new one is at least the server's time in ms.
local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
local held = redis.call('HMGET', KEYS[1], 'token', 'expires_ms', 'holder')
local token, expires = tonumber(held[1] or '0'), tonumber(held[2] or '0')

if ARGV[1] == 'acquire' then
  if expires > now then
    return 0
  end
  token = math.max(token + 1, now)
  redis.call('HSET', KEYS[1], 'holder', ARGV[2], 'token', string.format('%.0f', token),
    'expires_ms', string.format('%.0f', now + tonumber(ARGV[4])))
  return token
end

-- The holder too: a flush within one millisecond could hand out a token twice.
if token ~= tonumber(ARGV[3]) or held[3] ~= ARGV[2] then
  return 0
end
local until_ms = ARGV[1] == 'renew' and now + tonumber(ARGV[4]) or 0
redis.call('HSET', KEYS[1], 'expires_ms', string.format('%.0f', until_ms))
return token
