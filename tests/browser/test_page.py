"""The page at /: what a person does with it, in Chromium."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from tests.browser.driver import Driver, Tab
from tests.browser.service import Herd, Origin

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]


@pytest.fixture
def tab(chromium: Driver) -> Iterator[Tab]:
    with chromium.tab() as tab:
        yield tab


@pytest.fixture
def keep(tmp_path: Path) -> Any:
    """Keep a picture where somebody wants to see them."""

    def picture(tab: Tab, name: str) -> None:
        if folder := os.environ.get("GOOSEHERD_SCREENSHOTS"):
            tab.picture(Path(folder) / f"page-{name}.png")

    return picture


def row(local_id: str) -> str:
    return f'.scroll [role=row]:has([title$="(lab/{local_id})"])'


def nothing_left_the_host(tab: Tab, herd: Herd) -> bool:
    elsewhere = [
        one["url"] for one in tab.requests if not one["url"].startswith((f"{herd.url}/", "data:", "blob:"))
    ]
    blocked = [line for line in tab.console if "Content Security Policy" in line]
    assert elsewhere == []
    assert blocked == []
    return True


def test_a_file_is_added_by_its_address_and_opened(tab: Tab, herd: Herd, origin: Origin, keep: Any) -> None:
    tab.open(f"{herd.url}/?dcc=nobody")
    tab.until_text("no file matches")
    tab.open(herd.url)
    tab.until_text("Add a file")
    tab.press("a")
    tab.until("document.activeElement.placeholder?.startsWith('https://')")
    tab.write(f"{origin.url}/regions.bed")
    keep(tab, "add")
    tab.press("Enter")
    tab.until_text("A key is needed", "dialog[aria-label='A key is needed']")
    tab.write("wrong", "input[type=password]")
    tab.press("Enter")
    tab.until_text("not the right one")
    tab.write("key", "input[type=password]")
    tab.press("Enter")
    tab.until_text("regions.bed", ".scroll")
    tab.until("location.search.startsWith('?files=local/regions.bed')")
    tab.until_text("ready", ".scroll", 60)
    keep(tab, "added")
    assert tab.value("sessionStorage.length") == 1
    assert tab.value("localStorage.length") == 0
    assert nothing_left_the_host(tab, herd)


def test_a_file_is_prepared_and_watched_until_it_is_ready(
    tab: Tab, herd: Herd, origin: Origin, keep: Any
) -> None:
    local_id = herd.register("many.sam")
    origin.let_go.clear()
    try:
        tab.open(f"{herd.url}/?dcc=lab")
        tab.until_text("not prepared", row(local_id))
        tab.value(f"document.querySelector({row(local_id)!r}).focus()")
        tab.press("p")
        tab.until(f"document.querySelector({row(local_id)!r}).querySelector('progress')")
        tab.until_text("%", row(local_id))
        keep(tab, "watching")
    finally:
        origin.let_go.set()
    tab.until_text("ready", row(local_id), 60)
    assert nothing_left_the_host(tab, herd)


def test_several_files_are_prepared_as_a_batch_and_one_that_fails_says_why(
    tab: Tab, herd: Herd, keep: Any, sources: Path
) -> None:
    (sources / "broken.vcf").write_text("this is no VCF\n")
    good, bad = herd.register("calls.vcf"), herd.register("broken.vcf")
    tab.open(f"{herd.url}/?dcc=lab")
    for local_id in (good, bad):
        tab.until_text("not prepared", row(local_id))
        tab.click(f"{row(local_id)} input")
    tab.until_text("2 selected", ".selection")
    tab.click(".selection button.main")
    tab.until_text("ready", row(good), 60)
    tab.until_text("failed: ", row(bad), 60)
    assert tab.value(f"document.querySelector({row(bad)!r}).innerText").strip().endswith("Open")
    keep(tab, "failed")
    tab.until_text("The batch of 2 files has ended.", ".notice")
    tab.click("header nav button:nth-child(2)")
    tab.until_text("1 of 2 ready, 1 failed", ".batches")
    keep(tab, "jobs")
    before = len(herd.jobs("failed"))
    tab.click("button[aria-label='Retry lab/" + bad + "']")
    herd.until(lambda: len(herd.jobs("failed")) > before, "the new try")
    tab.until("document.querySelectorAll('tbody .bad').length > 1")


def test_a_job_is_cancelled_from_its_row(tab: Tab, herd: Herd, origin: Origin) -> None:
    local_id = herd.register("mapped.bam")
    origin.let_go.clear()
    try:
        tab.open(f"{herd.url}/?q={local_id}")
        tab.until_text("not prepared", row(local_id))
        tab.value(f"document.querySelector({row(local_id)!r}).focus()")
        tab.press("p")
        tab.click(f"{row(local_id)} button[aria-label^=Cancel]")
        tab.until_text("not prepared", row(local_id), 60)
        assert herd.jobs("cancelled")
    finally:
        origin.let_go.set()


def test_the_page_says_that_the_service_is_away_and_goes_on_when_it_is_back(
    tab: Tab, herd: Herd, origin: Origin, keep: Any
) -> None:
    local_id = herd.register("reads.sam")
    origin.let_go.clear()
    try:
        tab.open(f"{herd.url}/?q={local_id}")
        tab.until_text("not prepared", row(local_id))
        tab.value(f"document.querySelector({row(local_id)!r}).focus()")
        tab.press("p")
        tab.until_text("%", row(local_id))
        herd.away()
        tab.until_text("The service does not answer", ".banner", 60)
        keep(tab, "away")
    finally:
        herd.back()
        origin.let_go.set()
    tab.until("!document.querySelector('.banner')", 60)
    tab.until_text("ready", row(local_id), 90)


def drop(files: str) -> str:
    """An expression that drops files onto the page; `files` are arguments of File, in JavaScript."""
    return (
        "(made => { const data = new DataTransfer(); made.forEach(one => data.items.add(new File(...one)));"
        "const how = { dataTransfer: data, bubbles: true, cancelable: true };"
        "document.body.dispatchEvent(new DragEvent('drop', how))"
        f"}})([{files}])"
    )


def test_files_that_are_dropped_become_entries_are_opened_and_removed_with_them(
    tab: Tab, herd: Herd, sources: Path, keep: Any
) -> None:
    content = json.dumps((sources / "regions.bed").read_text())
    tab.open(f"{herd.url}/?dcc=local&at=chr1:90001-110000")
    tab.until("document.querySelector('.count')?.innerText")
    tab.value(drop(f"[[{content}], 'dropped.bed'], [['x'], 'notes.docx']"))
    tab.until_text("added as local/dropped.bed", ".uploads")
    tab.until_text("gives no known format", ".uploads .bad")
    shown = "document.querySelector('.igv')?.shadowRoot"
    tab.until(f"{shown}?.textContent.includes('dropped.bed')", 90)
    keep(tab, "uploaded")
    stored = list((herd.home / "state/uploads/files").glob("*/dropped.bed"))
    assert [path.read_text() for path in stored] == [json.loads(content)]
    place = '.scroll [role=row]:has([title$="(local/dropped.bed)"])'
    tab.click(f"{place} input")
    tab.click(".selection button:nth-last-child(2)")
    tab.until_text("Remove this file?", "dialog")
    tab.click("dialog button.main")
    tab.until("document.querySelector('input[type=password]')")
    tab.write("key", "input[type=password]")
    tab.press("Enter")
    tab.until(f"!document.querySelector({place!r})")
    assert not stored[0].exists()
    assert nothing_left_the_host(tab, herd)


def test_a_folder_is_dropped_with_what_lies_below_and_what_is_no_data_is_left_out(
    tab: Tab, herd: Herd
) -> None:
    """The entries of a folder as browsers give them; they cannot be made by a script otherwise."""
    tab.open(f"{herd.url}/?dcc=local&q=below")
    tab.until("document.querySelector('.count')?.innerText")
    tab.value(
        """(() => {
            const file = name => ({ name, isFile: true, isDirectory: false,
                file: done => done(new File(['chr1\\t1\\t9\\n' + name], name)) })
            const folder = (name, ...inside) => ({ name, isFile: false, isDirectory: true,
                createReader: () => {
                const pages = [inside, []]
                return { readEntries: done => done(pages.shift()) }
            } })
            const top = folder('top', file('below1.bed'), file('.below.bed'), file('below.docx'),
                folder('deep', file('below2.bed')))
            const event = new Event('drop', { bubbles: true, cancelable: true })
            const data = { types: ['Files'], items: [{ webkitGetAsEntry: () => top }], files: [] }
            Object.defineProperty(event, 'dataTransfer', { value: data })
            document.body.dispatchEvent(event)
        })()"""
    )
    tab.until_text("One file of no known format was left out.", ".notice", 60)
    tab.until_text("added as local/below1.bed", ".uploads")
    tab.until_text("added as local/below2.bed", ".uploads")
    assert tab.value("document.querySelectorAll('.uploads .batch').length") == 2


def test_an_upload_goes_on_after_a_restart_of_the_service(tab: Tab, herd: Herd) -> None:
    tab.open(f"{herd.url}/?dcc=local")
    tab.until("document.querySelector('.count')?.innerText")
    tab.value(drop("[Array(25).fill('chrom,start,end\\n'.repeat(500_000)), 'large.csv']"))
    tab.until("/^[1-9][0-9]? %$/.test(document.querySelector('.uploads .batch > .dim')?.innerText ?? '')")
    herd.away()
    try:
        tab.until_text("interrupted", ".uploads", 60)
    finally:
        herd.back()
    tab.until_text("added as local/large.csv", ".uploads", 120)
    (stored,) = (herd.home / "state/uploads/files").glob("*/large.csv")
    assert stored.stat().st_size == 25 * 500_000 * 16


def test_an_upload_goes_on_when_the_page_was_closed_and_the_file_is_dropped_again(
    tab: Tab, herd: Herd
) -> None:
    large = drop("[Array(25).fill('chrom,start,end\\n'.repeat(500_000)), 'again.csv', {lastModified: 1}]")
    records = herd.home / "state/uploads/unfinished"
    tab.open(f"{herd.url}/?dcc=local")
    tab.until("document.querySelector('.count')?.innerText")
    tab.value(large)
    tab.until("/^[1-9][0-9]? %$/.test(document.querySelector('.uploads .batch > .dim')?.innerText ?? '')")
    # Who leaves is asked; and leaves.
    assert tab.value("dispatchEvent(new Event('beforeunload', { cancelable: true }))") is False
    tab.value("void (Event.prototype.preventDefault = () => undefined)")
    tab.open(f"{herd.url}/?dcc=local&again=1")
    tab.until("document.querySelector('.count')?.innerText")
    (begun,) = [path for path in records.glob("*.json") if "again.csv" in path.read_text()]
    tab.value(large)
    tab.until_text("added as local/again.csv", ".uploads", 120)
    assert [path for path in records.glob("*.json") if "again.csv" in path.read_text()] == [begun]
    (stored,) = (herd.home / "state/uploads/files").glob("*/again.csv")
    assert stored.parent.name == begun.stem
    assert tab.value("localStorage.getItem('uploads')") == "[]"


def test_changes_come_by_one_stream_and_nothing_is_asked_again_and_again(tab: Tab, herd: Herd) -> None:
    local_id = herd.register("calls.vcf")
    tab.open(f"{herd.url}/?dcc=lab&q=f")
    tab.until_text("not prepared", row(local_id))
    asked = len(tab.requests)
    herd.get(f"/data/lab/{local_id}?wait=50")
    tab.until_text("ready", row(local_id), 60)
    other = herd.register("regions.bed")
    tab.until(f"document.querySelector({row(other)!r})")
    paths = [one["url"].removeprefix(herd.url).partition("?")[0] for one in tab.requests[asked:]]
    assert paths.count("/jobs") <= 1
    assert len(paths) < 25, paths


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("width", [1200, 360])
def test_axe_finds_nothing_to_mend(
    tab: Tab, herd: Herd, bundle: Path, keep: Any, dark: bool, width: int
) -> None:
    """WCAG 2.2 A and AA, and axe's own advice."""
    for name in ("regions.bed", "genes.gff3"):
        herd.register(name)
    tab.look(dark=dark, width=width)
    tab.open(f"{herd.url}/?dcc=lab")
    tab.until("document.querySelectorAll('.scroll [role=row]').length > 1")
    tab.until_text("not prepared", ".scroll")
    tab.load(bundle / "axe.js")
    found = {}

    def check(name: str) -> None:
        keep(tab, f"{name}-{'dark' if dark else 'light'}-{width}")
        assert tab.value("document.documentElement.scrollWidth") == width
        violations = tab.value("axe.run().then(({ violations }) => violations)")
        found[name] = [(one["id"], [node["html"][:150] for node in one["nodes"][:3]]) for one in violations]

    tab.click(".scroll [role=row] input")
    check("files")
    for view, name in ((2, "jobs"), (3, "queue")):
        tab.click(f"header nav button:nth-child({view})")
        tab.until("document.querySelector('main h2')")
        check(name)
    tab.click("header nav button:nth-child(1)")
    tab.press("?")
    tab.until("document.querySelector('dialog')")
    check("keys")
    tab.press("Escape")
    tab.press("a")
    tab.until("document.querySelector('dialog form')")
    check("add")
    tab.press("Escape")
    tab.click(".selection button:nth-last-child(2)")
    tab.until("document.querySelector('dialog')")
    check("remove")
    tab.press("Escape")
    tab.value(
        "[...document.querySelectorAll('header button')].find(one => one.innerText === 'Use a key').click()"
    )
    tab.until("document.activeElement.type === 'password'")
    check("key")
    tab.press("Escape")
    tab.value("void (window.fetch = () => Promise.reject(new TypeError('away')))")
    tab.write("x", "#search")
    tab.until("document.querySelector('.banner')")
    check("away")
    assert {name: faults for name, faults in found.items() if faults} == {}


