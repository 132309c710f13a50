-- One beat of a member: who is there, who holds what, and what goes where.
--
-- KEYS[1]  hash   tv:group:{G}:members; MEMBER → 'EXPIRES DUE LEASE INCARNATION NAME …'
-- KEYS[2]  hash   tv:group:{G}:leases; NAME → 'MEMBER TOKEN'
-- KEYS[3]  string tv:group:{G}:token; the highest token ever drawn
-- KEYS[4]  hash   tv:group:{G}:replays; ID of a dead letter → NAME
-- ARGV     member, incarnation, 1 where it comes for the first time, lease in ms,
--          ms to the next beat while something moves, floor of new tokens,
--          most replays to tell, names wanted (parted by blanks), then released: name, token, …
--
-- Times are ms by this server's clock. Returns {'BEAT', members, ms to the next beat,
-- {name, token, …}, {name to hand over, …}, {letter, name, …}}, or {'REPLACED'} where
-- another process came with the same name.
local member, incarnation, comes = ARGV[1], ARGV[2], ARGV[3] == '1'
local lease_ms, soon_ms, floor = tonumber(ARGV[4]), tonumber(ARGV[5]), tonumber(ARGV[6])
local beat_ms, late_ms = lease_ms / 5, lease_ms / 20

local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)

-- Most members of a group want the same, so each text is read once.
local known_wants = {}
local function wants_of(text)
  local wants = known_wants[text]
  if not wants then
    wants = {}
    for name in string.gmatch(text, '%S+') do
      wants[name] = true
    end
    known_wants[text] = wants
  end
  return wants
end

-- Who is there. One that did not beat when it promised to is late: it keeps what it
-- has until it expires, but is given nothing more.
local live, by_name = {}, {}
local earliest = math.huge
local records = redis.call('HGETALL', KEYS[1])
local last
for i = 1, #records, 2 do
  local expires, due, term, other, names =
    string.match(records[i + 1], '^(%d+) (%d+) (%d+) (%S+) ?(.*)$')
  expires, due, term = tonumber(expires), tonumber(due), tonumber(term)
  if records[i] == member then
    last = other
  elseif not expires or expires <= now then
    redis.call('HDEL', KEYS[1], records[i])
  else
    if expires - now > term then
      -- The clock was put back: no lease may last longer for that.
      expires, due = now + term, now
      redis.call('HSET', KEYS[1], records[i],
        string.format('%.0f %.0f %.0f %s %s', expires, due, term, other, names))
    end
    local one = {name = records[i], wants = wants_of(names), due = due + late_ms}
    one.late = one.due < now
    live[#live + 1] = one
    by_name[one.name] = one
    earliest = math.min(earliest, expires)
  end
end
if last and last ~= incarnation and not comes then
  return {'REPLACED'}
end
local is_new = comes and last ~= incarnation
local me = {name = member, wants = wants_of(ARGV[8]), due = math.huge, late = false}
live[#live + 1] = me
by_name[member] = me

-- Who holds what, without what is given back now. A process that is new under its name
-- begins with new tokens, so that the one before it, should it live, is fenced off.
local released = {}
for i = 9, #ARGV, 2 do
  released[ARGV[i]] = member .. ' ' .. ARGV[i + 1]
end
local holders, tokens = {}, {}
local leases = redis.call('HGETALL', KEYS[2])
for i = 1, #leases, 2 do
  local name, lease = leases[i], leases[i + 1]
  local holder, token = string.match(lease, '^(%S+) (%d+)$')
  if released[name] == lease or (is_new and holder == member) then
    redis.call('HDEL', KEYS[2], name)
  elseif holder then
    holders[name] = holder
    tokens[name] = token
  end
end

-- Who should hold what: everybody what it has and wants; the rest the least loaded.
local names, known = {}, {}
for _, wants in pairs(known_wants) do
  for name in pairs(wants) do
    if not known[name] then
      known[name] = true
      names[#names + 1] = name
    end
  end
end
table.sort(names)
for _, one in ipairs(live) do
  one.names = {}
end
table.sort(live, function(a, b) return a.name < b.name end)
local unplaced = {}
for _, name in ipairs(names) do
  local holder = by_name[holders[name]]
  if holder and holder.wants[name] then
    holder.names[#holder.names + 1] = name
  else
    unplaced[#unplaced + 1] = name
  end
end
for _, name in ipairs(unplaced) do
  local least
  for _, one in ipairs(live) do
    if one.wants[name] and not one.late and (not least or #one.names < #least.names) then
      least = one
    end
  end
  if least then
    least.names[#least.names + 1] = name
  end
end

-- One name goes from the most to the least loaded where that has two less or more. What
-- nobody holds yet stands last in the lists, so it goes first: that costs nothing.
local function move_one()
  table.sort(live, function(a, b)
    return #a.names > #b.names or (#a.names == #b.names and a.name < b.name)
  end)
  for first = 1, #live do
    local giver = live[first]
    for last = #live, first + 1, -1 do
      local taker = live[last]
      if #giver.names - #taker.names < 2 then
        break
      end
      for i = taker.late and 0 or #giver.names, 1, -1 do
        if taker.wants[giver.names[i]] then
          taker.names[#taker.names + 1] = table.remove(giver.names, i)
          return true
        end
      end
    end
  end
  return false
end
while move_one() do end

-- The caller takes the free ones that fall to it, and waits for what others still hold.
local again = math.min(beat_ms, earliest - now + 1)
local drawn
for _, one in ipairs(live) do
  for _, name in ipairs(one.names) do
    local holder = by_name[holders[name]]
    if one == me and not holder then
      drawn = drawn or math.max(tonumber(redis.call('GET', KEYS[3]) or '0'), floor)
      drawn = drawn + 1
      holders[name] = member
      tokens[name] = string.format('%.0f', drawn)
      redis.call('HSET', KEYS[2], name, member .. ' ' .. tokens[name])
    elseif one == me and holder ~= me and not holder.late then
      again = math.min(again, soon_ms)
    elseif one ~= me and not holder and me.wants[name] then
      -- Should that one not come for it, somebody else gets it.
      again = math.min(again, one.due - now + 1)
    end
  end
end
if drawn then
  redis.call('SET', KEYS[3], string.format('%.0f', drawn))
end

local kept = {}
for _, name in ipairs(me.names) do
  kept[name] = true
end
local held, leaving = {}, {}
for name, holder in pairs(holders) do
  if holder == member then
    held[#held + 1] = name
    held[#held + 1] = tokens[name]
    if not kept[name] then
      leaving[#leaving + 1] = name
      again = math.min(again, soon_ms)
    end
  end
end

local replays = {}
if redis.call('HLEN', KEYS[4]) > 0 then
  local asked = redis.call('HGETALL', KEYS[4])
  for i = 1, #asked, 2 do
    if holders[asked[i + 1]] == member and #replays < 2 * tonumber(ARGV[7]) then
      replays[#replays + 1] = asked[i]
      replays[#replays + 1] = asked[i + 1]
    end
  end
end

again = math.max(1, math.ceil(again))
redis.call('HSET', KEYS[1], member,
  string.format('%.0f %.0f %.0f %s %s', now + lease_ms, now + again, lease_ms, incarnation,
    ARGV[8]))
return {'BEAT', #live, again, held, leaving, replays}
