-- What a forwarder puts, unless a reading of that version or a later one is held. (It says nothing of the webhook.)
-- KEYS: previews, bytes of previews, sizes of previews, reading of the resource.
-- ARGV: most previews, most bytes, version, time to live (us; '' = none), preview. Returns {1 if it was put, how many older previews were dropped}.
if (tonumber(redis.call('HGET', KEYS[4], 'version') or -1) or -1) >= tonumber(ARGV[3]) then
    return { 0, 0 }
end
local preview = ARGV[5]
if ARGV[4] ~= '' then
    -- Its end stands last in its line, by the clock that it will be compared with.
    local time = redis.call('TIME')
    local ends = string.format('%.0f', time[1] * 1000000 + time[2] + ARGV[4])
    local head = string.find(preview, '\n', 1, true) - 1
    preview = string.sub(preview, 1, head) .. ' ' .. ends .. string.sub(preview, head + 1)
end
redis.call('RPUSH', KEYS[1], preview)
return { 1, keep_bounds(KEYS[1], KEYS[2], KEYS[3], { #preview }, tonumber(ARGV[1]), tonumber(ARGV[2])) }