def test_the_keyboard_goes_through_the_list_and_to_the_search(tab: Tab, herd: Herd) -> None:
    ids = [herd.register("regions.bed") for _ in range(3)]
    tab.open(f"{herd.url}/?dcc=lab&format=bed")
    tab.until(f"document.querySelectorAll('.scroll [role=row]').length >= {len(ids)}")
    tab.press("/")
    tab.until("document.activeElement.id === 'search'")
    tab.write(ids[1])
    tab.until("document.querySelectorAll('.scroll [role=row]').length === 1")
    assert f"q={ids[1]}" in tab.value("location.search")
    for _ in range(6):  # collection, format, state, clear, all of the list, its current row
        tab.press("Tab")
    tab.until("document.activeElement.role === 'row'")
    tab.press("Space")
    tab.until_text("1 selected")
    tab.press("Enter")
    tab.until(f"location.search.includes('files=lab/{ids[1]}')")


def test_a_list_of_100_000_entries_is_there_at_once_and_scrolls_without_a_gap(
    chromium: Driver, origin: Origin, tmp_path_factory: pytest.TempPathFactory
) -> None:
    from tests.browser.service import running

    with running(tmp_path_factory.mktemp("large"), origin) as herd, chromium.tab() as tab:
        for start in range(0, 100_000, 20_000):
            lines = "".join(
                json.dumps(
                    {
                        "dcc": "4dn" if number % 2 else "encode",
                        "local_id": f"file{number:06}",
                        "filename": f"sample{number:06}.bam",
                        "access_url": f"{origin.url}/mapped.bam",
                        "version_tag": f"v{number}",
                    }
                )
                + "\n"
                for number in range(start, start + 20_000)
            )
            with httpx.Client(trust_env=False, timeout=120) as http:
                done = http.post(f"{herd.url}/files/import", content=lines, headers={"X-API-Key": "key"})
            assert done.json()["imported"] == 20_000, done.text
        tab.open(herd.url)
        tab.until("document.querySelectorAll('.scroll [role=row]').length > 10")
        first = tab.value(
            "performance.getEntriesByType('resource').find(one => one.name.includes('/files?')).responseEnd"
        )
        painted = tab.value("performance.getEntriesByName('first-contentful-paint')[0]?.startTime")
        drawn = tab.value("performance.getEntriesByName('list')[0].startTime")
        print(f"first paint {painted:.0f} ms, list read {first:.0f} ms, drawn {drawn:.0f} ms after the start")
        # Each step is a screen further; where a row should be there has to be one, within two frames.
        gaps = tab.value(
            """(async () => {
                const box = document.querySelector('.scroll')
                const frame = () => new Promise(requestAnimationFrame)
                let gaps = 0, times = [], before = performance.now()
                for (let step = 0; step < 120; step += 1) {
                    box.scrollTop += box.clientHeight
                    await frame(); await frame()
                    times.push(performance.now() - before); before = performance.now()
                    const { left, top, height } = box.getBoundingClientRect()
                    for (let y = top + 5; y < top + height; y += 40)
                        if (!document.elementFromPoint(left + 100, y)?.closest('[role=row]')) gaps += 1
                }
                times.sort((a, b) => a - b)
                const rows = document.querySelectorAll('.scroll [role=row]').length
                return { gaps, top: box.scrollTop, median: times[60], longest: times[119], rows }
            })()"""
        )
        print(gaps)
        assert gaps["gaps"] == 0
        assert gaps["rows"] < 100
        assert gaps["top"] > 34 * 1000
        tab.write("file0999", "#search")
        tab.until("document.querySelector('.count').innerText === '100 files'")


