"""What every FileStore promises, asked of each of the real ones."""

from __future__ import annotations

import asyncio
import random
import re
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from gooseherd.domain import formats
from gooseherd.domain.ports.store import FileQuery, FileStore
from gooseherd.domain.source import Dcc, LocalId, Sidecar, SidecarKind, SourceFile

if TYPE_CHECKING:
    from tests.conftest import StoreUnderTest

pytestmark = pytest.mark.integration


def entry(
    local_id: str, dcc: str = "4dn", filename: str | None = None, file_format=formats.BAM
) -> SourceFile:
    return SourceFile(
        dcc=Dcc(dcc),
        local_id=LocalId(local_id),
        filename=filename or f"{local_id}.bam",
        file_format=file_format,
        access_url=f"https://example.org/{local_id}",
        md5="0" * 32,
        size_in_bytes=5_000_000_000,
        sidecars=(Sidecar(SidecarKind.BAI, "https://example.org/x.bai"),),
    )


@pytest.fixture
def files(store: StoreUnderTest) -> FileStore:
    return store.files


async def names(files: FileStore, **query: object) -> list[str]:
    page = await files.search(FileQuery(**query))  # type: ignore[arg-type]
    return [found.name for found in page.files]


async def test_an_entry_reads_back_equal(files):
    await files.put([entry("A1")])
    assert await files.get(Dcc("4dn"), LocalId("A1")) == entry("A1")
    assert await files.get(Dcc("4dn"), LocalId("a1")) is None


async def test_putting_counts_what_is_new_and_replaces_what_is_not(files):
    assert await files.put([entry("A"), entry("B")]) == 2
    changed = replace(entry("B"), md5="1" * 32)
    assert await files.put([changed, entry("C")]) == 1
    assert await files.get(Dcc("4dn"), LocalId("B")) == changed
    assert await files.count() == 3


async def test_of_two_entries_of_one_name_the_last_stays(files):
    last = replace(entry("A"), md5="1" * 32)
    assert await files.put([entry("A"), last]) == 1
    assert await files.get(Dcc("4dn"), LocalId("A")) == last


async def test_putting_nothing_is_nothing(files):
    assert await files.put([]) == 0
    assert await files.count() == 0


async def test_many_entries_go_in_over_several_messages(files):
    assert await files.put([entry(f"f{n:04}") for n in range(1100)]) == 1100
    assert await files.count() == 1100


async def test_two_imports_of_one_catalog_at_once_count_each_entry_once(files):
    catalog = [entry(f"f{n}") for n in range(40)]
    assert sum(await asyncio.gather(*(files.put(catalog) for _ in range(4)))) == 40
    assert await files.count() == 40


async def test_pages_go_by_dcc_then_local_id_and_show_each_entry_once(files):
    put = [("a.b", "x"), ("a", "z"), ("a-c", "y"), ("a", "b"), ("ab", "a")]
    await files.put([entry(local_id, dcc) for dcc, local_id in put])
    shown, after = [], None
    while True:
        page = await files.search(FileQuery(limit=2, after=after))
        shown += [(found.dcc, found.local_id) for found in page.files]
        after = page.next
        if after is None:
            break
    assert shown == sorted(put)


async def test_a_full_last_page_has_no_next(files):
    await files.put([entry("A"), entry("B")])
    assert (await files.search(FileQuery(limit=2))).next is None


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("gm12", ["4dn/ENCFF01"]),
        ("GM12878_rep1", ["4dn/ENCFF01"]),
        ("rep", ["4dn/ENCFF01", "4dn/ENCFF02"]),
        ("rep2.bam", ["4dn/ENCFF02"]),
        ("encff", ["4dn/ENCFF01", "4dn/ENCFF02"]),
        ("rep k562", ["4dn/ENCFF02"]),
        ("ep1", []),
        ("rep3", []),
        (".*", []),
        ("$ne", []),
        ("", ["4dn/ENCFF01", "4dn/ENCFF02"]),
    ],
)
async def test_text_finds_the_beginning_of_words_whatever_their_case(files, text, found):
    await files.put([
        entry("ENCFF01", filename="GM12878_rep1.bam"),
        entry("ENCFF02", filename="K562-rep2.bam"),
    ])  # fmt: skip
    assert await names(files, text=text) == found


