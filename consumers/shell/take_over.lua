-- Lets the caller rule one stream of the group, and gives it what others have pending.
--
-- KEYS[1]  stream
-- ARGV     group, own consumer, token, most entries to move in this call
--
-- Returns {'TAKEN', 1 where nothing is left to move, entries moved, {trimmed ID, …},
-- last delivered ID, lowest pending ID ('' for none)}; else what the fence says. From
-- the first call on the others are fenced off, so the caller repeats it until done.
local key, group, own, token = KEYS[1], ARGV[1], ARGV[2], ARGV[3]
local others, is_there, refused = ruled(key, group, own, token)
if refused then
  return refused
end
if not is_there then
  redis.call('XGROUP', 'CREATECONSUMER', key, group, own)
end

local room, moved, trimmed, left = tonumber(ARGV[4]), 0, {}, #others
for _, other in ipairs(others) do
  if room == 0 then
    break
  end
  local lines = redis.call('XPENDING', key, group, '-', '+', room, other)
  local ids = {}
  for _, line in ipairs(lines) do
    if is_in_stream(key, line[1]) then
      ids[#ids + 1] = line[1]
    else
      redis.call('XACK', key, group, line[1])
      trimmed[#trimmed + 1] = line[1]
    end
  end
  for i = 1, #ids, CHUNK do
    local some = {unpack(ids, i, math.min(i + CHUNK - 1, #ids))}
    some[#some + 1] = 'JUSTID'
    redis.call('XCLAIM', key, group, own, 0, unpack(some))
  end
  moved = moved + #ids
  if #lines < room then
    redis.call('XGROUP', 'DELCONSUMER', key, group, other)
    left = left - 1
  end
  room = room - #lines
end

local function lowest_pending()
  return redis.call('XPENDING', key, group, '-', '+', 1)[1]
end

-- Only the lowest can have been at a handler, which it may have brought down. It
-- counts as tried once more; by the call that ends the take-over, so only once.
local lowest = lowest_pending()
if left == 0 and #others > 0 then
  while lowest and not is_in_stream(key, lowest[1]) do
    redis.call('XACK', key, group, lowest[1])
    trimmed[#trimmed + 1] = lowest[1]
    lowest = lowest_pending()
  end
  if lowest then
    redis.call('XCLAIM', key, group, own, 0, lowest[1], 'RETRYCOUNT', lowest[4] + 1, 'JUSTID')
  end
end
local delivered
for _, one in ipairs(redis.call('XINFO', 'GROUPS', key)) do
  if one[2] == group then
    for i = 1, #one, 2 do
      delivered = one[i] == 'last-delivered-id' and one[i + 1] or delivered
    end
  end
end
return {'TAKEN', left == 0 and 1 or 0, moved, trimmed, delivered, lowest and lowest[1] or ''}