def test_who_scrolls_while_the_list_is_read_again_finds_its_end(
    chromium: Driver, origin: Origin, tmp_path_factory: pytest.TempPathFactory
) -> None:
    from tests.browser.service import running

    def entry(number: int) -> str:
        named = {"dcc": "4dn", "local_id": f"file{number:03}", "filename": f"sample{number:03}.bam"}
        return json.dumps(named | {"access_url": f"{origin.url}/mapped.bam", "version_tag": "v1"}) + "\n"

    def add(herd: Any, lines: str) -> None:
        done = httpx.post(
            f"{herd.url}/files/import", content=lines, headers={"X-API-Key": "key"}, trust_env=False
        )
        assert done.status_code == 200, done.text

    with running(tmp_path_factory.mktemp("sixty"), origin) as herd, chromium.tab() as tab:
        add(herd, "".join(map(entry, range(60))))  # as many as are read at once
        tab.open(herd.url)
        height = "document.querySelector('.scroll [role=rowgroup]').style.height"
        tab.until(f"{height} === '{60 * 34}px'")
        tab.value(
            """(() => {
                const real = window.fetch
                window.asked = 0
                window.fetch = async (...request) => {
                    if (String(request[0]).includes('files?')) {
                        window.asked += 1
                        await new Promise(done => setTimeout(done, 1000))
                    }
                    return real(...request)
                }
            })()"""
        )
        add(herd, entry(60))
        tab.until("window.asked > 0")
        tab.value("document.querySelector('.scroll').scrollTop = 1e6")
        tab.until(f"{height} === '{61 * 34}px'")


