-- What the service said of files that everybody may read, in the memory of each of nginx's workers: for
-- deploy/nginx.conf with libnginx-mod-http-lua. As with nginx's own cache, whoever comes after a second asks
-- again, meanwhile the others go on with the old answer, after two nobody does; what the service says without
-- the words below is used once. No credential is in it.

local KEPT = "max-age=1, stale-while-revalidate=1"
local ASKED_AGAIN_AFTER, USED_FOR = 1, 2 -- seconds
local FILES = 1000

local known = assert(require("resty.lrucache").new(FILES))

-- The response's headers by their names in small letters; of several with one name the first.
local function headers_of(response)
    local headers = {}
    for name, value in pairs(response.header) do
        headers[name:lower()] = type(value) == "table" and value[1] or value
    end
    return headers
end

local function ask(key, old)
    if old then
        old.asked_again_at = old.used_until
    end
    local since = ngx.now()
    local response = ngx.location.capture("/gooseherd-lookup")
    local headers = headers_of(response)
    local found = {
        file = headers["x-artifact-file"] or "-", -- there is none of that name: nginx asks in the usual way
        etag = headers["etag"],
        cache_control = headers["x-artifact-cache-control"],
        disposition = headers["content-disposition"],
        asked_again_at = since + ASKED_AGAIN_AFTER,
        used_until = since + USED_FOR,
    }
    if response.status == 204 and headers["cache-control"] == KEPT then
        known:set(key, found)
    else
        known:delete(key)
    end
    return found
end

function gooseherd_lookup()
    local var = ngx.var
    local key = (var.http_host or "") .. " " .. var.request_uri
    local found = known:get(key)
    if not found or ngx.now() >= found.asked_again_at then
        found = ask(key, found)
    end
    var.artifact_file = found.file
    var.artifact_etag = found.etag
    var.artifact_cache_control = found.cache_control
    var.artifact_disposition = found.disposition
end
