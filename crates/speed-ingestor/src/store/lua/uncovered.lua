-- How many readings are kept past their time to live because the batch has not covered them (at most as many as are looked at).
-- Readings of lower numbers were received earlier, so the first one in time ends the count.
-- KEYS: held. ARGV: prefix of resources, received before (us), how many to look at.
local ids = redis.call('ZRANGE', KEYS[1], 0, tonumber(ARGV[3]) - 1)
for i, id in ipairs(ids) do
    local received = redis.call('HGET', ARGV[1] .. id, 'received_at')
    if received and tonumber(received) >= tonumber(ARGV[2]) then
        return i - 1
    end
end
return #ids
