-- The open time of a stream's end in ms, 0 where it has none.
-- The last generated ID counts: somebody may have deleted the entry itself.
local function last_open_time(key)
  if redis.call('EXISTS', key) == 0 then
    return 0
  end
  local info = redis.call('XINFO', 'STREAM', key)
  for i = 1, #info, 2 do
    if info[i] == 'last-generated-id' then
      return tonumber(string.match(info[i + 1], '^%d+'))
    end
  end
end
