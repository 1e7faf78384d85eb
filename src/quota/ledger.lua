-- Does the visits of one replica: ledger.ts, operation by operation; change both or neither.
--
-- KEYS  the ledgers, in the order of the reports of all visits. A hash each:
--         r, t      "us part interval": when the bucket is full (bucket.ts), by which interval
--         d, m      "start end spent": money of the present day, month
--         l:<id>    "generation until r t m slots slotsUntil wantsUntil wantsMuch booked heardUntil": what a replica has
-- ARGV  1 now in µs, or 0 for the clock of Redis. Production always sends 0: the time is a parameter only so that
--         the model test can move it. Whoever may run scripts here may write the keys anyway.
--       2 replica   3 size of the fleet   4 number of visits, then per visit:
--       generation, number of reports, number of claims
--       per report (19): capacity and interval of r, of t ('' capacity: unlimited), slots ('': unlimited),
--         budget ('': none), period (d or m), moved r, t, m, start of the period of moved m,
--         returned r, t, m, slots held, ahead r, t, m,
--         first visit in doubt
--       per claim: number of parts, then per part: place of the report (1-based), r, t, m
-- Reply {now, visits...}: {} for a stale one, {'ERR', written, reason} for one that failed, alone (written: 1 when it
--       may have been done in part), else {standings, refusals}; a standing is 9 values (levels of r and t,
--       '' where unlimited; spent; lease of r, t, m; slots of all; visit before, and what it booked), a refusal is 0 or {place, kind, wait};
--       kinds: 1 requests, 2 tokens, 3 concurrency, 4 budget
local LEASE, SLOTS, WANTS, SLOT_WAIT, HEARD = 1000000, 6000000, 1000000, 1000000, 60000000

local now = tonumber(ARGV[1])
if now == 0 then
  local time = redis.call('TIME')
  now = time[1] * 1000000 + time[2]
end
local replica, fleet = ARGV[2], tonumber(ARGV[3])
local mineField = 'l:' .. replica
local floor, ceil, max, min = math.floor, math.ceil, math.max, math.min

-- Whether the present visit has written anything.
local written = 0

local function whole(n) return string.format('%.0f', n) end

-- Levels and times: a bucket is nil when full, else { us, part }.
local function untilFull(tat, at)
  if not tat then return 0 end
  return max(tat[1] - at + tat[2], 0)
end
local function toTat(level, at, interval)
  local us = floor(level)
  return { at + us, level - us, interval }
end

-- The calendar of period.ts.
local DAY = 86400000000
local function civil(day)
  local shifted = day + 719468
  local era = floor(shifted / 146097)
  local ofEra = shifted - era * 146097
  local yearOfEra = floor((ofEra - floor(ofEra / 1460) + floor(ofEra / 36524) - floor(ofEra / 146096)) / 365)
  local ofYear = ofEra - (365 * yearOfEra + floor(yearOfEra / 4) - floor(yearOfEra / 100))
  local fromMarch = floor((5 * ofYear + 2) / 153)
  local month = fromMarch < 10 and fromMarch + 3 or fromMarch - 9
  return yearOfEra + era * 400 + (month <= 2 and 1 or 0), month
end
local function daysFrom(year, month)
  local marchYear = month <= 2 and year - 1 or year
  local era = floor(marchYear / 400)
  local yearOfEra = marchYear - era * 400
  local ofYear = floor((153 * (month > 2 and month - 3 or month + 9) + 2) / 5)
  return era * 146097 + yearOfEra * 365 + floor(yearOfEra / 4) - floor(yearOfEra / 100) + ofYear - 719468
end
local function periodOf(period)
  local day = floor(now / DAY)
  if period == 'd' then return day * DAY, (day + 1) * DAY end
  local year, month = civil(day)
  local last = month == 12
  return daysFrom(year, month) * DAY, daysFrom(last and year + 1 or year, last and 1 or month + 1) * DAY
