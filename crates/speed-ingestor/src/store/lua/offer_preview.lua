-- Rule 4: a webhook's body lies beside the readings, in a bounded queue; what is lost of it is only not shown early.
-- KEYS: previews, bytes of previews, version seen. ARGV: preview, most previews, most bytes, version, seconds to remember the version.
-- Returns how many older previews were dropped.
local count = redis.call('RPUSH', KEYS[1], ARGV[1])
local bytes = redis.call('INCRBY', KEYS[2], #ARGV[1])
local dropped = 0
while count > tonumber(ARGV[2]) or (count > 1 and bytes > tonumber(ARGV[3])) do
    bytes = redis.call('DECRBY', KEYS[2], #redis.call('LPOP', KEYS[1]))
    count, dropped = count - 1, dropped + 1
end
if (tonumber(redis.call('GET', KEYS[3]) or 0) or 0) < tonumber(ARGV[4]) then
    redis.call('SET', KEYS[3], ARGV[4], 'EX', ARGV[5])
end
return dropped
