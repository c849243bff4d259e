"""nginx by deploy/nginx.conf: in front of the service (accel), and at the end of a redirect."""

from __future__ import annotations

import base64
import hashlib
import random
import re
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from tests.benchmark_modules import load_benchmark
from tests.servers.raw_service import Service

if TYPE_CHECKING:
    from conftest import Needs

pytestmark = pytest.mark.integration
DATA = "chrom,start,name\n" + "".join(
    f"chr1,{n},{random.Random(n).randbytes(20).hex()}\n" for n in range(20_000)
)
REGIONS = "".join(f"chr1\t{100 * n}\t{100 * n + 50}\tr{n}\n" for n in range(40_000))
OWN = {"date", "server", "x-request-id", "connection", "last-modified", "ratelimit", "ratelimit-policy"}


@dataclass
class Site:
    """nginx, and the service behind it."""

    service: Service
    url: str
    path: str
    """Of a table, of which the service is asked for each range."""
    regions: str
    """Of a file that nginx sends by itself once it has asked."""
    log: Path
    """Of nginx's requests."""
    folder: Path
    """Where nginx has all its files."""
    artifacts: Path

    def get(self, path: str | None = None, **headers: str) -> httpx.Response:
        return httpx.get(self.url + (path or self.path), headers=headers, trust_env=False)

    def direct(self, path: str | None = None, **headers: str) -> httpx.Response:
        return httpx.get(f"{self.service.url}{path or self.path}", headers=headers, trust_env=False)

    def requests_of_files(self) -> float:
        """How many the service answered itself, or handed over."""
        metrics = httpx.get(f"{self.service.url}/metrics", trust_env=False).text
        lines = [line for line in metrics.splitlines() if "http_requests_total" in line]
        return sum(float(line.rpartition(" ")[2]) for line in lines if "/files/name" in line)


def prepared(service: Service, local_id: str = "table", filename: str = "table.csv") -> str:
    """The path of a file that is made."""
    (service.files / filename).write_text(DATA if filename.endswith(".csv") else REGIONS)
    register(service, local_id, filename)
    with httpx.Client(base_url=service.url, trust_env=False, timeout=90) as client:
        for _ in range(5):
            address = f"/data/here/{local_id}"
            if client.get(address, params={"wait": 50}, follow_redirects=False).status_code != 202:
                break
    return f"/files/here/{local_id}/{filename}{'' if filename.endswith('.csv') else '.gz'}"


def register(service: Service, local_id: str, filename: str, **changed: str) -> None:
    entry = {
        "dcc": "here",
        "local_id": local_id,
        "filename": filename,
        "access_url": (service.files / filename).as_uri(),
        **changed,
    }
    httpx.post(
        f"{service.url}/files", json=entry, headers={"X-API-Key": service.admin_key}, trust_env=False
    ).raise_for_status()


@pytest.fixture(scope="module")
def nginx(needs: Needs) -> Any:
    needs("nginx")
    return load_benchmark("_nginx")


@pytest.fixture(scope="module", params=[False, True], ids=["stock", "lua"])
def lua(request: pytest.FixtureRequest, nginx: Any, needs: Needs) -> bool:
    """Where nginx keeps what it was told: in its cache, or in Lua's memory."""
    if request.param and not nginx.LUA.exists():
        needs.missing(f"{nginx.LUA} (libnginx-mod-http-lua)")
    return bool(request.param)


@pytest.fixture(scope="module")
def site(start: Any, nginx: Any, tmp_path_factory: pytest.TempPathFactory, *, lua: bool) -> Iterator[Site]:
    folder: Path = tmp_path_factory.mktemp("accel")
    artifacts = folder / "artifacts"
    service = start(ARTIFACT_DELIVERY="accel", SYNC_DATA_DIR=artifacts, API_TRUSTED_PROXIES=1)
    path, regions = prepared(service), prepared(service, "regions", "regions.bed")
    port = nginx.free_port()
    behind = f"{service.url.host}:{service.url.port}"
    own = folder / "nginx"
    log = own / "requests.log"
    front = nginx.in_front(behind, artifacts, port, own / "lookups", log=log, lua=lua)
    with nginx.running(own, [front], port):
        yield Site(service, f"http://127.0.0.1:{port}", path, regions, log, own, artifacts)


