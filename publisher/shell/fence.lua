-- The fence, in front of every script that writes to a series.
-- Hash tv:series:{SERIES}, field `token`: the highest fencing token seen.
-- A publisher with a lower one was replaced and must not write any more.
local function is_fenced(hash, token)
  local seen = tonumber(redis.call('HGET', hash, 'token') or '0')
  if seen > tonumber(token) then
    return true
  end
  if seen < tonumber(token) then
    redis.call('HSET', hash, 'token', token)
  end
  return false
end
