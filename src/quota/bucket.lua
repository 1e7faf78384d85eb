-- Decides one claim over all its buckets and slots, all or nothing: reads everything, then writes.
-- The arithmetic is that of bucket.ts, operation by operation; change both or neither. A refusal writes nothing.
--
-- KEYS  the bucket hashes (fields r and t: "us part" of the theoretical arrival time), then the slot sets.
-- ARGV  1 now in µs, or 0 for the clock of Redis. Production always sends 0: the time is a parameter only so that
--         the model test can move it. Whoever may run scripts here may write the keys anyway.
--       2 slot member   3 life of the slot in ms   4 number of bucket hashes
--       then per hash: capacity, interval in µs, cost of r; the same of t ('' capacity: unlimited)
--       then per slot set: limit
-- Reply {1, now, levels...} or {0, now, index of the key (1-based), kind (1 r, 2 t, 3 slots), wait in µs, levels...};
--       levels: µs until full of r and t of each hash, '' where unlimited; after the taking, or as they are.
local now = tonumber(ARGV[1])
if now == 0 then
  local time = redis.call('TIME')
  now = time[1] * 1000000 + time[2]
end
local nowMs = math.floor(now / 1000)
local hashes = tonumber(ARGV[4])
local fields = { 'r', 't' }

local function untilFull(state)
  if not state then return 0 end
  local us, part = string.match(state, '^(%d+) (%S+)$')
  return math.max(tonumber(us) - now + tonumber(part), 0)
end

local levels = {}
local wait, worst, kind = 0, 0, 0

for i = 1, hashes do
  local stored = redis.call('HMGET', KEYS[i], 'r', 't')
  for f = 1, 2 do
    local at = 4 + (i - 1) * 6 + (f - 1) * 3
    local capacity = tonumber(ARGV[at + 1])
    local level = false
    if capacity then
      local interval, cost = tonumber(ARGV[at + 2]), tonumber(ARGV[at + 3])
      level = untilFull(stored[f])
      local excess = level + math.min(cost, capacity) * interval - capacity * interval
      if math.ceil(excess) > wait then wait, worst, kind = math.ceil(excess), i, f end
    end
    levels[(i - 1) * 2 + f] = level
  end
end

for i = hashes + 1, #KEYS do
  local limit = tonumber(ARGV[4 + hashes * 6 + i - hashes])
  local live = redis.call('ZCOUNT', KEYS[i], string.format('(%.0f', nowMs), '+inf')
  -- 1 s: nobody knows when a slot comes back (CONCURRENCY_WAIT_US in store.ts).
  if live >= limit and 1000000 > wait then wait, worst, kind = 1000000, i, 3 end
end

local reply = wait > 0 and { 0, now, worst, kind, wait } or { 1, now }

if wait == 0 then
  for i = 1, hashes do
    local write, longest = {}, 0
    for f = 1, 2 do
      local n = (i - 1) * 2 + f
      if levels[n] then
        local at = 4 + (i - 1) * 6 + (f - 1) * 3
        local level = levels[n] + tonumber(ARGV[at + 3]) * tonumber(ARGV[at + 2])
        local whole = math.floor(level)
        levels[n] = level
        longest = math.max(longest, level)
        write[#write + 1] = fields[f]
        write[#write + 1] = string.format('%.0f %.17g', now + whole, level - whole)
      end
    end
    redis.call('HSET', KEYS[i], unpack(write))
    -- Full again, and a second more: then the key says nothing that its absence does not.
    redis.call('PEXPIRE', KEYS[i], string.format('%.0f', math.ceil(longest / 1000) + 1000))
  end
  for i = hashes + 1, #KEYS do
    redis.call('ZREMRANGEBYSCORE', KEYS[i], '-inf', string.format('%.0f', nowMs))
    redis.call('ZADD', KEYS[i], string.format('%.0f', nowMs + tonumber(ARGV[3])), ARGV[2])
    local last = redis.call('ZRANGE', KEYS[i], -1, -1, 'WITHSCORES')
    redis.call('PEXPIRE', KEYS[i], string.format('%.0f', tonumber(last[2]) - nowMs))
  end
end

for n = 1, hashes * 2 do
  reply[#reply + 1] = levels[n] and string.format('%.17g', levels[n]) or ''
end
return reply
