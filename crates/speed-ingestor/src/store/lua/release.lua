-- Rule 6 and law 4: what the batch has covered may leave: it gets its expiry, reckoned from its receipt. What it has not covered never does.
-- KEYS: held, covered, recent. ARGV: prefix of resources, n of the batch's watermark, now (ms), time to live (ms), most at a time.
-- Returns {released, gone}.
local ids = redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', ARGV[2], 'LIMIT', 0, ARGV[5])
for _, id in ipairs(ids) do
    local received = redis.call('HGET', ARGV[1] .. id, 'received_at')
    redis.call('ZREM', KEYS[1], id)
    if received then
        local at = string.format('%.0f', math.floor(tonumber(received) / 1000) + tonumber(ARGV[4]))
        redis.call('PEXPIREAT', ARGV[1] .. id, at)
        redis.call('ZADD', KEYS[2], at, id)
    else
        redis.call('ZREM', KEYS[3], id)
    end
end
local gone = redis.call('ZRANGEBYSCORE', KEYS[2], '-inf', ARGV[3], 'LIMIT', 0, ARGV[5])
for _, id in ipairs(gone) do
    redis.call('DEL', ARGV[1] .. id)
    redis.call('ZREM', KEYS[2], id)
    redis.call('ZREM', KEYS[3], id)
end
return { #ids, #gone }
