"""The page at /, for who has no mouse, another key, the way back: what is kept, and where the focus goes."""

from __future__ import annotations

import json
from collections.abc import Iterator

import httpx
import pytest
from tests.browser.driver import Driver, Tab
from tests.browser.service import Herd, Origin

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

SHADOW = "document.querySelector('.igv')?.shadowRoot"


@pytest.fixture
def tab(chromium: Driver) -> Iterator[Tab]:
    with chromium.tab() as tab:
        yield tab


def row(local_id: str) -> str:
    return f'.scroll [role=row]:has([title$="/{local_id})"])'


def button(words: str) -> str:
    """Of the page's head."""
    return f"[...document.querySelectorAll('header button')].find(one => one.innerText === {words!r})"


def focus(tab: Tab, selector: str) -> None:
    tab.until(f"(one => one && (one.focus(), true))(document.querySelector({selector!r}))")


def add(herd: Herd, origin: Origin, *entries: dict[str, str]) -> None:
    lines = "".join(
        json.dumps({"dcc": "lab", "access_url": f"{origin.url}/{one['filename']}", "version_tag": "v1"} | one)
        + "\n"
        for one in entries
    )
    done = httpx.post(
        f"{herd.url}/files/import", content=lines, headers={"X-API-Key": "key"}, trust_env=False
    )
    assert done.json()["imported"] == len(entries), done.text


def test_back_and_forward_go_through_what_was_open(tab: Tab, herd: Herd) -> None:
    first, second = herd.register("regions.bed"), herd.register("calls.vcf")
    tab.open(f"{herd.url}/?dcc=lab")
    tab.click(f"{row(first)} [aria-label^=Open]")
    tab.until(f"location.search.includes('files=lab/{first}&')")
    tab.click(f"{row(second)} [aria-label^=Open]")
    tab.until(f"location.search.includes('files=lab/{first},lab/{second}')")
    assert tab.value("document.title") == f"lab/{first}, lab/{second} · gooseherd"
    for step, shown in ((-1, [first]), (-1, []), (1, [first]), (1, [first, second])):
        tab.value(f"history.go({step})")
        tab.until(f"document.querySelectorAll('.opened .name').length === {len(shown)}")
        names = ",".join(f"lab/{local_id}" for local_id in shown)
        tab.until(f"(new URLSearchParams(location.search).get('files') ?? '') === {names!r}")


def test_two_words_are_searched_as_they_are_typed(tab: Tab, herd: Herd, origin: Origin) -> None:
    url = f"{origin.url}/regions.bed"
    for local_id, filename in (("w1", "two words.bed"), ("w2", "words.bed")):
        add(herd, origin, {"dcc": "words", "local_id": local_id, "filename": filename, "access_url": url})
    tab.open(f"{herd.url}/?dcc=words")
    tab.until_text("2 files", ".count")
    tab.write("words tw", "#search")
    tab.until_text("1 file", ".count")
    assert "q=words+tw" in tab.value("location.search")
    assert tab.value("document.querySelector('#search').value") == "words tw"


def test_the_keyboard_prepares_cancels_and_tries_again_and_the_focus_stays(
    tab: Tab, herd: Herd, origin: Origin
) -> None:
    (origin.folder / "torn.vcf").write_text("this is no VCF\n")
    slow, bad = herd.register("mapped.bam"), herd.register("torn.vcf")
    in_row = "document.activeElement.closest('[role=row]')?.innerText.includes"
    tab.open(f"{herd.url}/?dcc=lab")
    focus(tab, row(slow))
    origin.let_go.clear()
    try:
        tab.press("p")
        tab.until(f"document.querySelector({row(slow)!r}).querySelector('progress')")
        # Dialogs give it back, also when they were closed by a button.
        for opened, close in (("a", "Escape"), ("?", "Enter")):
            tab.press(opened)
            tab.until("document.activeElement.closest('dialog')")
            tab.press(close)
            tab.until(f"!document.querySelector('dialog') && {in_row}('mapped.bam')")
        tab.press("c")
        tab.until_text("not prepared", row(slow), 60)
    finally:
        origin.let_go.set()
    assert herd.jobs("cancelled")
    focus(tab, row(bad))
    tab.press("p")
    tab.until_text("failed: ", row(bad), 60)
    tab.until_text(f"lab/{bad}: failed", "p[role=status]")
    failed = len(herd.jobs("failed"))
    tab.press("p")
    herd.until(lambda: len(herd.jobs("failed")) > failed, "the new try")
    # What it was on goes away: its row has it, or the list.
    tab.until_text("failed: ", row(bad), 60)
    focus(tab, f"{row(bad)} [aria-label^=Retry]")
    tab.press("Enter")
    tab.until(f"document.activeElement.role === 'row' && {in_row}('torn.vcf')")


