-- Stores a value unless a newer one is there.
-- KEYS: entry, lease
-- ARGV: owner, its fence or 0 for the next one, value, time to live in ms, channel, message
-- Returns: 1 and the value's fence, or 0 and the fence of the newer one
local known = tonumber(redis.call('HGET', KEYS[1], 'fence')) or 0
local last = math.max(tonumber(redis.call('HGET', KEYS[1], 'last')) or 0, known)
local fence = tonumber(ARGV[2])
if fence == 0 then
  fence = last + 1
elseif fence < known or (fence == known and redis.call('GET', KEYS[2]) ~= ARGV[1]) then
  return { 0, known }
end
redis.call('HSET', KEYS[1], 'fence', string.format('%d', fence), 'data', ARGV[3],
  'last', string.format('%d', math.max(last, fence)))
redis.call('HDEL', KEYS[1], 'spent')
redis.call('PEXPIRE', KEYS[1], ARGV[4])
redis.call('PUBLISH', ARGV[5], ARGV[6])
return { 1, fence }