async def test_a_search_finds_what_a_look_at_every_entry_would(files):
    """Each piece begins a word of a name, or a name, and goes on as the name does."""
    chance = random.Random(4)
    pieces = ["rep1", "Rep2", "GM12878", "k562", "_", "-", ".", "é", "bam", "bed", "x", "12", " "]
    entries = [
        entry(
            f"{chance.choice('AbZ9')}{number}{chance.choice(['', '.k562', '-rep1', '_GM12878'])}",
            chance.choice(["one", "two"]),
            "".join(chance.choice(pieces) for _ in range(5)) + "f",
            chance.choice([formats.BAM, formats.BED]),
        )
        for number in range(80)
    ]
    await files.put(entries)
    for _ in range(60):
        text = "".join(chance.choice(pieces) for _ in range(chance.randrange(1, 4)))
        if not text.split():
            continue
        dcc = chance.choice([None, Dcc("two")])
        file_format = chance.choice([None, formats.BED])
        expected = sorted(
            (found.dcc, found.local_id)
            for found in entries
            if _begins_words(found, text)
            and dcc in (None, found.dcc)
            and file_format in (None, found.file_format)
        )
        shown, after = [], None
        while True:
            page = await files.search(FileQuery(dcc, text, file_format, limit=7, after=after))
            shown += [(found.dcc, found.local_id) for found in page.files]
            after = page.next
            if after is None:
                break
        assert shown == expected, text


def _begins_words(found: SourceFile, text: str) -> bool:
    names = [found.local_id.lower(), found.filename.lower()]
    tails = [name[word.start() :] for name in names for word in re.finditer(r"[^\W_]+", name)] + names
    return all(any(tail.startswith(piece) for tail in tails) for piece in text.lower().split())


async def test_filters_are_joined(files):
    await files.put([
        entry("A", "one", "peaks.bed", formats.BED),
        entry("B", "one"),
        entry("C", "two", "peaks.bed", formats.BED),
    ])  # fmt: skip
    assert await names(files, file_format=formats.BED) == ["one/A", "two/C"]
    assert await names(files, dcc=Dcc("one"), file_format=formats.BED) == ["one/A"]
    assert await names(files, dcc=Dcc("one"), text="peaks") == ["one/A"]


async def test_a_removed_entry_is_gone_and_is_handed_back_as_it_was(files):
    await files.put([entry("A"), entry("B")])
    assert await files.remove(Dcc("4dn"), LocalId("A")) == entry("A")
    assert await files.get(Dcc("4dn"), LocalId("A")) is None
    assert await names(files) == ["4dn/B"]
    assert await files.put([entry("A")]) == 1


async def test_removing_what_is_not_there_changes_nothing(files):
    await files.put([entry("A")])
    assert await files.remove(Dcc("4dn"), LocalId("a")) is None
    assert await files.remove(Dcc("4d"), LocalId("A")) is None
    assert await names(files) == ["4dn/A"]


async def test_of_removals_at_once_exactly_one_gets_the_entry(files):
    await files.put([entry("A")])
    removed = await asyncio.gather(*(files.remove(Dcc("4dn"), LocalId("A")) for _ in range(8)))
    assert [found for found in removed if found] == [entry("A")]


async def test_a_removal_and_a_registration_at_once_leave_the_new_entry_or_none(files):
    changed = replace(entry("A"), md5="1" * 32)
    for _ in range(10):
        await files.put([entry("A")])
        removed, new = await asyncio.gather(files.remove(Dcc("4dn"), LocalId("A")), files.put([changed]))
        left = await files.get(Dcc("4dn"), LocalId("A"))
        # Before it: what was new goes. After it: what was old goes, and the new one counts as new.
        assert (removed, new, left) in [(changed, 0, None), (entry("A"), 1, changed)]
        await files.remove(Dcc("4dn"), LocalId("A"))