end

-- Fields of another version or hand are left alone.
local function load(key)
  local ledger = { leases = {}, stored = {} }
  local flat = redis.call('HGETALL', key)
  for i = 1, #flat, 2 do
    local field, value = flat[i], flat[i + 1]
    if field == 'r' or field == 't' then
      local us, part, interval = string.match(value, '^(%d+) (%S+) (%S+)$')
      if us and tonumber(part) and tonumber(interval) then
        ledger.stored[field] = value
        ledger[field] = { tonumber(us), tonumber(part), tonumber(interval) }
      end
    elseif field == 'd' or field == 'm' then
      local start, ending, spent = string.match(value, '^(%d+) (%d+) (%d+)$')
      if start then
        ledger.stored[field] = value
        ledger[field] = { tonumber(start), tonumber(ending), tonumber(spent) }
      end
    elseif string.sub(field, 1, 2) == 'l:' then
      local lease = {}
      for number in string.gmatch(value, '%S+') do lease[#lease + 1] = tonumber(number) end
      if #lease == 11 then
        ledger.stored[field] = value
        ledger.leases[field] = {
          gen = lease[1], ending = lease[2], r = lease[3], t = lease[4], m = lease[5],
          slots = lease[6], slotsEnd = lease[7], wants = lease[8], much = lease[9],
          booked = lease[10], heard = lease[11],
        }
      end
    end
  end
  return ledger
end

local function live(ledger, kind)
  local units = 0
  for _, lease in pairs(ledger.leases) do units = units + lease[kind] end
  return units
end

local function hold(ledger, rates, at)
  for kind, rate in pairs(rates) do
    local least = live(ledger, kind) * rate.interval
    if least > untilFull(ledger[kind], at) then ledger[kind] = toTat(least, at, rate.interval) end
  end
end

local function rescale(ledger, rates)
  for kind, rate in pairs(rates) do
    local level = ledger[kind]
    if level and level[3] ~= rate.interval then
      ledger[kind] = toTat((untilFull(level, now) / level[3]) * rate.interval, now, rate.interval)
    end
  end
end

local function isOver(lease)
  if lease.r > 0 or lease.t > 0 or lease.m > 0 or lease.slots > 0 then return false end
  return lease.wants <= now and lease.heard <= now
end

local function expire(ledger, rates)
  local ended = {}
  for _, lease in pairs(ledger.leases) do
    if lease.ending <= now then ended[#ended + 1] = lease end
  end
  table.sort(ended, function(a, b) return a.ending < b.ending end)
  for _, lease in ipairs(ended) do
    hold(ledger, rates, lease.ending)
    for kind in pairs(rates) do lease[kind] = 0 end
    lease.m = 0
  end
  hold(ledger, rates, now)
  for field, lease in pairs(ledger.leases) do
    if lease.slotsEnd <= now then lease.slots = 0 end
    if isOver(lease) then ledger.leases[field] = nil end
  end
end

local function remaining(level, rate)
  return max(floor((rate.capacity * rate.interval - level) / rate.interval), 0)
end

local function settled(ledger, rate, kind, moved)
  if not rate then return 0 end
  return max(untilFull(ledger[kind], now) + moved * rate.interval, live(ledger, kind) * rate.interval)
end

-- Brings a ledger to now and takes in the report that begins at ARGV[at].
local function open(key, ledger, at, generation)
  local page = { key = key, ledger = ledger, rates = {} }
  local rates = page.rates
  if ARGV[at] ~= '' then rates.r = { capacity = tonumber(ARGV[at]), interval = tonumber(ARGV[at + 1]) } end
  if ARGV[at + 2] ~= '' then rates.t = { capacity = tonumber(ARGV[at + 2]), interval = tonumber(ARGV[at + 3]) } end
  page.concurrency = tonumber(ARGV[at + 4])
  page.budget = tonumber(ARGV[at + 5])
  page.start, page.ending, page.period = 0, 0, ARGV[at + 6]
  if page.budget then page.start, page.ending = periodOf(page.period) end
  local moved = { r = tonumber(ARGV[at + 7]), t = tonumber(ARGV[at + 8]), m = tonumber(ARGV[at + 9]) }
  local returned = { r = tonumber(ARGV[at + 11]), t = tonumber(ARGV[at + 12]), m = tonumber(ARGV[at + 13]) }
  local held = tonumber(ARGV[at + 14])
  page.ahead = { r = tonumber(ARGV[at + 15]), t = tonumber(ARGV[at + 16]), m = tonumber(ARGV[at + 17]) }
  page.doubt = tonumber(ARGV[at + 18])

  if page.budget and ledger[page.period] and ledger[page.period][1] ~= page.start then
    ledger[page.period] = nil
    for _, lease in pairs(ledger.leases) do lease.m, lease.booked = 0, 0 end
  end
  local before = ledger.leases[mineField]
  rescale(ledger, rates)
  expire(ledger, rates)

  page.others, page.mustWait, page.slots = 0, false, held
  for field, lease in pairs(ledger.leases) do
    if field ~= mineField then
      page.slots = page.slots + lease.slots
      if lease.wants > now then
        page.others = page.others + 1
        if lease.much == 1 then page.mustWait = true end
      end
    end
  end
  local lives = before and before.ending > now
  local function back(kind) return lives and min(returned[kind], before[kind]) or 0 end
  page.mine = {
    gen = generation, ending = now + LEASE, r = 0, t = 0, m = 0, slots = held, slotsEnd = now + SLOTS,
    wants = before and before.wants or 0, much = before and before.much or 0, booked = 0, heard = 0,
  }
  ledger.leases[mineField] = page.mine

  page.r = settled(ledger, rates.r, 'r', moved.r - back('r'))
  page.t = settled(ledger, rates.t, 't', moved.t - back('t'))
  local micros = moved.m
  if tonumber(ARGV[at + 10]) ~= page.start then micros = max(moved.m, 0) end
  local spent = page.budget and ledger[page.period] and ledger[page.period][3] or 0
  page.spent = page.budget and max(spent + micros - back('m'), 0) or 0
  page.heardGen, page.heardBooked = before and before.gen or 0, before and before.booked or 0
  local inDoubt = page.doubt > 0 and page.heardGen >= page.doubt
  page.bookedBefore = (inDoubt and page.heardBooked or 0) - spent
  page.share = {
    r = rates.r and floor(remaining(page.r, rates.r) / (1 + page.others)) or 0,
    t = rates.t and floor(remaining(page.t, rates.t) / (1 + page.others)) or 0,
  }
  page.took = { r = 0, t = 0 }
  return page
end

local function waitOf(rate, level, cost)
  local excess = level + min(cost, rate.capacity) * rate.interval - rate.capacity * rate.interval
  return max(ceil(excess), 0)
end

-- A claim is a list of { place, r, t, m }. Gives nil, or place, kind, wait.
local function judge(pages, claim, isLater)
  local place, kind, wait = 0, 0, 0
  local function refuse(at, why, us)
    if us > wait then place, kind, wait = at, why, us end
  end
  for _, part in ipairs(claim) do
    local page = pages[part[1]]
    if page.budget and page.spent + min(part[4], page.budget) > page.budget then
      refuse(part[1], 4, page.ending - now)
    end
  end
  if wait > 0 then return place, kind, wait end
  for _, part in ipairs(claim) do
    local page = pages[part[1]]
    local shared = isLater and page.others > 0
    for why, field in ipairs({ 'r', 't' }) do
      local rate, cost = page.rates[field], part[why + 1]
      if rate then
        refuse(part[1], why, waitOf(rate, page[field], cost))
        if shared and page.took[field] + cost > page.share[field] then refuse(part[1], why, ceil(rate.interval)) end
      end
    end
  end
  for _, part in ipairs(claim) do
    local page = pages[part[1]]
    if page.concurrency and page.slots >= page.concurrency then refuse(part[1], 3, SLOT_WAIT) end
  end
  if wait > 0 then return place, kind, wait end
end

local function charge(page, part)
  if page.rates.r then page.r = page.r + part[2] * page.rates.r.interval end
  if page.rates.t then page.t = page.t + part[3] * page.rates.t.interval end
  if page.budget then page.spent = page.spent + part[4] end
  page.took.r, page.took.t = page.took.r + part[2], page.took.t + part[3]
  if page.concurrency then
    page.slots = page.slots + 1
    page.mine.slots = page.mine.slots + 1
  end
end

local function noteWish(page, claim, place, kind)
  local rate = page.rates[kind == 1 and 'r' or 't']
  local cost = 0
  for _, part in ipairs(claim) do
    if part[1] == place then cost = part[kind + 1] break end
  end
  local much = min(cost, rate.capacity) * 2 > rate.capacity
  local mine = page.mine
  if mine.wants <= now or (much and mine.much == 0) then
    mine.wants, mine.much = now + WANTS, much and 1 or 0
  end
end

local function lend(page, kind)
  local rate, wanted = page.rates[kind], page.ahead[kind]
  if not rate or wanted <= 0 or page.mustWait then return 0 end
  local free = floor(remaining(page[kind], rate) / (2 + page.others))
  local room = floor(rate.capacity / 2) - live(page.ledger, kind)
  return max(min(wanted, free, room), 0)
end

-- Gives the lease, writes what changed, and says how the account stands.
local function close(page)
  local ledger, mine, rates = page.ledger, page.mine, page.rates
  mine.r = lend(page, 'r')
  mine.t = lend(page, 't')
  if rates.r then page.r = page.r + mine.r * rates.r.interval end
  if rates.t then page.t = page.t + mine.t * rates.t.interval end
  if page.budget and not page.mustWait then
    mine.m = min(page.ahead.m, floor(max(page.budget - page.spent, 0) / (2 + page.others)))
    page.spent = page.spent + mine.m
  end
  if page.budget then
    mine.booked = page.spent + page.bookedBefore
    if mine.booked ~= 0 or page.doubt > 0 then mine.heard = now + HEARD end
  end
  if isOver(mine) then ledger.leases[mineField] = nil end

  if rates.r then ledger.r = page.r > 0 and toTat(page.r, now, rates.r.interval) or nil end
  if rates.t then ledger.t = page.t > 0 and toTat(page.t, now, rates.t.interval) or nil end
  if page.budget then
    ledger[page.period] = page.spent > 0 and { page.start, page.ending, page.spent } or nil
  end

  -- What is not limited here stays as it is. Full again and a second more: then the key says nothing that its absence
  -- does not.
  local lives, fields = 0, {}
  for _, kind in ipairs({ 'r', 't' }) do
    local tat = ledger[kind]
    if tat and untilFull(tat, now) > 0 then
      fields[kind] = string.format('%.0f %.17g %.17g', tat[1], tat[2], tat[3])
      lives = max(lives, untilFull(tat, now) + 1000000)
    end
  end
  for _, kind in ipairs({ 'd', 'm' }) do
    local money = ledger[kind]
    if money and money[2] > now then
      fields[kind] = string.format('%.0f %.0f %.0f', money[1], money[2], money[3])
      lives = max(lives, money[2] - now + 1000000)
    end
  end
  for field, lease in pairs(ledger.leases) do
    fields[field] = string.format('%.0f %.0f %.0f %.0f %.0f %.0f %.0f %.0f %.0f %.0f %.0f', lease.gen,
      lease.ending, lease.r, lease.t, lease.m, lease.slots, lease.slotsEnd, lease.wants, lease.much, lease.booked,
      lease.heard)
    if lease.r > 0 or lease.t > 0 or lease.m > 0 then lives = max(lives, lease.ending - now, 1000) end
    if lease.slots > 0 then lives = max(lives, lease.slotsEnd - now) end
    lives = max(lives, lease.wants - now, lease.heard - now)
  end
  local write, drop = {}, {}
  for field, value in pairs(fields) do
    if ledger.stored[field] ~= value then
      write[#write + 1] = field
      write[#write + 1] = value
    end
  end
  for field in pairs(ledger.stored) do
    if not fields[field] then drop[#drop + 1] = field end
  end
  if #write > 0 then
    redis.call('HSET', page.key, unpack(write))
    written = 1
  end
  if #drop > 0 then
    redis.call('HDEL', page.key, unpack(drop))
    written = 1
  end
  -- (A hash without fields is gone.)
  if written == 1 and lives > 0 then redis.call('PEXPIRE', page.key, whole(ceil(lives / 1000))) end
  return {
    rates.r and string.format('%.17g', page.r) or '', rates.t and string.format('%.17g', page.t) or '',
    page.spent, mine.r, mine.t, mine.m, page.slots, page.heardGen, page.heardBooked,
  }
end

-- One visit; KEYS from `key`, ARGV from `at`. Gives its answer and where the next one begins.
local answer = { now }
local at, key = 5, 0
local anyWritten = false

local function visit()
  local generation, reports, claims = tonumber(ARGV[at]), tonumber(ARGV[at + 1]), tonumber(ARGV[at + 2])
  local first = at + 3
  local ledgers, stale = {}, false
  for i = 1, reports do
    ledgers[i] = load(KEYS[key + i])
    local mine = ledgers[i].leases[mineField]
    if mine and mine.gen >= generation then stale = true end
  end
  if stale then return {} end
  local pages = {}
  for i = 1, reports do pages[i] = open(KEYS[key + i], ledgers[i], first + (i - 1) * 19, generation) end
  local refusals, granted = {}, false
  local word = first + reports * 19
  for i = 1, claims do
    local claim = {}
    local parts = tonumber(ARGV[word])
    word = word + 1
    for p = 1, parts do
      claim[p] = {
        tonumber(ARGV[word]), tonumber(ARGV[word + 1]), tonumber(ARGV[word + 2]), tonumber(ARGV[word + 3]),
      }
      word = word + 4
    end
    local place, kind, wait = judge(pages, claim, granted)
    if place then
      refusals[i] = { place, kind, wait }
      if fleet > 1 and kind <= 2 then noteWish(pages[place], claim, place, kind) end
    else
      refusals[i] = 0
      granted = true
      for _, part in ipairs(claim) do charge(pages[part[1]], part) end
    end
  end
  local standings = {}
  for i = 1, #pages do
    for _, value in ipairs(close(pages[i])) do standings[#standings + 1] = value end
  end
  return { standings, refusals }
end

for _ = 1, tonumber(ARGV[4]) do
  written = 0
  -- One ledger that cannot be read must not undo, or do twice, what was decided of the others.
  local ok, told = pcall(visit)
  anyWritten = anyWritten or written == 1
  if ok then
    answer[#answer + 1] = told
  else
    local reason = tostring(type(told) == 'table' and told.err or told)
    -- Not the master any more: the client goes and looks for it when it is told so.
    if not anyWritten and string.find(reason, 'READONLY', 1, true) then
      return redis.error_reply((string.gsub(reason, '^%-', '')))
    end
    answer[#answer + 1] = { 'ERR', written, reason }
  end
  local reports, claims = tonumber(ARGV[at + 1]), tonumber(ARGV[at + 2])
  at = at + 3 + reports * 19
  for _ = 1, claims do at = at + 1 + tonumber(ARGV[at]) * 4 end
  key = key + reports
end
return answer
