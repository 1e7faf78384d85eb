-- Writes down revocations, in order, and wakes the other replicas.
-- KEYS[1]: the sorted set. A member is the digest of a bearer that is revoked, or `-digest` of one that was given back;
-- of one digest only the latest stands. The score is the time of Redis in ms, made larger than every score before it,
-- so that a reader who knows the newest score it has seen misses nothing, also when the clock goes back.
-- ARGV[1]: ms an entry is kept. ARGV[2]: most entries. ARGV[3]: channel. ARGV[4..]: members.
local key = KEYS[1]
local time = redis.call('TIME')
local nowMs = time[1] * 1000 + math.floor(time[2] / 1000)
local newest = redis.call('ZRANGE', key, -1, -1, 'WITHSCORES')
local score = math.max(nowMs, (tonumber(newest[2]) or 0) + 1)
local changed = false
for i = 4, #ARGV do
  local member = ARGV[i]
  -- What stands already keeps its place: every replica whose file follows says the same again.
  if not redis.call('ZSCORE', key, member) then
    local other = '-' .. member
    if string.sub(member, 1, 1) == '-' then other = string.sub(member, 2) end
    redis.call('ZREM', key, other)
    redis.call('ZADD', key, string.format('%.0f', score), member)
    score = score + 1
    changed = true
  end
end
if changed then
  redis.call('ZREMRANGEBYSCORE', key, '-inf', string.format('%.0f', nowMs - ARGV[1]))
  redis.call('ZREMRANGEBYRANK', key, 0, -1 - ARGV[2])
  redis.call('PEXPIRE', key, ARGV[1])
  -- Not `call`: a user who may not publish still writes down; the others poll.
  redis.pcall('PUBLISH', ARGV[3], '')
end
return 1