async def test_entries_are_found_by_their_content(files):
    weak = replace(entry("W"), md5=None)
    put = [
        entry("A"),
        replace(entry("B", "other", file_format=formats.BED), access_url="https://example.org/b"),
        replace(entry("C"), md5="1" * 32),
        replace(entry("S"), md5=None, sha256="2" * 64),
        replace(entry("T"), md5=None, sha256="2" * 64),
        weak,
        replace(weak, local_id=LocalId("X")),
        replace(weak, local_id=LocalId("Y"), version_tag="newer"),
    ]
    await files.put(put)

    async def sharing(one: SourceFile, limit: int = 10) -> list[str]:
        return [found.name for found in await files.of_identity(one.identity, limit)]

    assert await sharing(entry("A")) == ["4dn/A", "other/B"]
    assert await sharing(entry("A"), limit=1) == ["4dn/A"]
    assert await sharing(put[2]) == ["4dn/C"]
    assert await sharing(put[3]) == ["4dn/S", "4dn/T"]
    assert await sharing(weak) == ["4dn/W", "4dn/X"]
    assert await sharing(replace(entry("Z"), md5="3" * 32)) == []
    assert await files.of_identity(entry("A").identity, 1) == [entry("A")]


async def test_an_entry_is_found_by_the_content_it_has_now(files):
    await files.put([entry("A")])
    changed = replace(entry("A"), md5="1" * 32)
    await files.put([changed])
    assert await files.of_identity(entry("A").identity, 10) == []
    assert await files.of_identity(changed.identity, 10) == [changed]
    await files.remove(Dcc("4dn"), LocalId("A"))
    assert await files.of_identity(changed.identity, 10) == []


# -- what sources say of themselves --------------------------------------------------------


def bare(local_id: str = "A", **fields: object) -> SourceFile:
    """An entry that says neither digest nor size nor version."""
    return replace(entry(local_id), md5=None, size_in_bytes=None, **fields)  # type: ignore[arg-type]


async def test_what_an_entry_leaves_open_is_filled_in_and_stays(files):
    await files.put([bare()])
    filled = await files.fill_in(bare(), size_in_bytes=7, version_tag='"v1"')
    assert filled == replace(bare(), size_in_bytes=7, version_tag='"v1"')
    assert await files.get(Dcc("4dn"), LocalId("A")) == filled
    assert await files.fill_in(bare(), size_in_bytes=7, version_tag='"v1"') == filled
    assert await names(files, text="A") == ["4dn/A"]


async def test_the_identity_follows_what_is_filled_in(files):
    await files.put([bare()])
    filled = await files.fill_in(bare(), size_in_bytes=7, version_tag=None)
    assert filled.identity != bare().identity
    assert await files.of_identity(filled.identity, 10) == [filled]
    assert await files.of_identity(bare().identity, 10) == []


async def test_what_an_entry_says_itself_is_never_overwritten(files):
    await files.put([bare(version_tag="2026")])
    seen = bare(version_tag="2026")
    assert await files.fill_in(seen, size_in_bytes=7, version_tag="new") == replace(seen, size_in_bytes=7)
    await files.put([entry("B")])
    assert await files.fill_in(entry("B"), size_in_bytes=1, version_tag=None) == entry("B")
    assert await files.fill_in(seen, size_in_bytes=None, version_tag=None) == replace(seen, size_in_bytes=7)


@pytest.mark.parametrize(
    "change",
    [
        {"access_url": "https://example.org/other"},
        {"md5": "1" * 32},
        {"sha256": "1" * 64},
        {"size_in_bytes": 9},
        {"version_tag": "other"},
    ],
)
async def test_an_entry_that_is_another_by_now_is_left_as_it_is(files, change):
    current = replace(bare(), **change)
    await files.put([current])
    assert await files.fill_in(bare(), size_in_bytes=7, version_tag='"v1"') == current
    assert await files.of_identity(current.identity, 10) == [current]


async def test_what_changed_elsewhere_in_the_entry_is_kept(files):
    current = replace(bare(), status="withdrawn", sidecars=())
    await files.put([current])
    assert await files.fill_in(bare(), size_in_bytes=7, version_tag=None) == replace(current, size_in_bytes=7)


async def test_an_entry_that_was_removed_is_not_made_again(files):
    assert await files.fill_in(bare(), size_in_bytes=7, version_tag=None) is None
    assert await files.count() == 0


async def test_of_many_that_fill_in_at_once_one_decides_for_all(files):
    await files.put([bare()])
    filled = await asyncio.gather(
        *(files.fill_in(bare(), size_in_bytes=n, version_tag=f"v{n}") for n in range(1, 9))
    )
    stored = await files.get(Dcc("4dn"), LocalId("A"))
    assert set(filled) == {stored}
    assert stored.version_tag == f"v{stored.size_in_bytes}"
