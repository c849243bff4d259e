-- What the service said of files that everybody may read, in the memory of each of nginx's workers: for
-- deploy/nginx.conf with libnginx-mod-http-lua. As with nginx's own cache, after a second the service is asked
-- again, in the background; after two nobody uses the answer; what it says without the words below is used once.
-- No credential is in it. The service is asked on connections of this file, because subrequests of Lua are not
-- for clients that speak HTTP/2.

local HOST, PORT = (...):match("^(.*):(%d+)$")
local KEPT = "max-age=1, stale-while-revalidate=1"
local ASKED_AGAIN_AFTER, USED_FOR = 1, 2 -- seconds
local FILES = 1000
local NO_FILE = { file = "-" } -- there is none of that name: nginx asks in the usual way
local CONNECT_MS, SEND_MS, READ_MS, IDLE_MS, IDLE_CONNECTIONS = 2000, 2000, 10000, 2000, 64

local known = assert(require("resty.lrucache").new(FILES))

-- The status and the headers by their names in small letters; nothing if the connection ends before.
local function read(connection)
    local line = connection:receive()
    local status, headers = line and tonumber(line:match("^HTTP/1%.1 (%d%d%d) ")), {}
    line = connection:receive()
    while line and line ~= "" do
        local name, value = line:match("^([^:]+):%s*(.-)%s*$")
        if name then
            headers[name:lower()] = value
        end
        line = connection:receive()
    end
    if line then
        return status, headers
    end
end

local function answer(host, address)
    for _ = 1, 2 do -- a connection that was idle may have been closed by the service
        local connection = ngx.socket.tcp()
        connection:settimeouts(CONNECT_MS, SEND_MS, READ_MS)
        if not connection:connect(HOST, tonumber(PORT)) then
            return nil
        end
        local reused = connection:getreusedtimes() > 0
        local status, headers
        if connection:send({ "GET ", address, " HTTP/1.1\r\nHost: ", host, "\r\nX-Sendfile-Type: lookup\r\n\r\n" }) then
            status, headers = read(connection)
        end
        if status == 204 then
            connection:setkeepalive(IDLE_MS, IDLE_CONNECTIONS)
        else
            connection:close()
        end
        if status or not reused then
            return status, headers
        end
    end
end

local function ask(key, host, address)
    local since = ngx.now()
    local status, headers = answer(host, address)
    if not status then
        return NO_FILE
    end
    local found = {
        file = headers["x-artifact-file"] or NO_FILE.file,
        etag = headers["etag"],
        cache_control = headers["x-artifact-cache-control"],
        disposition = headers["content-disposition"],
        asked_again_at = since + ASKED_AGAIN_AFTER,
        used_until = since + USED_FOR,
    }
    if status == 204 and headers["cache-control"] == KEPT then
        known:set(key, found)
    else
        known:delete(key)
    end
    return found
end

local function in_the_background(stopping, ...)
    if not stopping then
        ask(...)
    end
end

function gooseherd_lookup()
    local var, now = ngx.var, ngx.now()
    local host, address = var.http_host or "", var.request_uri
    local key = host .. " " .. address
    local found = known:get(key)
    if not found or now >= found.used_until then
        found = ask(key, host, address)
    elseif now >= found.asked_again_at and ngx.timer.at(0, in_the_background, key, host, address) then
        found.asked_again_at = found.used_until
    end
    var.artifact_file = found.file
    var.artifact_etag = found.etag
    var.artifact_cache_control = found.cache_control
    var.artifact_disposition = found.disposition
end
