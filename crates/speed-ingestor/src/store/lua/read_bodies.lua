-- A page of readings by id, as many as fit. An id that has left meanwhile is false.
-- KEYS: life. ARGV: life ('' = any), prefix of resources, most bytes, ids. Returns {life is the same (1) or not (0), reading or false, ...}.
if ARGV[1] ~= '' and life(KEYS[1]) ~= ARGV[1] then
    return { 0 }
end
local page, bytes = { 1 }, 0
for i = 4, #ARGV do
    local r = redis.call('HMGET', ARGV[2] .. ARGV[i], 'n', 'as_of', 'version', 'last_updated', 'deleted', 'body', 'unreadable',
        'received_at')
    page[#page + 1] = r[1] and r or false
    bytes = bytes + 256 + #(r[6] or '')
    if bytes > tonumber(ARGV[3]) then
        break
    end
end
return page
