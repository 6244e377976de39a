-- KEYS: life, layout. ARGV: the layout of the caller's release. Returns the life; an error, and nothing is written, if a later release has written here.
local layout = tonumber(redis.call('GET', KEYS[2]) or 0)
if layout > tonumber(ARGV[1]) then
    return redis.error_reply('LAYOUT ' .. layout)
end
-- What was written before there was a number is of the first layout, which is read as it is.
if layout < tonumber(ARGV[1]) then
    redis.call('SET', KEYS[2], ARGV[1])
end
if redis.call('EXISTS', KEYS[1]) == 0 then
    new_life(KEYS[1])
end
return life(KEYS[1])
