-- Rule 4: previews lie beside the readings, in a queue that is bounded in number and bytes; what is lost of it is only not shown early.
-- `added` are the bytes of each of the previews that were just put at its end (the bodies themselves are not brought into a script: it would cost more than
-- all the rest). Drops as many of the oldest ones as are too many, and returns how many.
local function keep_bounds(queue, bytes, sizes, added, most, most_bytes)
    local count, total = redis.call('LLEN', queue), 0
    if redis.call('RPUSH', sizes, unpack(added)) == count then
        for _, size in ipairs(added) do
            total = total + size
        end
        total = redis.call('INCRBY', bytes, total)
    else
        -- Some were put, and this was not called, or they are taken already.
        redis.call('DEL', sizes)
        for _, preview in ipairs(redis.call('LRANGE', queue, 0, -1)) do
            redis.call('RPUSH', sizes, #preview)
            total = total + #preview
        end
        redis.call('SET', bytes, total)
    end
    local dropped, gone = math.max(count - most, 0), 0
    if dropped > 0 then
        for _, size in ipairs(redis.call('LPOP', sizes, dropped)) do
            gone = gone + size
        end
    end
    while count - dropped > 1 and total - gone > most_bytes do
        gone = gone + redis.call('LPOP', sizes)
        dropped = dropped + 1
    end
    if dropped > 0 then
        redis.call('LTRIM', queue, dropped, -1)
        redis.call('DECRBY', bytes, gone)
    end
    return dropped
end
