-- Webhooks' bodies, a group of one type.
-- KEYS: previews, bytes of previews, last webhooks.
-- ARGV: type, received (us), prefix of versions seen, most previews, most bytes, seconds to remember a version,
--       then for each preview: id, version, preview.
-- Returns how many older previews were dropped.
local previews, keys, versions = {}, {}, {}
for i = 7, #ARGV, 3 do
    local key, version = ARGV[3] .. ARGV[i], tonumber(ARGV[i + 1])
    previews[#previews + 1] = ARGV[i + 2]
    if not versions[key] then
        keys[#keys + 1] = key
    end
    versions[key] = math.max(versions[key] or 0, version)
end
local dropped = enqueue(previews, KEYS[1], KEYS[2], ARGV[4], ARGV[5])
for i, known in ipairs(redis.call('MGET', unpack(keys))) do
    local key = keys[i]
    if (tonumber(known or 0) or 0) < versions[key] then
        redis.call('SET', key, string.format('%.0f', versions[key]), 'EX', ARGV[6])
    end
end
redis.call('HSET', KEYS[3], ARGV[1], ARGV[2])
return dropped
