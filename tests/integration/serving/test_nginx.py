"""nginx by deploy/nginx.conf: in front of the service (accel), and at the end of a redirect."""

from __future__ import annotations

import random
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
from tests.benchmark_modules import load_benchmark
from tests.servers.raw_service import Service

pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(shutil.which("nginx") is None, reason="nginx is not installed"),
]
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
def nginx() -> Any:
    return load_benchmark("_nginx")


@pytest.fixture(scope="module")
def site(start: Any, nginx: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    folder: Path = tmp_path_factory.mktemp("accel")
    artifacts = folder / "artifacts"
    service = start(ARTIFACT_DELIVERY="accel", SYNC_DATA_DIR=artifacts, API_TRUSTED_PROXIES=1)
    path, regions = prepared(service), prepared(service, "regions", "regions.bed")
    port = nginx.free_port()
    behind = f"{service.url.host}:{service.url.port}"
    with nginx.running(folder / "nginx", [nginx.in_front(behind, artifacts, port, folder / "lookups")], port):
        yield Site(service, f"http://127.0.0.1:{port}", path, regions)


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


def test_an_immutable_address_is_looked_up_with_its_own_lifetime(site: Site) -> None:
    digest = site.direct(site.regions).headers["etag"].strip('"')
    address = f"/artifacts/{digest}/regions.bed.gz?of=here/regions"
    for _ in range(4):
        got = site.get(address, Range="bytes=0-9")
        assert (got.status_code, len(got.content)) == (206, 10)
        assert got.headers["cache-control"] == "public, max-age=31536000, immutable, no-transform"


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
