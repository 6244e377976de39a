-- The life of this Redis: its run_id, and a token that is gone when the data are gone (FLUSHALL, a flush of ours).
-- Whoever has written something in one life must not conclude anything from it in another (rule 5, round-in-one-life).
local function life(key)
    local run_id = string.match(redis.call('INFO', 'server'), 'run_id:(%x+)')
    return (run_id or '') .. ':' .. (redis.call('GET', key) or '')
end
local function new_life(key)
    local time = redis.call('TIME')
    redis.call('SET', key, time[1] .. '.' .. time[2])
end
