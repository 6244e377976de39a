-- Takes a lock, or keeps one that is held by the same token. KEYS: lock. ARGV: token, how long it holds (ms). Returns 1 if it is held.
local holder = redis.call('GET', KEYS[1])
if holder and holder ~= ARGV[1] then
    return 0
end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
return 1
