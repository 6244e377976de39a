-- Rule 4: webhooks' bodies lie beside the readings, in a bounded queue; what is lost of it is only not shown early.
-- KEYS: previews, bytes of previews, last webhooks.
-- ARGV: type, received (us), prefix of versions seen, most previews, most bytes, seconds to remember a version,
--       then for each preview: id, version, preview.
-- Returns how many older previews were dropped.
local added, keys, versions = 0, {}, {}
for i = 7, #ARGV, 3 do
    local key, version, preview = ARGV[3] .. ARGV[i], tonumber(ARGV[i + 1]), ARGV[i + 2]
    redis.call('RPUSH', KEYS[1], preview)
    added = added + #preview
    if not versions[key] then
        keys[#keys + 1] = key
    end
    versions[key] = math.max(versions[key] or 0, version)
end
local count = redis.call('LLEN', KEYS[1])
local bytes = redis.call('INCRBY', KEYS[2], added)
local dropped, gone = 0, 0
while count > tonumber(ARGV[4]) or (count > 1 and bytes - gone > tonumber(ARGV[5])) do
    gone = gone + #redis.call('LPOP', KEYS[1])
    count, dropped = count - 1, dropped + 1
end
if dropped > 0 then
    redis.call('DECRBY', KEYS[2], gone)
end
for i, known in ipairs(redis.call('MGET', unpack(keys))) do
    local key = keys[i]
    if (tonumber(known or 0) or 0) < versions[key] then
        redis.call('SET', key, string.format('%.0f', versions[key]), 'EX', ARGV[6])
    end
end
redis.call('HSET', KEYS[3], ARGV[1], ARGV[2])
return dropped
