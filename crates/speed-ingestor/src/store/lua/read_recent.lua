-- A page of what was written lately, the oldest first: ids and their lastUpdated, behind where the page before it ended. Where the id that ended it has moved or
-- left meanwhile, all of its lastUpdated come once more: none that stays where it is, or moves on, is passed over.
-- KEYS: recent. ARGV: since, the last id ('' = none), its lastUpdated, how many. Returns {id, lastUpdated, ...}.
local at = ARGV[2] ~= '' and redis.call('ZSCORE', KEYS[1], ARGV[2])
local from
if at and tonumber(at) == tonumber(ARGV[3]) then
    from = redis.call('ZRANK', KEYS[1], ARGV[2]) + 1
else
    from = redis.call('ZCOUNT', KEYS[1], '-inf', '(' .. (ARGV[2] == '' and ARGV[1] or ARGV[3]))
end
return redis.call('ZRANGE', KEYS[1], from, from + ARGV[4] - 1, 'WITHSCORES')