@pytest.mark.parametrize("which", ["path", "regions"])
@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Range": "bytes=0-0"},
        {"Range": "bytes=100-4195"},
        {"Range": "bytes=100-500000"},
        {"Range": "bytes=-7"},
        {"Range": "bytes=5-9", "If-Range": '"other"'},
        {"Range": "bytes=99999999-"},
        {"Range": "bytes=x"},
        {"Range": "bytes=0-9, 5000-5009"},
        {"If-None-Match": "*", "Range": "bytes=0-99"},
        {"If-Unmodified-Since": "Fri, 01 Jan 2100 00:00:00 GMT", "Range": "bytes=0-99"},
        {"If-Unmodified-Since": "Fri, 01 Jan 2010 00:00:00 GMT", "Range": "bytes=0-99"},
        {"Authorization": "Bearer nonsense", "Range": "bytes=0-99"},
        {"X-API-Key": "nonsense", "Range": "bytes=0-99"},
        {"X-Request-Id": "mine", "Range": "bytes=0-99"},
        {"If-Match": '"other"'},
        {"Origin": "https://viewer.example", "Range": "bytes=0-99"},
        {"If-Modified-Since": "Fri, 01 Jan 2100 00:00:00 GMT", "Range": "bytes=0-99"},
    ],
    ids=str,
)
def test_a_response_is_the_same_whoever_sends_the_file(
    site: Site, headers: dict[str, str], which: str
) -> None:
    path = getattr(site, which)
    direct = site.direct(path, **headers)
    for _ in range(4):  # as it is found, as it is remembered, as nginx has looked it up
        by_nginx = site.get(path, **headers)
        assert by_nginx.status_code == direct.status_code
        if direct.is_success:
            several = "," in headers.get("Range", "")
            own = OWN | ({"content-type", "content-length"} if several else set())  # the boundary is nginx's
            assert several or by_nginx.content == direct.content
            assert several == (b"Content-Range" in by_nginx.content)
            if by_nginx.status_code == 206 and which == "regions":
                own |= {"accept-ranges"}  # nginx does not repeat what Content-Range says
            ours = {name: value for name, value in direct.headers.items() if name not in own}
            theirs = {name: value for name, value in by_nginx.headers.items() if name not in own}
            assert theirs == ours
            assert "last-modified" not in by_nginx.headers
        elif direct.status_code >= 400:
            assert by_nginx.json()["type"] == direct.json()["type"]
            assert len(by_nginx.headers.get_list("content-range")) <= 1
        assert "x-request-id" in by_nginx.headers
        assert by_nginx.headers["x-request-id"] == headers.get(
            "X-Request-Id", by_nginx.headers["x-request-id"]
        )


def test_nginx_asks_once_in_a_while_and_sends_the_ranges_by_itself(site: Site) -> None:
    whole = site.direct(site.regions).content
    before = site.requests_of_files()
    with httpx.Client(base_url=site.url, trust_env=False) as client:
        for start in range(0, 400, 2):
            got = client.get(site.regions, headers={"Range": f"bytes={start}-{start + 99}"})
            assert (got.status_code, got.content) == (206, whole[start : start + 100])
    assert site.requests_of_files() - before < 100
    head = httpx.head(site.url + site.regions, trust_env=False)
    assert (head.status_code, head.headers["content-length"]) == (200, str(len(whole)))


def test_nginx_sends_the_ranges_of_clients_that_speak_http_2_by_itself(
    site: Site, nginx: Any, needs: Needs, tmp_path: Path, *, lua: bool
) -> None:
    (curl,) = needs("curl")
    behind, port = f"{site.service.url.host}:{site.service.url.port}", nginx.free_port()
    front = nginx.in_front(behind, site.artifacts, port, tmp_path / "lookups", lua=lua)
    front = front.replace(f"listen 127.0.0.1:{port};", f"listen 127.0.0.1:{port} http2;")
    command = [str(curl), "-sS", "--http2-prior-knowledge", "-i", "-r", "100-199"]
    by_nginx = re.compile(rb"(?im)^x-request-id: \d+-\d+-\d+\.\d{3}\r?$")
    whole, found = site.direct(site.regions).content, None
    with nginx.running(tmp_path / "nginx", [front], port):
        for _ in range(20):  # found, remembered, looked up, which takes a few
            got = subprocess.run(
                [*command, f"http://127.0.0.1:{port}{site.regions}"], capture_output=True, check=True
            )
            head, _, body = got.stdout.partition(b"\r\n\r\n")
            assert head.startswith(b"HTTP/2 206")
            assert body == whole[100:200]
            found = found or by_nginx.search(head)
    assert found, "the service has sent all"


