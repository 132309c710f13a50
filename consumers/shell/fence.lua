-- The fence, in front of every script that reads or acknowledges for a group.
-- Consumers of the group in this stream are called MEMBER#TOKEN; the highest token
-- rules. One without a token is a competing reader's and rules nothing.

-- Returns names of the other consumers and whether the own one is there, or a reply:
-- {'FENCED', token}, {'LOST'} (no stream, no group), {'REFUSED', type} (not a stream).
local function ruled(key, group, own, token)
  local found = redis.pcall('XINFO', 'CONSUMERS', key, group)
  if found.err then
    local kind = redis.call('TYPE', key).ok
    if kind == 'none' then
      return nil, false, {'LOST'}
    elseif kind ~= 'stream' then
      return nil, false, {'REFUSED', kind}
    end
    for _, one in ipairs(redis.call('XINFO', 'GROUPS', key)) do
      if one[2] == group then
        return nil, false, found
      end
    end
    return nil, false, {'LOST'}
  end
  local others, is_there, highest = {}, false, 0
  for _, consumer in ipairs(found) do
    local name = consumer[2]
    if name == own then
      is_there = true
    else
      others[#others + 1] = name
      highest = math.max(highest, tonumber(string.match(name, '#(%d+)$') or '0'))
    end
  end
  if highest >= tonumber(token) then
    return nil, false, {'FENCED', string.format('%.0f', highest)}
  end
  return others, is_there, nil
end

-- The same for a stream that was taken over before: without the own consumer the
-- group is another one than it was.
local function refusal(key, group, own, token)
  local _, is_there, reply = ruled(key, group, own, token)
  return reply or (not is_there and {'LOST'}) or nil
end

local CHUNK = 1000

local function acknowledge(key, group, ids, first)
  for i = first, #ids, CHUNK do
    redis.call('XACK', key, group, unpack(ids, i, math.min(i + CHUNK - 1, #ids)))
  end
end

local function is_in_stream(key, id)
  return #redis.call('XRANGE', key, id, id) > 0
end
