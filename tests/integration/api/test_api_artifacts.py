"""Addresses whose bytes never change: by digest, under the access rules of an entry."""

from __future__ import annotations

import gzip
import hashlib
import random
from urllib.parse import urlsplit

import pytest

from gooseherd.domain.artifact import Kind

DATA = random.Random(7).randbytes(300_000)
INDEX = b"BAI\1" + bytes(200_000)
IMMUTABLE = "public, max-age=31536000, s-maxage=300, immutable, no-transform"


async def addresses(town, entry):
    """Path and query by kind, as the manifest lists them."""
    view = (await town.http.get(f"/files/{entry.name}/manifest")).json()
    found = {part["kind"]: urlsplit(part["artifact_url"]) for part in view["parts"]}
    return {kind: f"{url.path}?{url.query}" for kind, url in found.items()}


@pytest.fixture
async def published(hot_town):
    """(town, entry, manifest)."""
    entry = await hot_town.register(filename="reads 1.bam")
    return hot_town, entry, await hot_town.publish(entry, DATA, INDEX)


async def test_an_address_by_digest_has_the_bytes_and_may_be_kept_for_good(published):
    town, entry, _ = published
    found = await addresses(town, entry)
    for kind, content in (("data", DATA), ("index", INDEX)):
        digest = hashlib.sha256(content).hexdigest()
        assert found[kind].startswith(f"/artifacts/{digest}/")
        answer = await town.http.get(found[kind], headers={"Accept-Encoding": "identity"})
        assert (answer.status_code, answer.content) == (200, content)
        assert answer.headers["cache-control"] == IMMUTABLE
        assert answer.headers["etag"] == f'"{digest}"'
        assert answer.headers["access-control-allow-origin"] == "*"
        for _ in range(3):  # as it is found, and as it is remembered
            ranged = await town.http.get(found[kind], headers={"Range": "bytes=1000-1999"})
            assert (ranged.status_code, ranged.content) == (206, content[1000:2000])
            assert ranged.headers["cache-control"] == IMMUTABLE
    head = await town.http.head(found["data"])
    assert (head.status_code, head.headers["content-length"]) == (200, str(len(DATA)))


async def test_the_addresses_are_listed_with_the_file_its_names_and_its_manifest(town):
    entry = await town.register(filename="reads 1.bam")
    await town.publish(entry, DATA, INDEX)
    found = await addresses(town, entry)
    listed = (await town.http.get(f"/files/{entry.name}/")).json()["names"]
    file = (await town.http.get(f"/files/{entry.name}")).json()
    for kind, address in found.items():
        assert [name["artifact_url"] for name in listed if name["kind"] == kind] == [town.url + address]
        assert file["artifact_urls"][kind] == town.url + address


async def test_a_completed_job_lists_them_and_a_batch_that_is_asked_for_them(town):
    entry = await town.register()
    accepted = (await town.http.get(f"/data/{entry.name}")).json()
    job = await town.run(accepted["job_id"])
    assert (await town.http.get(f"/jobs/{job.job_id}")).json()["parts"] == []
    manifest = await town.publish(entry, DATA, INDEX)
    await town.complete(job, manifest)
    found = await addresses(town, entry)
    parts = (await town.http.get(f"/jobs/{job.job_id}")).json()["parts"]
    assert {part["kind"]: part["artifact_url"] for part in parts} == {
        kind: town.url + address for kind, address in found.items()
    }
    batch = (await town.http.post("/batches", json={"files": [entry.name]})).json()
    await town.advance_batches()
    files = f"/batches/{batch['batch_id']}/files"
    assert (await town.http.get(files)).json()["files"][0]["artifact_urls"] is None
    (member,) = (await town.http.get(files, params={"artifacts": "true"})).json()["files"]
    assert member["artifact_urls"] == {kind: town.url + address for kind, address in found.items()}


async def test_what_is_not_at_the_address_is_404_and_nothing_is_started(published):
    town, entry, _ = published
    other = await town.register()
    await town.publish(other, b"other bytes", b"BAI\1other")
    cold = await town.register()
    address = (await addresses(town, entry))["data"]
    path, query = address.split("?")
    digest = path.split("/")[2]
    for wrong in (
        address.replace(digest, "0" * 64),
        address.replace(digest, digest.upper()),
        address.replace(digest, "x"),
        f"{path}.bai?{query}",
        f"{path}?of={other.name}",
        f"{path}?of={cold.name}",
        f"{path}?of=4dn/nobody",
    ):
        for method in ("GET", "HEAD"):
            answer = await town.http.request(method, wrong)
            assert answer.status_code == 404, wrong
    without = await town.http.get(path)
    assert (without.status_code, without.json()["field"]) == (422, "of")
    assert (await town.http.post(address)).status_code == 405


async def test_an_entry_that_is_taken_back_takes_its_address_along(hot_town):
    entry = await hot_town.register()
    manifest = await hot_town.publish(entry, DATA, INDEX)
    address = (await addresses(hot_town, entry))["data"]
    closed = await hot_town.register(local_id="closed", md5=entry.md5, data_access_level="protected")
    assert (await hot_town.http.get(address)).status_code == 200
    refused = await hot_town.http.get(address.split("?")[0], params={"of": closed.name})
    assert refused.status_code in (403, 404)
    assert manifest.part(Kind.DATA).sha256 in address