def test_an_immutable_address_is_looked_up_with_its_own_lifetime(site: Site) -> None:
    digest = site.direct(site.regions).headers["etag"].strip('"')
    address = f"/artifacts/{digest}/regions.bed.gz?of=here/regions"
    for _ in range(4):
        got = site.get(address, Range="bytes=0-9")
        assert (got.status_code, len(got.content)) == (206, 10)
        assert (
            got.headers["cache-control"] == "public, max-age=31536000, s-maxage=300, immutable, no-transform"
        )


def logged(log: Path, path: str) -> list[str]:
    """Lines of requests for the path; nginx may write one after its response was read."""
    end = time.monotonic() + 20
    while True:
        lines = [line for line in log.read_text().splitlines() if f' {path}"' in line]
        if lines or time.monotonic() > end:
            return lines
        time.sleep(0.05)


def files_with(folder: Path, word: str) -> list[str]:
    return [str(path) for path in folder.rglob("*") if path.is_file() and word.encode() in path.read_bytes()]


def test_tokens_are_in_none_of_nginx_s_files(site: Site) -> None:
    headers = {"X-API-Key": site.service.admin_key}
    made = httpx.post(
        f"{site.service.url}/tokens", json={"file": "here/regions"}, headers=headers, trust_env=False
    )
    made.raise_for_status()
    token = made.json()["token"]
    secret = token[-24:]
    for _ in range(3):
        assert site.get(f"{site.regions}?token={token}", Range="bytes=0-9").status_code == 206
        assert site.get(f"{site.regions}?token=&token={token}", Range="bytes=0-9").status_code == 206
        assert site.get(f"{site.path}?a=b&token={token}").status_code in (200, 404)
        site.get("/data/here/regions?wait=1", Referer=f"{site.url}/?token={token}")
    for strange in (
        "/data/here/nothing",
        "/gooseherd-lookup",
        "/gooseherd-artifacts/x",
        "/files/here/regions/x",
    ):
        site.get(f"{strange}?token={token}")
    site.get(f"{site.regions}?token={token}", Range="bytes=999999999-")
    lines = logged(site.log, "/files/here/regions/x")
    assert lines
    assert " 404 " in lines[-1]
    assert files_with(site.folder, site.regions), "nothing was logged"
    assert files_with(site.folder, secret) == []
    assert "?" not in site.log.read_text()


def test_a_token_is_in_no_log_of_nginx_while_the_service_is_away(nginx: Any, tmp_path: Path) -> None:
    port, away = nginx.free_port(), nginx.free_port()
    own, log = tmp_path / "nginx", tmp_path / "nginx" / "requests.log"
    front = nginx.in_front(f"127.0.0.1:{away}", tmp_path, port, own / "lookups", log=log)
    with nginx.running(own, [front], port):
        url = f"http://127.0.0.1:{port}/files/here/x/x.bed.gz"
        for query in ("", "?token=ght_secret", "?token=&token=ght_secret"):
            assert httpx.get(f"{url}{query}", trust_env=False).status_code == 502
        assert "upstream=502" in logged(log, "/files/here/x/x.bed.gz")[-1]
    assert files_with(own, "ght_secret") == []


def test_the_end_of_a_redirect_logs_no_signature(nginx: Any, tmp_path: Path) -> None:
    front, port = nginx.free_port(), nginx.free_port()
    own, log = tmp_path / "nginx", tmp_path / "nginx" / "requests.log"
    servers = [
        nginx.in_front(f"127.0.0.1:{nginx.free_port()}", tmp_path, front, own / "lookups", log=log),
        nginx.second_hop(tmp_path, port, "only for this test", log=log),
    ]
    with nginx.running(own, servers, port):
        got = httpx.get(
            f"http://127.0.0.1:{port}/p1/x?signature=sensitive&expires=1&token=ght_secret", trust_env=False
        )
        assert got.status_code == 403
        assert " 403 " in logged(log, "/p1/x")[-1]
    assert files_with(own, "sensitive") == files_with(own, "ght_secret") == []


