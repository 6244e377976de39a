-- Rule 8: the mark, all that is held later than the cursor, and the previews, taken: one atomic answer. Bodies are fetched afterwards, in pages:
-- a later reading may have come by then, or the batch may have covered one, and both are right.
-- KEYS: life, mark, held, previews, bytes of previews, sizes of previews. ARGV: type, cursor.
-- Returns {life, mark, ids, previews, time}: some previews may be over by then.
local previews = redis.call('LRANGE', KEYS[4], 0, -1)
if #previews > 0 then
    redis.call('DEL', KEYS[4], KEYS[5], KEYS[6])
end
return {
    life(KEYS[1]),
    redis.call('HGET', KEYS[2], ARGV[1]) or '',
    redis.call('ZRANGEBYSCORE', KEYS[3], '(' .. ARGV[2], '+inf'),
    previews,
    redis.call('TIME'),
}
