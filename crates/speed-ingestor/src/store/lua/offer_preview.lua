-- Rule 4: a webhook's body lies beside the readings, in a bounded queue; what is lost of it is only not shown early.
-- KEYS: previews, bytes of previews, version seen, reading of the resource.
-- ARGV: preview, most previews, most bytes, version, seconds to remember the version, time to live (us; '' = none), whether one that is held is not put (1).
-- Returns {1 if it was put, how many older previews were dropped}.
if ARGV[7] == '1' and (tonumber(redis.call('HGET', KEYS[4], 'version') or -1) or -1) >= tonumber(ARGV[4]) then
    return { 0, 0 }
end
local preview = ARGV[1]
if ARGV[6] ~= '' then
    -- Its end stands last in its line, by the clock that it will be compared with.
    local time = redis.call('TIME')
    local ends = string.format('%.0f', time[1] * 1000000 + time[2] + ARGV[6])
    local head = string.find(preview, '\n', 1, true) - 1
    preview = string.sub(preview, 1, head) .. ' ' .. ends .. string.sub(preview, head + 1)
end
local count = redis.call('RPUSH', KEYS[1], preview)
local bytes = redis.call('INCRBY', KEYS[2], #preview)
local dropped = 0
while count > tonumber(ARGV[2]) or (count > 1 and bytes > tonumber(ARGV[3])) do
    bytes = redis.call('DECRBY', KEYS[2], #redis.call('LPOP', KEYS[1]))
    count, dropped = count - 1, dropped + 1
end
if (tonumber(redis.call('GET', KEYS[3]) or 0) or 0) < tonumber(ARGV[4]) then
    redis.call('SET', KEYS[3], ARGV[4], 'EX', ARGV[5])
end
return { 1, dropped }