def test_one_client_has_only_so_many_responses_of_nginx_at_a_time(nginx: Any, tmp_path: Path) -> None:
    """Slow readers of what nginx sends by itself, which the service never sees."""
    artifacts, front, port = tmp_path / "artifacts", nginx.free_port(), nginx.free_port()
    (artifacts / "p1").mkdir(parents=True)
    with (artifacts / "p1" / "large").open("wb") as file:
        file.truncate(64 * 2**20)
    own, log = tmp_path / "nginx", tmp_path / "nginx" / "requests.log"
    servers = [
        nginx.in_front(f"127.0.0.1:{nginx.free_port()}", tmp_path, front, own / "lookups", log=log),
        nginx.second_hop(artifacts, port, "only for this test", log=log),
    ]
    assert all("limit_conn gooseherd_clients 512;" in server for server in servers)
    few = [server.replace("gooseherd_clients 512;", "gooseherd_clients 3;") for server in servers]
    signed = hashlib.md5(b"4102444800/p1/large only for this test", usedforsecurity=False).digest()
    signature = base64.urlsafe_b64encode(signed).rstrip(b"=").decode()
    target = f"/p1/large?signature={signature}&expires=4102444800"

    def ask(source: str, clients: ExitStack) -> bytes:
        client = clients.enter_context(socket.create_connection(("127.0.0.1", port), 20, (source, 0)))
        client.sendall(f"GET {target} HTTP/1.1\r\nHost: x\r\nRange: bytes=1-\r\n\r\n".encode())
        return client.recv(12)

    with nginx.running(own, few, port), ExitStack() as clients:
        got = [ask("127.0.0.1", clients) for _ in range(4)]
        assert got == [b"HTTP/1.1 206"] * 3 + [b"HTTP/1.1 429"]
        assert ask("127.0.0.9", clients) == b"HTTP/1.1 206"


def test_metrics_are_for_private_addresses(site: Site, nginx: Any, tmp_path: Path) -> None:
    assert "gooseherd_http_connections" in site.get("/metrics").text
    behind, port = f"{site.service.url.host}:{site.service.url.port}", nginx.free_port()
    front = nginx.in_front(behind, tmp_path, port, tmp_path / "lookups")
    # As if it were the address of a stranger.
    front = front.replace("allow 127.0.0.0/8;", "", 1)
    with nginx.running(tmp_path / "nginx", [front], port):
        assert httpx.get(f"http://127.0.0.1:{port}/metrics", trust_env=False).status_code == 403
        assert httpx.get(f"http://127.0.0.1:{port}/healthz", trust_env=False).status_code == 200


@pytest.mark.parametrize(
    ("first", "second", "same"),
    [
        ("203.0.113.7", "203.0.113.8", False),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2:9:9:9:9", True),
        ("2001:db8:1:2::1", "2001:db8:1:2:9:9:9:9", True),
        ("2001:db8:1:2::1", "2001:db8:1:3::1", False),
        ("2001:db8::1", "2001:db8::ffff:2", True),
        ("2001:db8::1", "2001:db9::1", False),
    ],
)
def test_a_client_of_nginx_is_an_address_or_the_first_half_of_one(
    nginx: Any, tmp_path: Path, first: str, second: str, *, same: bool
) -> None:
    """By the map of the configuration, told of addresses that this machine has not."""
    port = nginx.free_port()
    front = nginx.in_front("127.0.0.1:1", tmp_path, nginx.free_port(), tmp_path / "lookups")
    asked = front.replace("map $remote_addr $gooseherd_client", "map $arg_address $gooseherd_client")
    asked = asked.replace("default $remote_addr", "default $arg_address")
    told = f"server {{ listen 127.0.0.1:{port}; return 200 $gooseherd_client; }}"
    with nginx.running(tmp_path / "nginx", [asked, told], port):
        keys = [
            httpx.get(f"http://127.0.0.1:{port}/?address={address}", trust_env=False).text
            for address in (first, second)
        ]
    assert all(keys)
    assert (keys[0] == keys[1]) is same


def test_a_file_that_is_no_longer_public_is_refused_within_seconds(site: Site) -> None:
    address = prepared(site.service, "leaving", "leaving.bed")
    for _ in range(4):
        assert site.get(address, Range="bytes=0-9").status_code == 206
    register(site.service, "leaving", "leaving.bed", data_access_level="protected")
    end = time.monotonic() + 20
    while (refused := site.get(address, Range="bytes=0-9").status_code) == 206:
        assert time.monotonic() < end
        time.sleep(0.1)
    assert refused in (401, 404)
    key = {"X-API-Key": site.service.admin_key}
    for _ in range(4):
        assert site.get(address, Range="bytes=0-9", **key).status_code == 206
        assert site.get(address, Range="bytes=0-9").status_code == refused


