"""nginx by deploy/nginx.conf: in front of the service (accel), and at the end of a redirect."""

from __future__ import annotations

import random
import shutil
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
OWN = {"date", "server", "x-request-id", "connection", "last-modified"}


@dataclass
class Site:
    """nginx, and the service behind it."""

    service: Service
    url: str
    path: str

    def get(self, path: str | None = None, **headers: str) -> httpx.Response:
        return httpx.get(self.url + (path or self.path), headers=headers, trust_env=False)

    def direct(self, **headers: str) -> httpx.Response:
        return httpx.get(f"{self.service.url}{self.path}", headers=headers, trust_env=False)


def prepared(service: Service) -> str:
    """The path of a table that is made."""
    (service.files / "table.csv").write_text(DATA)
    entry = {
        "dcc": "here",
        "local_id": "table",
        "filename": "table.csv",
        "access_url": (service.files / "table.csv").as_uri(),
    }
    with httpx.Client(base_url=service.url, trust_env=False, timeout=90) as client:
        client.post("/files", json=entry, headers={"X-API-Key": service.admin_key}).raise_for_status()
        for _ in range(5):
            if client.get("/data/here/table", params={"wait": 50}, follow_redirects=False).status_code != 202:
                break
    return "/files/here/table/table.csv"


@pytest.fixture(scope="module")
def nginx() -> Any:
    return load_benchmark("_nginx")


@pytest.fixture(scope="module")
def site(start: Any, nginx: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    folder: Path = tmp_path_factory.mktemp("accel")
    artifacts = folder / "artifacts"
    service = start(ARTIFACT_DELIVERY="accel", SYNC_DATA_DIR=artifacts, API_TRUSTED_PROXIES=1)
    path = prepared(service)
    port = nginx.free_port()
    behind = f"{service.url.host}:{service.url.port}"
    with nginx.running(folder / "nginx", [nginx.in_front(behind, artifacts, port)], port):
        yield Site(service, f"http://127.0.0.1:{port}", path)


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
        {"If-Match": '"other"'},
        {"Origin": "https://viewer.example", "Range": "bytes=0-99"},
        {"If-Modified-Since": "Fri, 01 Jan 2100 00:00:00 GMT", "Range": "bytes=0-99"},
    ],
    ids=str,
)
def test_a_response_is_the_same_whoever_sends_the_file(site: Site, headers: dict[str, str]) -> None:
    direct = site.direct(**headers)
    for _ in range(3):  # as it is found, and as it is remembered
        by_nginx = site.get(**headers)
        assert by_nginx.status_code == direct.status_code
        if direct.is_success:
            assert by_nginx.content == direct.content
            ours = {name: value for name, value in direct.headers.items() if name not in OWN}
            theirs = {name: value for name, value in by_nginx.headers.items() if name not in OWN}
            assert theirs == ours
            assert "last-modified" not in by_nginx.headers
        assert "x-request-id" in by_nginx.headers


def test_conditions_with_the_services_tag_hold_through_nginx(site: Site) -> None:
    etag = site.get().headers["etag"]
    assert site.get(**{"If-None-Match": etag}).status_code == 304
    ranged = site.get(**{"If-Range": etag, "Range": "bytes=3-8"})
    assert (ranged.status_code, ranged.text) == (206, DATA[3:9])
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
