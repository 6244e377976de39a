-- Rule 4: previews lie beside the readings, in a queue that is bounded in number and bytes; what is lost of it is only not shown early.
-- Puts previews at its end, and drops as many of the oldest ones as are too many. Returns how many it has dropped.
local function enqueue(previews, queue, size, most, most_bytes)
    local added = 0
    for _, preview in ipairs(previews) do
        added = added + #preview
    end
    local count = redis.call('RPUSH', queue, unpack(previews))
    local bytes = redis.call('INCRBY', size, added)
    local dropped, gone = 0, 0
    while count > tonumber(most) or (count > 1 and bytes - gone > tonumber(most_bytes)) do
        gone = gone + #redis.call('LPOP', queue)
        count, dropped = count - 1, dropped + 1
    end
    if dropped > 0 then
        redis.call('DECRBY', size, gone)
    end
    return dropped
end
