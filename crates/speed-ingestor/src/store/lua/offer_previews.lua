-- Webhooks' bodies, a group of one type, were put at the end of their queue in this transaction: keeps its bounds, and counts what they tell.
-- KEYS: previews, bytes of previews, sizes of previews, last webhooks.
-- ARGV: prefix of versions told, prefix of readings, type, received (us), most previews, most bytes, then for each preview: id, version, bytes.
-- Returns {older previews that were dropped, and of these ones: repeated, late, useless}.
local ids, sizes = {}, {}
for i = 7, #ARGV, 3 do
    ids[#ids + 1] = ARGV[i]
    sizes[#sizes + 1] = ARGV[i + 2]
end
local dropped = keep_bounds(KEYS[1], KEYS[2], KEYS[3], sizes, tonumber(ARGV[5]), tonumber(ARGV[6]))
local repeated, late, useless = 0, 0, 0
local now, before = told_keys(ARGV[1], math.floor(tonumber(ARGV[4]) / 300000000))
local versions, earlier = redis.call('HMGET', now, unpack(ids)), redis.call('HMGET', before, unpack(ids))
local known, latest, told = {}, {}, {}
for i, id in ipairs(ids) do
    local version = ARGV[5 + 3 * i]
    local seen = known[id] or tonumber(versions[i] or earlier[i] or 0)
    if seen == tonumber(version) then
        repeated = repeated + 1
    elseif seen > tonumber(version) then
        late = late + 1
    else
        known[id] = tonumber(version)
        latest[id] = version
    end
    local held = redis.call('HGET', ARGV[2] .. id, 'version')
    if held and tonumber(held) >= tonumber(version) then
        useless = useless + 1
    end
end
for id, version in pairs(latest) do
    told[#told + 1] = id
    told[#told + 1] = version
end
if #told > 0 then
    note_told(now, unpack(told))
end
redis.call('HSET', KEYS[4], ARGV[3], ARGV[4])
return { dropped, repeated, late, useless }
