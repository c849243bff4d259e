"""The pages and what they load: cached for good by name, compressed once, and nothing from elsewhere."""

from __future__ import annotations

import gzip
import re

import pytest

from gooseherd.api.artifact_delivery import ArtifactDelivery
from gooseherd.api.static_files import FOLDER, page_policy

AS_BROWSER = {"Accept": "text/html,*/*;q=0.8", "Accept-Encoding": "gzip, deflate, br, zstd"}


def loaded(page: str) -> list[str]:
    return re.findall(r'(?:src|href)="(static/[^"]+)"', page)


@pytest.mark.parametrize("path", ["/", "/docs"])
async def test_a_browser_gets_a_page_whose_scripts_are_files_of_ours(town, path):
    page = await town.http.get(path, headers=AS_BROWSER)
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    policy = page.headers["content-security-policy"]
    assert "default-src 'self'" in policy
    assert "script-src" not in policy  # the default's: no inline script, no eval
    assert page.headers["referrer-policy"] == "no-referrer"
    assert page.headers["x-content-type-options"] == "nosniff"
    assert page.headers["cache-control"] == "no-cache"
    assert not re.search(r"<script(?![^>]* src=)", page.text)
    assert "://" not in page.text
    assert loaded(page.text)
    for name in loaded(page.text):
        file = await town.http.get(f"/{name}", headers=AS_BROWSER)
        assert (file.status_code, file.headers["cache-control"]) == (
            200,
            "public, max-age=31536000, immutable",
        )
        assert file.headers["content-encoding"] == "gzip"


async def test_a_program_gets_the_files_bytes_when_it_takes_no_gzip(town):
    plain = await town.http.get("/static/gooseherd.js", headers={"Accept-Encoding": "gzip;q=0, identity"})
    assert "content-encoding" not in plain.headers
    assert plain.content == (FOLDER / "gooseherd.js").read_bytes()
    assert int(plain.headers["content-length"]) == len(plain.content)
    packed = await town.http.get("/static/gooseherd.js")
    assert packed.content == plain.content
    assert packed.headers["vary"].startswith("Accept-Encoding")
    assert packed.headers["etag"] != plain.headers["etag"]


async def test_what_a_browser_has_is_not_sent_again(town):
    first = await town.http.get("/", headers=AS_BROWSER)
    again = await town.http.get("/", headers=AS_BROWSER | {"If-None-Match": first.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")
    assert again.headers["etag"] == first.headers["etag"]


async def test_head_has_the_headers_and_no_body(town):
    got = await town.http.get("/static/gooseherd.js")
    head = await town.http.head("/static/gooseherd.js")
    assert head.content == b""
    assert head.headers["content-length"] == got.headers["content-length"]
    assert head.headers["etag"] == got.headers["etag"]


@pytest.mark.parametrize("name", ["no.js", "", "../app.py", "..%5capp.py", "index.html/", "__init__.py", "."])
async def test_nothing_but_the_files_of_the_build_is_served(town, name):
    assert (await town.http.get(f"/static/{name}")).status_code in (400, 404)


async def test_other_methods_are_refused(town):
    refused = await town.http.post("/static/gooseherd.js", content=b"")
    assert (refused.status_code, refused.headers["allow"]) == (405, "GET, HEAD, OPTIONS")


async def test_scripts_of_other_pages_may_load_the_client(town):
    got = await town.http.get("/static/gooseherd-1.js", headers={"Origin": "https://portal.example.org"})
    assert got.headers["access-control-allow-origin"] == "*"
    assert got.headers["cross-origin-resource-policy"] == "cross-origin"
    assert got.headers["content-type"].startswith("text/javascript")


def test_the_client_and_the_page_are_small():
    sizes = {path.name: len(gzip.compress(path.read_bytes(), 9)) for path in FOLDER.iterdir()}
    page = sum(
        size for name, size in sizes.items() if name == "index.html" or re.match(r"page-.*\.(js|css)", name)
    )
    print(f"gzip: gooseherd.js {sizes['gooseherd.js']}, the page without a viewer {page}")
    assert sizes["gooseherd.js"] < 4_000
    assert page < 60_000


def test_igv_asks_its_own_site_for_no_other_address_of_what_cannot_be_read():
    (igv,) = FOLDER.glob("igv-*.js")
    assert "url_mappings" not in igv.read_text(encoding="utf-8")


def test_licences_are_beside_what_they_are_of():
    text = (FOLDER / "licenses.txt").read_text(encoding="utf-8")
    for package in ("preact 1", "@preact/signals 2", "igv 3", "rapidoc 9"):
        assert f"\n{package}" in text


def test_pages_may_read_files_from_where_requests_for_them_are_redirected():
    elsewhere = ArtifactDelivery(mode="redirect", base_url="https://cdn.example.org:8443/artifacts?")
    assert b"connect-src 'self' data: blob: https://cdn.example.org:8443;" in page_policy(elsewhere)
    assert b"connect-src 'self' data: blob:;" in page_policy(ArtifactDelivery())
