-- Forgets all of one type, in a new life: a round under way gives no mark.
-- KEYS: life, mark, held, recent, covered, previews, bytes of previews, sizes of previews. ARGV: type, prefix of resources.
-- Returns {readings, previews}.
new_life(KEYS[1])
redis.call('HDEL', KEYS[2], ARGV[1])
local forgotten = 0
for _, set in ipairs({ KEYS[3], KEYS[4], KEYS[5] }) do
    for _, id in ipairs(redis.call('ZRANGE', set, 0, -1)) do
        forgotten = forgotten + redis.call('DEL', ARGV[2] .. id)
    end
end
local previews = redis.call('LLEN', KEYS[6])
redis.call('DEL', KEYS[3], KEYS[4], KEYS[5], KEYS[6], KEYS[7], KEYS[8])
return { forgotten, previews }
