-- Appends closed bars of one series, in order, each exactly once.
--
-- KEYS[1]  stream tv:bars:{SERIES}; entry ID = <open time in ms>-0
-- KEYS[2]  hash   tv:series:{SERIES}; fields token, watermark (newest open time, ms)
-- ARGV[1]  fencing token
-- ARGV[2]  entries to keep, about; 0: all
-- ARGV[3]  ms before the newest bar to keep, about; 0: all
-- ARGV[4]  field name
-- ARGV[5…] for each bar: open time in ms, open time of the entry before it ('' for none), payload
--
-- Returns {status, new, present}. Status `diverged`: the stream's end is not the
-- one that the publisher left, so what it sent would leave a hole or a lie.
if is_fenced(KEYS[2], ARGV[1]) then
  return {'fenced', 0, 0}
end

local last = last_open_time(KEYS[1])
local status, new, present = 'appended', 0, 0
for i = 5, #ARGV, 3 do
  local open_time, before, payload = ARGV[i], ARGV[i + 1], ARGV[i + 2]
  local id = open_time .. '-0'
  if tonumber(open_time) <= last then
    -- Already there, or older than the end? Only the very same entry counts as ours.
    local there = redis.call('XRANGE', KEYS[1], id, id)[1]
    if not there or there[2][1] ~= ARGV[4] or there[2][2] ~= payload then
      status = 'diverged'
      break
    end
    present = present + 1
  elseif (tonumber(before) or 0) ~= last then
    status = 'diverged'
    break
  else
    redis.call('XADD', KEYS[1], id, ARGV[4], payload)
    last = tonumber(open_time)
    new = new + 1
  end
end

if new > 0 then
  redis.call('HSET', KEYS[2], 'watermark', string.format('%.0f', last))
  if ARGV[2] ~= '0' then
    redis.call('XTRIM', KEYS[1], 'MAXLEN', '~', ARGV[2])
  end
  if ARGV[3] ~= '0' then
    local oldest = last - tonumber(ARGV[3])
    if oldest > 0 then
      redis.call('XTRIM', KEYS[1], 'MINID', '~', string.format('%.0f', oldest))
    end
  end
end
return {status, new, present}
