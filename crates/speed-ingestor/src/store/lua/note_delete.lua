-- A DELETE says nothing but the id: it is noted for the count of healed ones, and the mark is looked at (law 5).
-- KEYS: mark, last webhooks, delete seen. ARGV: type, seconds to remember, received (us). Returns the mark.
redis.call('SET', KEYS[3], '1', 'EX', ARGV[2])
redis.call('HSET', KEYS[2], ARGV[1], ARGV[3])
return redis.call('HGET', KEYS[1], ARGV[1])