async def test_a_shared_cache_asks_again_after_minutes_and_learns_that_an_entry_is_no_longer_public(town):
    entry = await town.register()
    await town.publish(entry, DATA, INDEX)
    address = (await addresses(town, entry))["data"]
    first = await town.http.get(address)
    kept = {"If-None-Match": first.headers["etag"]}
    again = await town.http.get(address, headers=kept)
    assert (again.status_code, again.headers["cache-control"]) == (304, IMMUTABLE)
    closed = {**entry.to_json(), "data_access_level": "protected"}
    (await town.http.post("/files", json=closed, headers={"X-API-Key": "the-admin-key"})).raise_for_status()
    for headers in (kept, {**kept, "Range": "bytes=0-9"}, {}):
        refused = await town.http.get(address, headers=headers)
        assert (refused.status_code, refused.headers["cache-control"]) == (404, "no-store")


async def test_a_public_entry_read_with_a_credential_says_nothing_to_shared_caches(town):
    entry = await town.register()
    await town.publish(entry, DATA, INDEX)
    address = (await addresses(town, entry))["data"]
    for wanted in ({}, {"Range": "bytes=0-9"}):
        answer = await town.http.get(address, headers={"X-API-Key": "the-admin-key", **wanted})
        assert answer.headers["cache-control"] == "private, max-age=31536000, immutable, no-transform"


async def test_no_shared_cache_may_keep_what_is_not_for_everybody(town):
    entry = await town.register(data_access_level="consortium")
    await town.publish(entry, DATA, INDEX)
    key = {"X-API-Key": "the-admin-key"}
    view = (await town.http.get(f"/files/{entry.name}/manifest", headers=key)).json()
    for url in (f"/data/{entry.name}", view["parts"][0]["artifact_url"]):
        for wanted in ({}, {"Range": "bytes=0-9"}):
            answer = await town.http.get(url, headers={**key, **wanted})
            assert answer.is_success
            assert answer.headers["cache-control"].startswith("private, max-age=")
        assert (await town.http.get(url)).status_code in (403, 404)


# -- coded indexes


async def test_an_index_read_whole_is_gzip_coded_for_who_takes_that(published):
    town, entry, _ = published
    digest = hashlib.sha256(INDEX).hexdigest()
    for wanted in ("gzip", "deflate, gzip;q=0.5, br", "*"):
        answer = await town.http.get(f"/index/{entry.name}", headers={"Accept-Encoding": wanted})
        assert (answer.status_code, answer.content) == (200, INDEX)
        assert answer.headers["content-encoding"] == "gzip"
        assert answer.headers["etag"] == f'"{digest}-gzip"'
        assert "Accept-Encoding" in answer.headers["vary"]
        assert int(answer.headers["content-length"]) < len(INDEX) / 10
    for wanted in ("identity", "gzip;q=0", "gzip;q=0.000, br", "br"):
        plain = await town.http.get(f"/index/{entry.name}", headers={"Accept-Encoding": wanted})
        assert (plain.content, plain.headers["etag"]) == (INDEX, f'"{digest}"')
        assert "content-encoding" not in plain.headers
        assert "Accept-Encoding" in plain.headers["vary"]


async def test_the_coded_index_has_its_own_tag_and_head(published):
    town, entry, _ = published
    path, coding = f"/index/{entry.name}", {"Accept-Encoding": "gzip"}
    head = await town.http.head(path, headers=coding)
    get = await town.http.get(path, headers=coding)
    for name in ("etag", "content-encoding", "content-length", "vary"):
        assert head.headers[name] == get.headers[name]
    again = await town.http.get(path, headers={**coding, "If-None-Match": get.headers["etag"]})
    assert (again.status_code, again.headers["etag"]) == (304, get.headers["etag"])
    assert "Accept-Encoding" in again.headers["vary"]
    uncoded = f'"{hashlib.sha256(INDEX).hexdigest()}"'
    known = await town.http.get(path, headers={**coding, "If-None-Match": uncoded})
    assert (known.status_code, known.headers["etag"]) == (304, uncoded)


@pytest.mark.parametrize(
    "about_the_bytes",
    [{"Range": "bytes=0-99"}, {"If-Range": '"x"'}, {"If-Range": '"x"', "Range": "bytes=5-"}],
)
async def test_a_range_of_an_index_is_never_coded(published, about_the_bytes):
    town, entry, _ = published
    for _ in range(3):
        answer = await town.http.get(
            f"/index/{entry.name}", headers={"Accept-Encoding": "gzip", **about_the_bytes}
        )
        assert "content-encoding" not in answer.headers
        assert "Accept-Encoding" in answer.headers["vary"]
        assert answer.content == (INDEX[:100] if answer.status_code == 206 else INDEX)


async def test_data_and_what_coding_would_not_make_shorter_are_sent_as_they_are(hot_town):
    entry = await hot_town.register()
    packed = gzip.compress(random.Random(3).randbytes(50_000))
    await hot_town.publish(entry, bytes(100_000), packed, index_name=f"{entry.filename}.csi")
    for path in (f"/data/{entry.name}", f"/index/{entry.name}"):
        answer = await hot_town.http.get(path, headers={"Accept-Encoding": "gzip"})
        assert (answer.status_code, "content-encoding" in answer.headers) == (200, False)


async def test_a_coded_index_that_is_gone_from_the_cache_is_not_served_from_memory(town):
    entry = await town.register()
    manifest = await town.publish(entry, DATA, INDEX)
    path, coding = f"/index/{entry.name}", {"Accept-Encoding": "gzip"}
    assert (await town.http.get(path, headers=coding)).status_code == 200
    for part in manifest.parts:
        await town.cache.delete(part.key)
    await town.cache.delete(manifest.parts[0].key.rpartition("/")[0] + "/manifest.json")
    assert (await town.http.get(path, headers=coding)).status_code == 202
