-- KEYS: life. Returns the life.
if redis.call('EXISTS', KEYS[1]) == 0 then
    new_life(KEYS[1])
end
return life(KEYS[1])