def test_keys_act_on_the_row_that_has_the_focus_when_others_come_above_it(
    tab: Tab, herd: Herd, origin: Origin
) -> None:
    add(herd, origin, *({"local_id": f"m{n:02}", "filename": "regions.bed"} for n in range(50)))
    tab.open(f"{herd.url}/?dcc=lab&q=m")
    focus(tab, row("m02"))
    add(herd, origin, {"local_id": "m00a", "filename": "regions.bed"})
    tab.until(f"document.querySelector({row('m00a')!r})")
    tab.press("Space")
    tab.until_text("1 selected", ".selection")
    assert tab.value(f"document.querySelector({row('m02')!r}).ariaSelected") == "true"
    # Where a mouse scrolled to, the list is still one step of Tab away.
    tab.value("document.querySelector('.scroll').scrollTop = 1e6")
    tab.until(f"document.querySelector({row('m49')!r})")
    assert tab.value("document.querySelectorAll('.scroll [role=row][tabindex=\"0\"]').length") == 1
    # A viewer takes most of the page.
    focus(tab, row("m49"))
    tab.press("Enter")
    tab.until("document.querySelector('.viewer')")
    tab.until(
        "(([list, row]) => row.bottom <= list.bottom + 1 && row.top >= list.top - 1)"
        "(['.scroll', ':focus'].map(one => document.querySelector(one).getBoundingClientRect()))"
    )


def test_a_selection_stays_until_it_was_prepared_or_removed(tab: Tab, herd: Herd, origin: Origin) -> None:
    add(herd, origin, *({"local_id": f"s{n:02}", "filename": "regions.bed"} for n in range(51)))
    tab.open(f"{herd.url}/?dcc=lab&q=s")
    tab.until_text("51 files", ".count")
    tab.click("[aria-label='Select all that are listed']")
    tab.until_text("51 selected", ".selection")
    tab.click(".selection button:nth-last-child(2)")
    tab.until_text("Remove these 51 files?", "dialog")
    tab.press("Escape")
    tab.until("!document.querySelector('dialog')")
    tab.click(".selection button.main")  # more than 50 need a key
    tab.until_text("A key is needed", "dialog")
    tab.press("Escape")
    tab.until_text("these files cannot be prepared", ".notice")
    assert tab.value("document.querySelector('.selection').innerText").startswith("51 selected")


def test_a_key_that_has_ended_is_forgotten_and_another_shows_what_it_may_see(
    tab: Tab, herd: Herd, origin: Origin
) -> None:
    for local_id, level in (("open", "public"), ("closed", "protected")):
        entry = {"dcc": "keys", "local_id": local_id, "filename": "regions.bed"}
        add(herd, origin, entry | {"data_access_level": level})
    tab.open(f"{herd.url}/healthz")
    tab.value("sessionStorage.setItem('gooseherd-key', 'ghk_ended_long_ago')")
    tab.open(f"{herd.url}/?dcc=keys&files=keys/closed")
    tab.until_text("not the right one", "dialog")
    tab.press("Escape")
    tab.until(f"document.querySelector({row('open')!r})")
    assert tab.value("sessionStorage.length") == 0
    tab.until("document.querySelector('.opened .bad')")
    assert not tab.value(f"!!document.querySelector({row('closed')!r})")
    tab.value(f"{button('Use a key')}.click()")
    tab.until("document.activeElement.type === 'password'")
    tab.write("key")
    tab.press("Enter")
    tab.until(f"document.querySelector({row('closed')!r})")
    tab.until(f"{SHADOW}?.textContent.includes('regions.bed')", 90)
    tab.value(f"{button('Forget the key')}.click()")
    tab.until(f"!document.querySelector({row('closed')!r})")
    tab.until("document.querySelector('.opened .bad')")


