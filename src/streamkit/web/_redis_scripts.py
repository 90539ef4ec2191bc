"""The scripts that Redis runs, each as one step. Only they change what is in Redis.

A key has a hash with the record of its last reply, and each reply has a stream with its frames. The record:

- `reply`: the id of the reply, a secret of its owner, which alone may write
- `until`: when the lease of the owner ends, in ms, by the clock of Redis, the only clock that decides
- `last`: the number of the last frame in the stream
- `ended`: when the reply ended, in ms; missing while it runs
- `stop`: set once somebody has asked for the end of the reply
- `viewed`: when a reader with viewers was last seen, in ms

The id of an entry in the stream is the number of its last frame, `57-0`; the end is an entry of its own, `57-1`.
"""

from __future__ import annotations

_NOW = """
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
"""

# KEYS: record. ARGV: reply, lease, time to live. Returns the end of the lease, or 0 while another reply is running.
ACQUIRE = (
    _NOW
    + """
local reply, lease_end, ended = unpack(redis.call('HMGET', KEYS[1], 'reply', 'until', 'ended'))
if reply and reply ~= ARGV[1] and not ended and now < tonumber(lease_end) then
    return 0
end
redis.call('DEL', KEYS[1])
redis.call('HSET', KEYS[1], 'reply', ARGV[1], 'until', now + ARGV[2], 'last', 0, 'viewed', now)
redis.call('PEXPIRE', KEYS[1], ARGV[3])
return now + ARGV[2]
"""
)

# KEYS: record, stream. ARGV: reply, lease, time to live, end of the lease as the owner knows it, number of the first
# frame, number of the last frame, frames, '1' if the reply ends with them.
# Returns the number of the last frame in the stream, or -1 if the caller is not the owner any more; the end of the
# lease; 1 if somebody asked for the end; ms since a viewer was seen; 1 if the stream has its end.
# Frames that do not follow the last one are not written: the caller goes on from the number that it gets. So an append
# may be sent again if its answer was lost, and what Redis lost in a restart is sent again.
APPEND = (
    _NOW
    + """
local record = redis.call('HMGET', KEYS[1], 'reply', 'until', 'last', 'ended', 'stop', 'viewed')
local mine, ended = record[1] == ARGV[1], record[4]
local lease_end = tonumber(ARGV[4])
if mine then
    if ended then
        return {tonumber(record[3]), lease_end, 0, 0, 1}
    end
    lease_end = math.max(lease_end, tonumber(record[2]))
end
if now >= lease_end then
    return {-1}
end
local last, viewed = 0, now
if mine then
    last, viewed = tonumber(record[3]), tonumber(record[6])
else
    if record[1] and not ended and now < tonumber(record[2]) then
        return {-1}
    end
    redis.call('DEL', KEYS[1], KEYS[2])
end
local is_new = false
if ARGV[7] ~= '' and tonumber(ARGV[5]) == last + 1 then
    last = tonumber(ARGV[6])
    redis.call('XADD', KEYS[2], ARGV[6] .. '-0', 'f', ARGV[7])
    is_new = true
end
redis.call('HSET', KEYS[1], 'reply', ARGV[1], 'until', now + ARGV[2], 'last', last, 'viewed', viewed)
local is_over = 0
if ARGV[8] == '1' and last == tonumber(ARGV[6]) then
    redis.call('XADD', KEYS[2], last .. '-1', 'e', '1')
    redis.call('HSET', KEYS[1], 'ended', now)
    is_new, is_over = true, 1
end
redis.call('PEXPIRE', KEYS[1], ARGV[3])
redis.call('PEXPIRE', KEYS[2], ARGV[3])
if is_new then
    redis.call('PUBLISH', KEYS[2], last)
end
return {last, now + ARGV[2], record[5] and 1 or 0, now - viewed, is_over}
"""
)

# KEYS: record. Returns the id of the last reply, 1 if it is running, ms since it ended; nothing if there is none.
CURRENT = (
    _NOW
    + """
local reply, lease_end, ended = unpack(redis.call('HMGET', KEYS[1], 'reply', 'until', 'ended'))
if not reply then
    return {}
end
return {reply, (not ended and now < tonumber(lease_end)) and 1 or 0, ended and now - ended or 0}
"""
)

# KEYS: record. Asks the owner to end the reply. Returns the id of the reply; nothing if none is running.
STOP = (
    _NOW
    + """
local reply, lease_end, ended = unpack(redis.call('HMGET', KEYS[1], 'reply', 'until', 'ended'))
if not reply or ended or now >= tonumber(lease_end) then
    return {}
end
redis.call('HSET', KEYS[1], 'stop', '1')
return {reply}
"""
)

# KEYS: record, stream. ARGV: reply, number of the last frame that the reader has, most entries, '1' if it has viewers.
# Returns ms until the lease ends, and the entries that follow.
READ = (
    _NOW
    + """
local reply, lease_end = unpack(redis.call('HMGET', KEYS[1], 'reply', 'until'))
local left = -1
if reply == ARGV[1] then
    left = lease_end - now
    if ARGV[4] == '1' then
        redis.call('HSET', KEYS[1], 'viewed', now)
    end
end
return {left, redis.call('XRANGE', KEYS[2], ARGV[2] .. '-1', '+', 'COUNT', ARGV[3])}
"""
)
