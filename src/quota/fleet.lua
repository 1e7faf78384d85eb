-- Says that a replica lives, and tells how many do. One that was silent for five seconds does not count.
--
-- KEYS  the fleet: a sorted set, replica by the time of its last word in ms
-- ARGV  1 replica   2 "leave" when it goes
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
if ARGV[2] == 'leave' then
  redis.call('ZREM', KEYS[1], ARGV[1])
else
  redis.call('ZADD', KEYS[1], string.format('%.0f', now), ARGV[1])
  redis.call('PEXPIRE', KEYS[1], 10000)
end
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', string.format('(%.0f', now - 5000))
return redis.call('ZCARD', KEYS[1])
