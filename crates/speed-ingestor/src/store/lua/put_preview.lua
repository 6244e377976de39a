-- What a forwarder puts, unless a reading of that version or a later one is held. (It says nothing of the webhook.)
-- KEYS: previews, bytes of previews, reading of the resource. ARGV: most previews, most bytes, version, time to live (us; '' = none), preview.
-- Returns {1 if it was put, how many older previews were dropped}.
if (tonumber(redis.call('HGET', KEYS[3], 'version') or -1) or -1) >= tonumber(ARGV[3]) then
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
return { 1, enqueue({ preview }, KEYS[1], KEYS[2], ARGV[1], ARGV[2]) }