def test_the_documentation_of_the_api_is_drawn_without_the_internet(tab: Tab, herd: Herd, keep: Any) -> None:
    tab.open(f"{herd.url}/docs")
    inside = "document.querySelector('rapi-doc')?.shadowRoot?.textContent ?? ''"
    tab.until(f"({inside}).includes('/jobs/{{job_id}}')", 60)
    keep(tab, "docs")
    assert [one["status"] for one in tab.requests if one["status"] >= 400] == []
    assert nothing_left_the_host(tab, herd)


def test_a_region_is_opened_panned_and_shared_by_its_address(chromium: Driver, herd: Herd, keep: Any) -> None:
    reads, calls = herd.register("mapped.bam"), herd.register("calls.vcf")
    shown = "document.querySelector('.igv')?.shadowRoot"
    with chromium.tab() as tab:
        tab.open(f"{herd.url}/?dcc=lab&at=chr1:90001-110000")
        tab.until_text("not prepared", row(reads))
        before = [one["url"] for one in tab.requests if "/static/igv-" in one["url"]]
        assert before == []  # 432 kB, only for who opens a region
        for local_id in (reads, calls):
            tab.click(f"{row(local_id)} [aria-label^=Open]")
        tab.until(f"{shown}?.textContent.includes('calls.vcf')", 90)
        tab.until(f"{shown}?.textContent.includes('mapped.bam, density')", 60)
        herd.until(lambda: tab.coloured(".igv") > 3000, "reads and their density are drawn")
        keep(tab, "viewer")
        # By the page's box, by that of igv.js, and by the page's own address.
        tab.write("chr1:50,001-60,000", ".goto input")
        tab.press("Enter")
        tab.until("location.search.includes('at=chr1:50001-60000')", 30)
        tab.value(
            f"(box => {{ box.value = 'chr2:20,001-24,000'; box.dispatchEvent(new Event('change')) }})"
            f"({shown}.querySelector('.igv-search-input'))"
        )
        tab.until("location.search.includes('at=chr2:20001-24000')", 30)
        address = tab.value("location.href")
        assert nothing_left_the_host(tab, herd)
    with chromium.tab() as other:
        other.open(address)
        other.until(f"{shown}?.textContent.includes('calls.vcf')", 60)
        other.until("location.search.includes('at=chr2:20001-24000')", 30)
        assert other.value("location.href") == address
        other.click("#tab-gosling")
        other.until_text('"indexUrl"', "#snippet")
        other.click("#tab-shell")
        other.until_text("samtools view", "#snippet")
        other.click("#tab-python")
        other.until_text("import", "#snippet")
        keep(other, "shared")
        other.click(f"[aria-label='Close lab/{calls}']")
        other.until(f"!{shown}.textContent.includes('calls.vcf')", 30)
        assert nothing_left_the_host(other, herd)


