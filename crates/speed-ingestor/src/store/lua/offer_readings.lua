-- Rule 4: a reading is held unless one of a later number is. All of them, or (another life) none.
-- KEYS: life, held, recent, covered.
-- ARGV: life ('' = any), prefix of resources, prefix of versions told, prefix of deletes seen, received,
--       then for each reading: id, n, as_of, version, last_updated, deleted (0 or 1), body, unreadable.
-- Returns {1 if it is the same life, readings now held, of these first seen by the tail}.
if ARGV[1] ~= '' and life(KEYS[1]) ~= ARGV[1] then
    return { 0, 0, 0 }
end
local held, healed = 0, 0
local now, before_now = told_keys(ARGV[3], math.floor(tonumber(ARGV[5]) / 300000000))
for i = 6, #ARGV, 8 do
    local id, n, version, deleted = ARGV[i], ARGV[i + 1], tonumber(ARGV[i + 3]), ARGV[i + 5]
    local key = ARGV[2] .. id
    local before = redis.call('HMGET', key, 'n', 'version')
    if not before[1] or tonumber(before[1]) < tonumber(n) then
        hold(key, KEYS[2], KEYS[3], KEYS[4], id, n, ARGV[i + 2], ARGV[i + 3], ARGV[i + 4], deleted, ARGV[i + 6], ARGV[i + 7], ARGV[5])
        held = held + 1
        if version > 0 and not (before[2] and tonumber(before[2]) >= version) then
            local seen
            if deleted == '1' then
                seen = redis.call('DEL', ARGV[4] .. id) == 1
            else
                local told = redis.call('HGET', now, id) or redis.call('HGET', before_now, id)
                seen = told and tonumber(told) >= version
            end
            if not seen then
                healed = healed + 1
            end
        end
    end
end
return { 1, held, healed }
