-- A DELETE says nothing but the id: it is noted for the count of healed ones, and the mark is looked at (law 5).
-- KEYS: mark, delete seen. ARGV: type, seconds to remember. Returns the mark.
redis.call('SET', KEYS[2], '1', 'EX', ARGV[2])
return redis.call('HGET', KEYS[1], ARGV[1])