def test_a_gene_is_found_by_its_name_and_several_places_of_one_name_are_offered(
    tab: Tab, herd: Herd, sources: Path
) -> None:
    genes = [("chr1", 20_000, "ALPHA"), ("chr1", 60_000, "TWIN"), ("chr2", 30_000, "TWIN")]
    (sources / "named.gff3").write_text(
        "##gff-version 3\n"
        + "".join(
            f"{name}\tx\tgene\t{start}\t{start + 900}\t.\t+\t.\tID=n{n};Name={gene}\n"
            for n, (name, start, gene) in enumerate(genes)
        )
    )
    local_id = herd.register("named.gff3")
    tab.open(f"{herd.url}/?files=lab/{local_id}&at=chr1:1-50000")
    tab.until("document.querySelector('.igv')?.shadowRoot?.textContent.includes('named.gff3')", 90)
    tab.write("alpha", ".goto input")
    tab.press("Enter")
    tab.until("location.search.includes('at=chr1:20000-20900')", 60)
    tab.value("document.querySelector('.goto input').value = ''")
    tab.write("twin", ".goto input")
    tab.press("Enter")
    tab.until_text("chr2:30000-30900", "[aria-label='Places of that name']", 60)
    tab.click("[aria-label='Places of that name'] li:nth-child(2) button")
    tab.until("/at=chr[12]:[36]0000-[36]0900/.test(location.search)", 30)
    tab.click("header nav button:nth-child(1)")
    assert tab.value(f"document.querySelector({row(local_id)!r})?.innerText.includes('ready')") in (
        True,
        None,
    )
    assert nothing_left_the_host(tab, herd)


