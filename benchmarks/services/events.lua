-- SPDX-License-Identifier: MIT
-- For wrk: the events that events.py gets, in waves; sessions come and go. What came of it, as a line of JSON.
local threads = 0
function setup(thread)
    threads = threads + 1
    thread:set("seed", threads)
end

local function event(fields, length)
    local parts = {}
    for i = 1, fields do
        parts[i] = string.format('"field%d": [%d, "%s", {"value": %.3f}]', i, i, string.rep("v", math.random(length)), i / 7)
    end
    return "{" .. table.concat(parts, ", ") .. "}"
end

function init(arguments)
    math.randomseed(seed)
    small, large, asked = {}, {}, 0
    for i = 1, 50 do
        small[i] = event(math.random(2, 10), 30)
        large[i] = event(math.random(20, 80), 60)
    end
end

local json = {["Content-Type"] = "application/json"}

function request()
    local kind = math.random(200)
    asked = asked + 1
    if kind <= 3 then return wrk.format("GET", "/compute/" .. math.random(0, 49)) end
    if kind == 4 then return wrk.format("GET", "/feed") end
    local bodies = (asked % 10000 < 5000) and large or small
    local session = math.floor(asked / 2000) * 100 + math.random(600)
    return wrk.format("POST", "/event/" .. session, json, bodies[math.random(50)])
end

function done(summary, latency, requests)
    local errors = summary.errors
    io.write(string.format('{"requests": %d, "seconds": %.3f, "connect": %d, "read": %d, "write": %d, "status": %d, ' ..
        '"timeout": %d, "p50_ms": %.2f, "p99_ms": %.2f}\n', summary.requests, summary.duration / 1e6, errors.connect,
        errors.read, errors.write, errors.status, errors.timeout, latency:percentile(50) / 1e3, latency:percentile(99) / 1e3))
end
