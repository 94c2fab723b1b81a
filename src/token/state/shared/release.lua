-- Gives the lease back, or keeps everybody from asking for a while.
-- KEYS: entry, lease
-- ARGV: owner, ms for which nobody should ask, 'unspent' if the refresh token was not used after
--       all
if redis.call('GET', KEYS[2]) ~= ARGV[1] then
  return 0
end
if ARGV[3] == 'unspent' then
  redis.call('HDEL', KEYS[1], 'spent')
end
if tonumber(ARGV[2]) > 0 then
  return redis.call('PEXPIRE', KEYS[2], ARGV[2])
end
return redis.call('DEL', KEYS[2])
