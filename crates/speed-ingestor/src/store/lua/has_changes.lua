-- Whether an answer of read_changes would hold anything. KEYS: mark, held, previews. ARGV: type, cursor.
if redis.call('EXISTS', KEYS[3]) == 1 or redis.call('ZCOUNT', KEYS[2], '(' .. ARGV[2], '+inf') > 0 then
    return 1
end
local mark = redis.call('HGET', KEYS[1], ARGV[1])
return mark and tonumber(string.match(mark, '^%d+')) > tonumber(ARGV[2]) and 1 or 0