def test_an_entry_is_not_replaced_unasked(tab: Tab, herd: Herd, origin: Origin) -> None:
    add(herd, origin, {"dcc": "local", "local_id": "regions.bed", "filename": "genes.gff3"})
    tab.open(f"{herd.url}/healthz")
    tab.value("sessionStorage.setItem('gooseherd-key', 'key')")
    tab.open(f"{herd.url}/?dcc=local")
    tab.until_text("genes.gff3", ".scroll")
    tab.press("a")
    tab.until("document.activeElement.placeholder?.startsWith('https://')")
    tab.write(f"{origin.url}/regions.bed")
    tab.press("Enter")
    tab.until_text("is in the catalog already", "dialog [role=alert]")
    assert herd.get("/files/local/regions.bed").json()["filename"] == "genes.gff3"
    tab.click("dialog button.main")
    tab.until_text("is replaced", ".notice")


def test_what_cannot_be_sent_says_so_may_be_tried_again_and_put_away(tab: Tab, herd: Herd) -> None:
    tab.open(f"{herd.url}/?dcc=local")
    tab.until("document.querySelector('.count')?.innerText")
    tab.value(
        "(data => { data.items.add(new File(['x'], 'notes.docx'));"
        "document.body.dispatchEvent(new DragEvent('drop', { dataTransfer: data, bubbles: true })) })"
        "(new DataTransfer())"
    )
    failed = "gives no known format"
    tab.until_text(failed, ".uploads .bad")
    tab.click("[aria-label='Try the upload of notes.docx again']")
    tab.until_text(failed, ".uploads .bad")
    tab.click(".uploads li:last-child button")
    tab.until("!document.querySelector('.uploads')")


def test_a_view_that_is_left_before_it_is_drawn_is_drawn_when_it_is_looked_at_again(
    tab: Tab, herd: Herd
) -> None:
    local_id = herd.register("genes.gff3")
    herd.get(f"/data/lab/{local_id}?wait=50")
    tab.open(f"{herd.url}/?dcc=lab")
    tab.until(f"document.querySelector({row(local_id)!r})")
    tab.value(
        """(() => {
            const real = window.fetch
            window.fetch = async (...request) => {
                const response = await real(...request)
                if (String(request[0]).includes('tracks?')) {
                    window.asked = true
                    await new Promise(done => setTimeout(done, 1000))
                    setTimeout(() => { window.answered = true }, 1000)
                }
                return response
            }
        })()"""
    )
    tab.click(f"{row(local_id)} [aria-label^=Open]")
    tab.until("window.asked")
    tab.click("header nav button:nth-child(2)")
    tab.until("window.answered")
    tab.click("header nav button:nth-child(1)")
    tab.until(f"{SHADOW}?.textContent.includes('genes.gff3')", 30)


def test_letters_in_the_viewers_own_field_are_no_shortcuts_and_a_wrong_place_is_told(
    tab: Tab, herd: Herd
) -> None:
    local_id = herd.register("genes.gff3")
    tab.open(f"{herd.url}/?files=lab/{local_id}&at=chr1:90001-110000")
    tab.until(f"{SHADOW}?.textContent.includes('genes.gff3')", 90)
    tab.value(f"{SHADOW}.querySelector('.igv-search-input').focus()")
    tab.press("a")
    assert not tab.value("!!document.querySelector('dialog')")
    tab.write("chr77:1-100", ".goto input")
    tab.press("Enter")
    tab.until_text("chr77:1-100 is no place here", ".notice")
    assert tab.value("location.search").endswith("at=chr1:90001-110000")


def test_a_file_that_is_taken_out_while_it_is_open_is_told_and_the_others_stay(tab: Tab, herd: Herd) -> None:
    gone, left = herd.register("genes.gff3"), herd.register("regions.bed")
    tab.open(f"{herd.url}/?files=lab/{gone},lab/{left}&at=chr1:90001-110000")
    for name in ("genes.gff3", "regions.bed"):
        tab.until(f"{SHADOW}?.textContent.includes({name!r})", 90)
    httpx.delete(f"{herd.url}/files/lab/{gone}", headers={"X-API-Key": "key"}, trust_env=False)
    tab.until_text("is not in the catalog any more", ".opened .bad")
    # igv.js may have asked for it just then, and says that it is not there.
    labels = f"[...{SHADOW}.querySelectorAll('.igv-track-label')].map(one => one.textContent).join()"
    tab.until(f"!{labels}.includes('genes.gff3')")
    assert "regions.bed" in tab.value(labels)
    assert tab.value(f"{SHADOW}.textContent.includes('regions.bed')")
