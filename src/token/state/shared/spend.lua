-- Notes that the stored refresh token is about to be sent. Only the lease's owner may send it.
-- KEYS: entry, lease
-- ARGV: owner, fence of the value whose refresh token it is
-- Returns: 1 if it may be sent
if redis.call('GET', KEYS[2]) ~= ARGV[1] or redis.call('HGET', KEYS[1], 'fence') ~= ARGV[2] then
  return 0
end
redis.call('HSET', KEYS[1], 'spent', ARGV[2])
return 1