def test_a_client_learns_nothing_by_asking_as_nginx_does(site: Site) -> None:
    for _ in range(3):
        got = site.get(site.regions, **{"X-Sendfile-Type": "lookup", "Range": "bytes=0-9"})
        assert (got.status_code, len(got.content)) == (206, 10)
        assert "x-artifact-file" not in got.headers
    assert site.get("/gooseherd-lookup").status_code == 404


def test_conditions_with_the_services_tag_hold_through_nginx(site: Site) -> None:
    etag = site.get().headers["etag"]
    assert site.get(**{"If-None-Match": etag}).status_code == 304
    ranged = site.get(**{"If-Range": etag, "Range": "bytes=3-8"})
    assert (ranged.status_code, ranged.text) == (206, DATA[3:9])
    of_regions = site.direct(site.regions).headers["etag"]
    for _ in range(3):
        assert (
            site.get(site.regions, **{"If-None-Match": of_regions, "Range": "bytes=0-9"}).status_code == 304
        )
        assert site.get(site.regions, **{"If-Match": of_regions, "Range": "bytes=0-9"}).status_code == 206
        assert site.get(site.regions, **{"If-Range": of_regions, "Range": "bytes=0-9"}).status_code == 206
    matched = site.get(**{"If-Match": etag, "Range": "bytes=3-8"})
    assert (matched.status_code, matched.text) == (206, DATA[3:9])


def test_nginx_sends_the_file_and_nobody_reaches_its_folder(site: Site) -> None:
    handed = httpx.get(
        f"{site.service.url}{site.path}",
        headers={"X-Sendfile-Type": "X-Accel-Redirect", "Range": "bytes=0-9"},
        trust_env=False,
    )
    assert (handed.status_code, handed.content) == (200, b"")
    internal = handed.headers["x-accel-redirect"]
    assert internal.startswith("/gooseherd-artifacts/")
    assert site.get(internal).status_code == 404
    assert "x-accel-redirect" not in site.get(Range="bytes=0-9").headers
    # Without nginx in front a client gets its bytes all the same.
    assert site.direct(Range="bytes=0-9").text == DATA[:10]


def test_other_pages_pass_through(site: Site) -> None:
    assert site.get("/healthz").status_code == 200
    missing = site.get("/data/here/nothing")
    assert (missing.status_code, missing.json()["type"]) == (404, "/problems/not-found")
    assert httpx.head(site.url + site.path, trust_env=False).headers["content-length"] == str(len(DATA))


def test_a_signed_redirect_leads_to_nginx_and_an_unsigned_address_to_nothing(
    start: Any, nginx: Any, tmp_path: Path
) -> None:
    artifacts, port = tmp_path / "artifacts", nginx.free_port()
    service = start(
        ARTIFACT_DELIVERY="redirect",
        ARTIFACT_REDIRECT_URL=f"http://127.0.0.1:{port}",
        ARTIFACT_REDIRECT_SECRET="only for this test",
        SYNC_DATA_DIR=artifacts,
    )
    path = prepared(service)
    with nginx.running(tmp_path / "nginx", [nginx.second_hop(artifacts, port, "only for this test")], port):
        headers = {"Range": "bytes=100-199", "Origin": "http://localhost:3000", "Sec-Fetch-Mode": "cors"}
        with httpx.Client(trust_env=False, headers=headers) as client:
            first = client.get(f"{service.url}{path}")
            assert first.status_code == 307
            assert first.headers["cache-control"] == "public, max-age=300"
            assert first.headers["access-control-allow-origin"] in ("*", "http://localhost:3000")
            second = client.get(first.headers["location"])
            assert (second.status_code, second.text) == (206, DATA[100:200])
            assert second.headers["access-control-allow-origin"] == "*"
            assert "immutable" in second.headers["cache-control"]
            again = client.get(
                first.headers["location"], headers={"If-Range": second.headers["etag"], "Range": "bytes=0-4"}
            )
            assert (again.status_code, again.text) == (206, DATA[:5])
            url = httpx.URL(first.headers["location"])
            assert client.get(url.copy_with(query=None)).status_code == 403
            forged = url.copy_set_param("signature", "x" * 22)
            assert client.get(forged).status_code == 403
            assert client.options(url).status_code == 204
