-- Ends claims: moves buckets by what was used more or less than reserved, gives slots back. In the order given,
-- because a refund stops at full and so does not commute with a charge. Arithmetic: `settle` of bucket.ts.
--
-- KEYS  one per step, repeats allowed.
-- ARGV  1 now in µs, or 0 for the clock of Redis (see bucket.lua), then per step
--       'b', units of r, interval of r, units of t, interval of t   (a bucket hash; 0 units: leave)
--       'c', member                                                 (a slot set)
local now = tonumber(ARGV[1])
if now == 0 then
  local time = redis.call('TIME')
  now = time[1] * 1000000 + time[2]
end
local fields = { 'r', 't' }

local function untilFull(state)
  if not state then return 0 end
  local us, part = string.match(state, '^(%d+) (%S+)$')
  return math.max(tonumber(us) - now + tonumber(part), 0)
end

local at = 2
for i = 1, #KEYS do
  if ARGV[at] == 'c' then
    redis.call('ZREM', KEYS[i], ARGV[at + 1])
    at = at + 2
  else
    local stored = redis.call('HMGET', KEYS[i], 'r', 't')
    local write, longest = {}, 0
    for f = 1, 2 do
      local units = tonumber(ARGV[at + f * 2 - 1])
      local level = untilFull(stored[f])
      if units ~= 0 then
        level = math.max(level + units * tonumber(ARGV[at + f * 2]), 0)
        -- A bucket that is not there is full: a refund must not bring it back.
        if stored[f] or level > 0 then
          local whole = math.floor(level)
          write[#write + 1] = fields[f]
          write[#write + 1] = string.format('%.0f %.17g', now + whole, level - whole)
        end
      end
      longest = math.max(longest, level)
    end
    if #write > 0 then
      redis.call('HSET', KEYS[i], unpack(write))
      redis.call('PEXPIRE', KEYS[i], string.format('%.0f', math.ceil(longest / 1000) + 1000))
    end
    at = at + 5
  end
end
return #KEYS
