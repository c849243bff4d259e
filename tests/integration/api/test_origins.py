"""Which pages may read what, and under which names the service may be called."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest

from gooseherd.api.origins import OriginRules
from gooseherd.settings import Settings
from gooseherd.wiring.origins import origin_rules

LOCAL = OriginRules(allowed=("https://friend.example",), local=True, hosts=frozenset({"herd.lab.example"}))
HOSTED = {"Origin": "https://viewer.example"}
ALLOWED = "access-control-allow-origin"
PREFLIGHT = {"Access-Control-Request-Method": "GET", "Access-Control-Request-Headers": "range"}


@pytest.fixture
async def local_town(build_town: Any) -> Any:
    return await build_town(origins=LOCAL)


async def published(town: Any, **fields: Any) -> str:
    entry = await town.register(**fields)
    await town.publish(entry, b"bytes")
    return str(entry.name)


@pytest.mark.parametrize("url", ["https://files.example/r.bam", "drs://files.example/1", "s3://bucket/r.bam"])
async def test_a_hosted_viewer_reads_public_files_that_are_elsewhere(local_town: Any, url: str) -> None:
    name = await published(local_town, access_url=url)
    for path in (f"/data/{name}", f"/index/{name}", f"/files/{name}/manifest", f"/contigs/{name}"):
        answer = await local_town.http.get(path, headers={**HOSTED, "Range": "bytes=0-1"})
        assert answer.status_code in (200, 206), path
        assert answer.headers[ALLOWED] == "*", path


async def test_local_files_and_those_that_are_not_public_are_for_pages_of_this_machine(
    local_town: Any,
) -> None:
    local = await published(local_town, access_url="file:///data/reads.bam")
    bai = [{"kind": "bai", "access_url": "file:///data/r.bam.bai"}]
    with_local_index = await published(local_town, sidecars=bai)
    consortium = await published(local_town, data_access_level="consortium")
    for name in (local, with_local_index, consortium, "4dn/none"):
        answer = await local_town.http.get(f"/data/{name}", headers=HOSTED)
        assert (answer.status_code, answer.json()["type"]) == (403, "/problems/origin-refused"), name
        assert ALLOWED not in answer.headers
    for origin in (
        "http://localhost:3000",
        "http://127.0.0.1:8888",
        "http://[::1]:1",
        "https://friend.example",
    ):
        answer = await local_town.http.get(f"/data/{local}", headers={"Origin": origin})
        assert (answer.status_code, answer.headers[ALLOWED]) == (200, origin)


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/files"),
        ("GET", "/jobs"),
        ("GET", "/queue"),
        ("GET", "/"),
        ("POST", "/batches"),
        ("POST", "/files"),
        ("DELETE", "/jobs/job1"),
        ("GET", "/data/4dn"),
        ("POST", "/files/4dn/file0"),
    ],
)
async def test_listings_and_writes_are_refused_to_pages_elsewhere(
    local_town: Any, method: str, path: str
) -> None:
    await published(local_town)
    for origin in (
        "https://viewer.example",
        "null",
        "http://localhost.evil.example",
        "http://127.0.0.1.nip.io",
    ):
        answer = await local_town.http.request(method, path, headers={"Origin": origin}, json={})
        assert answer.status_code == 403
        assert answer.json()["type"] == "/problems/origin-refused"
        assert ALLOWED not in answer.headers


async def test_a_batch_of_a_page_elsewhere_is_not_made(local_town: Any) -> None:
    """A browser sends it without asking first, when it is text."""
    name = await published(local_town)
    text = {**HOSTED, "Content-Type": "text/plain"}
    await local_town.http.post("/batches", headers=text, content=f'{{"files": ["{name}"]}}')
    assert (await local_town.http.get("/batches")).json()["batches"] == []


async def test_a_refused_origin_is_logged_once_with_the_words_that_let_it_in(
    local_town: Any, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING, "gooseherd.api.origins"):
        for _ in range(3):
            await local_town.http.get("/files", headers=HOSTED)
    lines = [record.getMessage() for record in caplog.records if record.name == "gooseherd.api.origins"]
    assert len(lines) == 1
    assert "--allow-origin https://viewer.example" in lines[0]


async def test_a_preflight_lets_hosted_pages_read_files_also_over_a_private_network(local_town: Any) -> None:
    ask = {**HOSTED, **PREFLIGHT, "Access-Control-Request-Private-Network": "true"}
    answer = await local_town.http.options("/data/4dn/file0", headers=ask)
    assert answer.headers[ALLOWED] == "*"
    assert answer.headers["access-control-allow-private-network"] == "true"
    assert "Range" in answer.headers["access-control-allow-headers"]
    for path, method in (("/files", "GET"), ("/batches", "POST"), ("/files/4dn/file0", "DELETE")):
        refused = await local_town.http.options(
            path, headers={**ask, "Access-Control-Request-Method": method}
        )
        assert refused.status_code == 204
        for name in (ALLOWED, "access-control-allow-methods", "access-control-allow-private-network"):
            assert name not in refused.headers


async def test_what_other_pages_may_not_have_no_other_site_may_embed(local_town: Any) -> None:
    answer = await local_town.http.get("/files")
    assert answer.headers["cross-origin-resource-policy"] == "same-site"
    name = await published(local_town)
    opened = await local_town.http.get(f"/data/{name}", headers=HOSTED)
    assert opened.headers["cross-origin-resource-policy"] == "cross-origin"


@pytest.mark.parametrize(
    "host",
    ["localhost", "LOCALHOST:8080", "a.localhost", "127.0.0.1:1", "[::1]:80", "10.1.2.3", "herd.lab.example"],
)
async def test_the_names_of_this_machine_and_addresses_are_its_own(local_town: Any, host: str) -> None:
    assert (await local_town.http.get("/healthz", headers={"Host": host})).status_code == 200


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:8080", "localhost.evil.example", "127.0.0.1.nip.io"]
)
async def test_a_name_that_somebody_made_point_here_is_refused(
    local_town: Any, host: str, caplog: pytest.LogCaptureFixture
) -> None:
    name = await published(local_town)
    for path in ("/files", f"/data/{name}", "/healthz"):
        answer = await local_town.http.get(path, headers={"Host": host})
        assert (answer.status_code, answer.json()["type"]) == (421, "/problems/foreign-host")
    lines = [record for record in caplog.records if record.name == "gooseherd.api.origins"]
    assert len(lines) == 1
    assert "API_ALLOW_HOSTS" in lines[0].getMessage()


async def test_a_service_for_all_is_called_what_its_clients_like_and_open_to_all_pages(town: Any) -> None:
    answer = await town.http.get("/files", headers={"Host": "herd.example.org", **HOSTED})
    assert answer.status_code == 200
    assert answer.headers[ALLOWED] == "*"


def rules(tmp_path: Path, **settings: Any) -> OriginRules:
    return origin_rules(Settings(gooseherd_state_dir=tmp_path, **settings))


def test_an_explicit_list_of_origins_is_all_there_is(tmp_path: Path) -> None:
    everybody = rules(tmp_path, api_cors_origins=("*",))
    assert (everybody.allowed, everybody.local) == (("*",), False)
    some = rules(tmp_path, api_cors_origins=("https://a.example",), api_allow_origins=("https://b.example",))
    assert (some.allowed, some.local) == (("https://a.example", "https://b.example"), False)


def test_unset_all_pages_may_read_unless_only_this_machine_is_served(tmp_path: Path) -> None:
    assert rules(tmp_path, api_host="0.0.0.0") == OriginRules()
    assert rules(tmp_path, api_trusted_proxies=1) == OriginRules()
    assert rules(tmp_path) == OriginRules((), local=True, hosts=frozenset())


def test_behind_a_notebook_servers_proxy_its_public_address_is_let_in(tmp_path: Path) -> None:
    """jupyter-server-proxy passes the Host header of the browser on, and the page is of that origin."""
    found = rules(
        tmp_path, api_public_url="https://Hub.example.org/user/me/proxy/8080", api_allow_hosts=("B",)
    )
    assert found.allowed == ("https://hub.example.org",)
    assert found.hosts == frozenset({"hub.example.org", "b"})
