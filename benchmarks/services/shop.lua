-- SPDX-License-Identifier: MIT
-- For wrk: which paths of shop.py are asked for; what came of it, as a line of JSON.
local words = {}
for _, head in ipairs({"al", "ber", "cor", "dun", "el", "for", "gar", "hes"}) do
    for _, tail in ipairs({"an", "ic", "om", "ute"}) do words[#words + 1] = head .. tail end
end

local threads = 0
function setup(thread)
    threads = threads + 1
    thread:set("seed", threads)
end

function init(arguments)
    math.randomseed(seed)
end

function request()
    local kind = math.random(100)
    if kind <= 50 then return wrk.format("GET", "/item/" .. math.random(0, 59999)) end
    if kind <= 95 then return wrk.format("GET", "/search/" .. words[math.random(#words)] .. "/" .. 20 * math.random(0, 200)) end
    if kind <= 98 then return wrk.format("GET", "/report/" .. math.random(0, 7)) end
    return wrk.format("GET", "/export/" .. math.random(0, 7))
end

function done(summary, latency, requests)
    local errors = summary.errors
    io.write(string.format('{"requests": %d, "seconds": %.3f, "connect": %d, "read": %d, "write": %d, "status": %d, ' ..
        '"timeout": %d, "p50_ms": %.2f, "p99_ms": %.2f}\n', summary.requests, summary.duration / 1e6, errors.connect,
        errors.read, errors.write, errors.status, errors.timeout, latency:percentile(50) / 1e3, latency:percentile(99) / 1e3))
end
