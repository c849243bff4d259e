"""ARTIFACT_DELIVERY=redirect: a 307 that may be kept, and what is at its end."""

from __future__ import annotations

import base64
import hashlib
import random
from urllib.parse import parse_qs, urlsplit

import pytest

from gooseherd.api.artifact_delivery import ArtifactDelivery
from gooseherd.domain.artifact import Kind

DATA = random.Random(7).randbytes(300_000)
VIEWER = {"Origin": "https://viewer.example", "Sec-Fetch-Mode": "cors"}
ELSEWHERE = "https://bytes.example.org/herd"


async def published(build, delivery, **fields):
    town = await build(delivery=delivery)
    entry = await town.register(**fields)
    return town, entry, await town.publish(entry, DATA)


@pytest.mark.parametrize("headers", [VIEWER, {}])
async def test_a_redirect_may_be_kept_for_minutes_and_leads_to_bytes_that_may_be_kept_for_good(
    build_hot_town, headers
):
    town, entry, _ = await published(build_hot_town, ArtifactDelivery(mode="redirect"))
    ranged = {**headers, "Range": "bytes=1000-1999"}
    first = await town.http.get(f"/data/{entry.name}", headers=ranged)
    assert (first.status_code, first.content) == (307, b"")
    assert first.headers["cache-control"] == "public, max-age=300"
    assert first.headers["access-control-allow-origin"] == "*"
    location = first.headers["location"]
    assert location.startswith("/artifacts/" if headers else f"{town.url}/artifacts/")
    second = await town.http.get(location, headers=ranged)
    assert (second.status_code, second.content) == (206, DATA[1000:2000])
    assert "immutable" in second.headers["cache-control"]
    assert second.headers["access-control-allow-origin"] == "*"


async def test_names_and_indexes_lead_on_as_well(build_hot_town):
    town, entry, _ = await published(build_hot_town, ArtifactDelivery(mode="redirect"))
    for path in (f"/files/{entry.name}/{entry.filename}", f"/index/{entry.name}"):
        answer = await town.http.get(path, follow_redirects=True)
        assert (answer.status_code, [one.status_code for one in answer.history]) == (200, [307])


@pytest.mark.parametrize("headers", [VIEWER, {}])
async def test_a_token_in_the_address_is_kept_and_opens_the_second_hop(build_town, headers):
    delivery = ArtifactDelivery(mode="redirect")
    town, entry, _ = await published(build_town, delivery, data_access_level="protected")
    wanted, key = {"file": entry.name}, {"X-API-Key": "the-admin-key"}
    token = (await town.http.post("/tokens", json=wanted, headers=key)).json()["token"]
    first = await town.http.get(f"/data/{entry.name}", params={"token": token}, headers=headers)
    assert (first.status_code, first.headers["cache-control"]) == (307, "private, max-age=300")
    location = first.headers["location"]
    assert parse_qs(urlsplit(location).query)["token"] == [token]
    for _ in range(2):
        second = await town.http.get(location, headers={**headers, "Range": "bytes=0-99"})
        assert (second.status_code, second.content) == (206, DATA[:100])
        assert second.headers["cache-control"].startswith("private")
        assert (await town.http.get(location.partition("&token=")[0])).status_code in (403, 404)


async def test_a_token_goes_to_nobody_else(build_town):
    delivery = ArtifactDelivery(mode="redirect", base_url=ELSEWHERE, secret="s3cret")
    town, entry, _ = await published(build_town, delivery, data_access_level="protected")
    wanted, key = {"file": entry.name}, {"X-API-Key": "the-admin-key"}
    token = (await town.http.post("/tokens", json=wanted, headers=key)).json()["token"]
    answer = await town.http.get(f"/data/{entry.name}", params={"token": token})
    assert answer.status_code == 307
    assert token not in answer.headers["location"]


async def test_whoever_has_the_bytes_is_told_so_at_the_first_hop(build_hot_town):
    town, entry, manifest = await published(build_hot_town, ArtifactDelivery(mode="redirect"))
    etag = manifest.part(Kind.DATA).etag
    answer = await town.http.get(f"/data/{entry.name}", headers={"If-None-Match": etag})
    assert (answer.status_code, answer.headers["etag"]) == (304, etag)


async def test_head_is_answered_here(build_hot_town):
    town, entry, _ = await published(build_hot_town, ArtifactDelivery(mode="redirect"))
    answer = await town.http.head(f"/data/{entry.name}")
    assert (answer.status_code, answer.headers["content-length"]) == (200, str(len(DATA)))


async def test_elsewhere_is_the_objects_key_below_the_address(build_hot_town):
    delivery = ArtifactDelivery(mode="redirect", base_url=ELSEWHERE + "/", redirect_seconds=60)
    town, entry, manifest = await published(build_hot_town, delivery)
    answer = await town.http.get(f"/data/{entry.name}")
    assert answer.headers["location"] == f"{ELSEWHERE}/{manifest.part(Kind.DATA).key}"
    assert answer.headers["cache-control"] == "public, max-age=60"


async def test_a_file_that_is_not_public_never_leads_to_an_open_address(build_town):
    town, entry, _ = await published(
        build_town, ArtifactDelivery(mode="redirect", base_url=ELSEWHERE), data_access_level="protected"
    )
    answer = await town.http.get(f"/data/{entry.name}", headers={"X-API-Key": "the-admin-key"})
    assert (answer.status_code, answer.content) == (200, DATA)


async def test_with_a_secret_the_address_is_signed_for_a_time_and_stays_the_same(build_town):
    delivery = ArtifactDelivery(mode="redirect", base_url=ELSEWHERE, secret="s3cret", redirect_seconds=3600)
    town, entry, manifest = await published(build_town, delivery, data_access_level="protected")
    key = {"X-API-Key": "the-admin-key"}
    answer = await town.http.get(f"/data/{entry.name}", headers=key)
    assert answer.headers["cache-control"] == "private, max-age=3600"
    url = urlsplit(answer.headers["location"])
    query = parse_qs(url.query)
    assert url.path == f"/herd/{manifest.part(Kind.DATA).key}"
    # As nginx computes it: secure_link_md5 "$secure_link_expires$uri SECRET".
    digest = hashlib.md5(f"{query['expires'][0]}{url.path} s3cret".encode()).digest()
    assert query["signature"] == [base64.urlsafe_b64encode(digest).rstrip(b"=").decode()]
    again = await town.http.get(f"/data/{entry.name}", headers=key)
    assert again.headers["location"] == answer.headers["location"]


async def test_addresses_that_the_storage_signs_are_kept_as_long_as_their_redirects(build_hot_town):
    class Signing:
        asked = 0

        async def signed_url(self, key, seconds):
            self.asked += 1
            return f"https://bucket.example.org/{key}?for={seconds}"

    signing = Signing()
    town, entry, manifest = await published(
        build_hot_town, ArtifactDelivery(mode="redirect", signed=signing, redirect_seconds=100)
    )
    for _ in range(3):
        location = (await town.http.get(f"/data/{entry.name}")).headers["location"]
        assert location == f"https://bucket.example.org/{manifest.part(Kind.DATA).key}?for=300"
    assert signing.asked == 1


async def test_what_is_not_made_yet_is_answered_as_ever(build_town):
    town = await build_town(delivery=ArtifactDelivery(mode="redirect"))
    entry = await town.register()
    assert (await town.http.get(f"/data/{entry.name}")).status_code == 202
