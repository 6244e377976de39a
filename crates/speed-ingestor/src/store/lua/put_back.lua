-- Readings of a backup, by rule 4 like all others: each is held unless it, or one of a later number, is. All of them, or (another life) none.
-- KEYS: life, held, recent, covered.
-- ARGV: life, prefix of resources, then for each reading: id, n, as_of, version, last_updated, deleted (0 or 1), body, unreadable, received.
-- Returns {1 if it is the same life, put back, of a later number already}.
if life(KEYS[1]) ~= ARGV[1] then
    return { 0, 0, 0 }
end
local put_back, later = 0, 0
for i = 3, #ARGV, 9 do
    local id, n = ARGV[i], tonumber(ARGV[i + 1])
    local key = ARGV[2] .. id
    local before = tonumber(redis.call('HGET', key, 'n') or nil)
    if before and before > n then
        later = later + 1
    elseif not before or before < n then
        hold(key, KEYS[2], KEYS[3], KEYS[4], id, ARGV[i + 1], ARGV[i + 2], ARGV[i + 3], ARGV[i + 4], ARGV[i + 5], ARGV[i + 6],
            ARGV[i + 7], ARGV[i + 8])
        put_back = put_back + 1
    end
end
return { 1, put_back, later }
