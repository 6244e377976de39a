-- Holds a reading: it is there, found among recent ones, offered to the merger, and does not expire (rule 4).
local function hold(key, held, recent, covered, id, n, as_of, version, last_updated, deleted, body, unreadable, received)
    redis.call('HSET', key, 'n', n, 'as_of', as_of, 'version', version, 'last_updated', last_updated,
        'deleted', deleted, 'body', body, 'unreadable', unreadable, 'received_at', received)
    redis.call('PERSIST', key)
    redis.call('ZADD', held, n, id)
    redis.call('ZADD', recent, last_updated, id)
    redis.call('ZREM', covered, id)
end