def test_a_file_that_is_not_public_is_drawn_for_its_key_alone(tab: Tab, herd: Herd, origin: Origin) -> None:
    entry = {
        "dcc": "lab",
        "local_id": "closed",
        "filename": "calls.vcf",
        "access_url": f"{origin.url}/calls.vcf",
        "data_access_level": "consortium",
    }
    with httpx.Client(trust_env=False, timeout=60) as http:
        http.post(f"{herd.url}/files", json=entry, headers={"X-API-Key": "key"}).raise_for_status()
    address = f"{herd.url}/?files=lab/closed&at=chr1:90001-110000"
    tab.open(address)
    tab.until("document.querySelector('.opened .bad')")
    tab.value("sessionStorage.setItem('gooseherd-key', 'key')")
    tab.open(address)
    tab.until("document.querySelector('.igv')?.shadowRoot?.textContent.includes('calls.vcf')", 90)
    herd.until(lambda: tab.coloured(".igv") > 1000, "variants and their density are drawn")
    assert nothing_left_the_host(tab, herd)


def test_a_file_that_fails_in_the_viewer_says_why_beside_others_and_axe_agrees(
    tab: Tab, herd: Herd, bundle: Path, sources: Path, keep: Any
) -> None:
    (sources / "wrong.bed").write_text("chr1\tx\ty\n")
    bad, good = herd.register("wrong.bed"), herd.register("genes.gff3")
    tab.open(f"{herd.url}/?files=lab/{bad},lab/{good}&at=chr1:90001-110000")
    tab.until("document.querySelector('.opened .bad')", 90)
    tab.until("document.querySelector('.igv')?.shadowRoot?.textContent.includes('genes.gff3')", 90)
    tab.click("#tab-jbrowse")
    tab.until_text("Gff3TabixAdapter", "#snippet")
    keep(tab, "viewer-failed")
    tab.load(bundle / "axe.js")
    violations = tab.value(
        "axe.run().then(({ violations }) => violations.map(one => [one.id, one.nodes[0].html.slice(0, 200)]))"
    )
    assert violations == []
    before = len(herd.jobs("failed"))
    tab.click(".opened li:first-child button:not(.quiet)")
    herd.until(lambda: len(herd.jobs("failed")) > before, "the new try")
