-- Load script for wrk: a different JSON order in every request, every answer checked in full.
--
-- Arguments after `--`: PATH, then `fresh` (the module counter in every answer must be 1), `any` (it must be a number) or
-- `unchecked` (no response callback: shows what the checks cost). With `hello` each request is a GET whose answer must be `Hello Hono!`. Answers are matched as a set and not by connection, because
-- wrk does not say which connection an answer came on: each expected answer may arrive once.
-- The last line of standard output is one JSON object.
local threads = {}

function setup(thread)
  table.insert(threads, thread)
end

function init(args)
  checked, wrong, notOk, firstWrong = 0, 0, 0, ""
  local path = args[1]
  local mode = args[2]
  fresh = mode == "fresh"
  if mode == "unchecked" then response = nil end
  if mode == "hello" then hello = "GET " .. path .. " HTTP/1.1\r\nHost: " .. wrk.headers["Host"] .. "\r\n\r\n" end
  head = "POST " .. path .. " HTTP/1.1\r\nHost: " .. wrk.headers["Host"] .. "\r\nContent-Type: application/json\r\nContent-Length: "
  sent = 0
  expected = {}
end

function request()
  if hello then return hello end
  sent = sent + 1
  local id = sent
  local a, b, c, d = id % 9973, (id * 7) % 1009, (id * 31) % 5003, id % 17
  local body = '{"id":' .. id .. ',"name":"order-' .. id .. '","values":[' .. a .. ',' .. b .. ',' .. c .. ',' .. d
    .. ',1,2,3,4,5,6,7,8],"customer":{"country":"SE","tags":["new","edge"]}}'
  if response then
    expected['{"id":' .. id .. ',"sum":' .. (a + b + c + d + 36) .. ',"name":"ORDER-' .. id .. '"'] = true
  end
  return head .. #body .. "\r\n\r\n" .. body
end

function response(status, headers, body)
  checked = checked + 1
  if status ~= 200 then
    notOk = notOk + 1
    if firstWrong == "" then firstWrong = status .. " " .. body end
    return
  end
  if hello then
    if body ~= "Hello Hono!" then
      wrong = wrong + 1
      if firstWrong == "" then firstWrong = body end
    end
    return
  end
  local answer, n = string.match(body, '^(.*),"n":(%d+)}$')
  if answer and expected[answer] and (n == "1" or not fresh) then
    expected[answer] = nil
  else
    wrong = wrong + 1
    if firstWrong == "" then firstWrong = body end
  end
end

function done(summary, latency, requests)
  local total = { checked = 0, wrong = 0, notOk = 0 }
  local first = ""
  for _, thread in ipairs(threads) do
    for name in pairs(total) do total[name] = total[name] + thread:get(name) end
    if first == "" then first = thread:get("firstWrong") end
  end
  local e = summary.errors
  io.write(string.format(
    '\n{"requests":%d,"durationUs":%d,"bytes":%d,"checked":%d,"wrong":%d,"notOk":%d,"connectErrors":%d,"readErrors":%d,"writeErrors":%d,"statusErrors":%d,"timeouts":%d,"p50Us":%d,"p90Us":%d,"p99Us":%d,"maxUs":%d,"firstWrong":"%s"}\n',
    summary.requests, summary.duration, summary.bytes, total.checked, total.wrong, total.notOk,
    e.connect, e.read, e.write, e.status, e.timeout,
    latency:percentile(50), latency:percentile(90), latency:percentile(99), latency.max,
    string.sub(string.gsub(first, '[^%w%p ]', '?'), 1, 300):gsub('[\\"]', "'")))
end
