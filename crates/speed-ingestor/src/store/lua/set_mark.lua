-- Rule 5: the marks of all types of a round at once, behind its readings, and only in the life in which they were offered.
-- KEYS: life, mark. ARGV: life, then type and position in turn. Returns 1 if it is the same life.
if life(KEYS[1]) ~= ARGV[1] then
    return 0
end
for i = 2, #ARGV, 2 do
    redis.call('HSET', KEYS[2], ARGV[i], ARGV[i + 1])
end
return 1
