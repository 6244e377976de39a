-- What webhooks have told of a type, for the counts of what the tail saw first and of previews that told nothing new: versions by id, in a hash for each
-- five minutes. The hash of now and the one before are looked at; each is gone ten minutes after it was begun.
-- `period` is the number of these five minutes, by the ingestor's clock.
local function told_keys(prefix, period)
    return prefix .. string.format('%.0f', period), prefix .. string.format('%.0f', period - 1)
end
-- Each id once: a hash that is begun with this gains all of them, and is looked at for its expiry.
local function note_told(key, ...)
    if redis.call('HSET', key, ...) == select('#', ...) / 2 and redis.call('TTL', key) < 0 then
        redis.call('EXPIRE', key, 600)
    end
end
