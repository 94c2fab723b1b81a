-- Reads the stored value, and takes the lease if it is wanted, free, and no newer value is there.
-- KEYS: entry, lease, probe
-- ARGV: owner ('' only looks), lease in ms, fence of the value that the caller has seen,
--       most bytes of a value, 'drop' if the value that was seen is of no use to anybody
-- Returns: time in ms, fence, value, 1 if its refresh token may be spent, own fence or 0, ms that
--          another owner has left
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local fence = redis.call('HGET', KEYS[1], 'fence') or '0'
if ARGV[5] == 'drop' and fence == ARGV[3] then
  redis.call('HDEL', KEYS[1], 'fence', 'data', 'spent')
  fence = '0'
end
local value = ''
if redis.call('HSTRLEN', KEYS[1], 'data') <= tonumber(ARGV[4]) then
  value = redis.call('HGET', KEYS[1], 'data') or ''
end
local spent = 0
if fence ~= '0' and redis.call('HGET', KEYS[1], 'spent') == fence then
  spent = 1
end
if ARGV[1] == '' then
  -- A store that takes no writes is of no use, and should be known for it.
  redis.call('SET', KEYS[3], '', 'PX', 60000)
  return { now, fence, value, spent, 0, 0 }
end
if fence ~= '0' and fence ~= ARGV[3] then
  return { now, fence, value, spent, 0, 0 }
end
if redis.call('GET', KEYS[2]) == ARGV[1] then
  redis.call('PEXPIRE', KEYS[2], ARGV[2])
elseif not redis.call('SET', KEYS[2], ARGV[1], 'NX', 'PX', ARGV[2]) then
  return { now, fence, value, spent, 0, redis.call('PTTL', KEYS[2]) }
end
local own = redis.call('HINCRBY', KEYS[1], 'last', 1)
if redis.call('PTTL', KEYS[1]) < 86400000 then
  redis.call('PEXPIRE', KEYS[1], 86400000)
end
return { now, fence, value, spent, own, 0 }
