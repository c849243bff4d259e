"""gooseherd.js in a page of another origin: it waits, tells how far things are, and survives a restart."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.browser.driver import Driver, Tab
from tests.browser.service import Herd, Origin

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]


@pytest.fixture
def tab(chromium: Driver, herd: Herd, pages: str) -> Iterator[Tab]:
    """A page of a portal that has loaded the script."""
    with chromium.tab() as tab:
        tab.open(pages)
        tab.value(f"import('{herd.url}/static/gooseherd-1.js').then(loaded => {{ window.herd = loaded }})")
        tab.value("void (window.seen = [])")
        yield tab


def wait_for(tab: Tab, *urls: str, options: str = "") -> None:
    tab.value(
        f"void herd.ready({list(urls)!r}, {{ onProgress: one => seen.push(one), {options} }}).then("
        "() => { window.end = 'ready' }, error => { window.end = `${error.name}: ${error.reason}` })"
    )


def test_data_and_index_are_waited_for_through_a_restart(tab: Tab, herd: Herd, origin: Origin) -> None:
    names = herd.names(herd.register("models.gtf"))
    origin.let_go.clear()
    try:
        tab.value(
            "void (document.body.innerHTML = "
            f"""'<gooseherd-progress src="{names["data"]} {names["index"]}"></gooseherd-progress>')"""
        )
        wait_for(tab, names["data"], names["index"])
        tab.until("seen.some(one => one.status === 'running' && one.text.includes('%'))", 60)
        tab.until("document.querySelector('gooseherd-progress').shadowRoot.textContent.includes('%')", 60)
        herd.away()
        tab.until("seen.at(-1).status === 'unreachable'", 60)
        herd.back()
    finally:
        origin.let_go.set()
    tab.until("window.end === 'ready'", 60)
    tab.until("document.querySelector('gooseherd-progress').shadowRoot.textContent.includes('ready')", 60)
    seen = tab.value("[...new Set(seen.map(one => one.url))]")
    assert sorted(seen) == sorted([names["data"], names["index"]])
    # One byte of each, and never a request that is held.
    asked = [one for one in tab.requests if one["url"].startswith(f"{herd.url}/files/")]
    assert {one["range"] for one in asked} == {"bytes=0-0"}
    assert {one["hops"] for one in asked} == {0}


def test_a_file_that_cannot_be_made_rejects_with_its_reason(tab: Tab, herd: Herd, sources: Path) -> None:
    (sources / "broken.gff3").write_text("this is no GFF\n")
    wait_for(tab, herd.names(herd.register("broken.gff3"))["data"])
    tab.until("window.end", 60)
    assert tab.value("end") == "NotReady: source_invalid"
    tab.value("void (window.end = '')")
    wait_for(tab, f"{herd.url}/data/lab/none")
    tab.until("window.end", 60)
    assert tab.value("end") == "NotReady: not-found"


def test_the_waiting_ends_with_its_signal_and_the_work_goes_on(tab: Tab, herd: Herd, origin: Origin) -> None:
    local_id = herd.register("peaks.narrowPeak")
    origin.let_go.clear()
    try:
        tab.value("void (window.stop = new AbortController())")
        wait_for(tab, herd.names(local_id)["data"], options="signal: stop.signal")
        tab.until("seen.length > 0", 60)
        tab.value("stop.abort()")
        tab.until("window.end", 10)
        assert tab.value("end").startswith("AbortError")
    finally:
        origin.let_go.set()
    herd.until(
        lambda: herd.get(f"/data/lab/{local_id}/status").json()["ready"], "the file that nobody waits for"
    )


def test_a_track_is_what_its_viewer_needs(tab: Tab, herd: Herd) -> None:
    local_id = herd.register("signal.bw")
    spec = tab.value(f"herd.track('igv', 'lab/{local_id}')")
    assert spec["tracks"][0]["format"] == "bigwig"
    assert isinstance(tab.value(f"herd.track('shell', 'lab/{local_id}')"), str)
    assert "no file 'lab/none'" in tab.value("herd.track('igv', 'lab/none').catch(error => error.message)")
