"""Catalog and keys out of a store and into one, whichever they are; streaming."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import BinaryIO, Final

from gooseherd import __version__
from gooseherd.domain.apikey import ApiKey, KeyId
from gooseherd.domain.export_file import LONGEST_LINE, ExportCounts, ExportWriter, read_export
from gooseherd.domain.ports.store import FileQuery, FileStore
from gooseherd.domain.source import SourceFile
from gooseherd.settings import Settings
from gooseherd.wiring.store import open_store

_BATCH: Final = 1000


@dataclass(frozen=True, slots=True)
class ImportReport:
    """What an import has done."""

    counts: ExportCounts
    """What the file holds."""
    new: ExportCounts
    usable: Sequence[ApiKey]
    """Keys of the file that are neither revoked nor expired in the store now. Of one that was not there
    before, only the log since the backup says whether it was revoked."""


async def every_entry(files: FileStore) -> AsyncIterator[SourceFile]:
    """By name. What is written meanwhile may be among them or not."""
    after: str | None = None
    while True:
        page = await files.search(FileQuery(limit=_BATCH, after=after))
        for entry in page.files:
            yield entry
        after = page.next
        if after is None:
            return


async def export_store(settings: Settings, write: Callable[[bytes], object]) -> ExportCounts:
    """Write the lines of an export.

    Raises:
        Misconfigured, StoreUnavailable: what was written is no export: it has no last line.
    """
    writer, files = ExportWriter(), 0
    async with open_store(settings) as store:
        write(writer.begin(datetime.now(UTC), __version__))
        async for entry in every_entry(store.files):
            write(writer.file(entry))
            files += 1
        keys = await store.keys.keys()
        for key in keys:
            write(writer.key(key))
        write(writer.end())
    return ExportCounts(files, len(keys))


def lines_of(source: BinaryIO) -> Iterator[bytes]:
    """Lines, none of them longer than a little more than may be."""
    return iter(lambda: source.readline(LONGEST_LINE + 1), b"")


def check_export(lines: Iterable[bytes]) -> ExportCounts:
    """Read all of it.

    Raises:
        DamagedExport: naming the line.
    """
    counts = ExportCounts()
    for item in read_export(lines):
        if isinstance(item, ExportCounts):
            counts = item
    return counts


async def import_store(settings: Settings, lines: Iterable[bytes]) -> ImportReport:
    """Put what a checked export holds into the store.

    By batches: broken off, some of it is there, and the same again completes it. Entries and keys of the same
    name are replaced; a key that was revoked in the store stays so, one that ends sooner there ends then.

    Raises:
        DamagedExport: it is no longer as it was checked.
        Misconfigured, StoreUnavailable.
    """
    counts, new_files, new_keys = ExportCounts(), 0, 0
    files: list[SourceFile] = []
    keys: list[ApiKey] = []
    imported: set[KeyId] = set()
    async with open_store(settings) as store:
        for item in read_export(lines):
            if isinstance(item, SourceFile):
                files.append(item)
            elif isinstance(item, ApiKey):
                keys.append(item)
                imported.add(item.key_id)
            else:
                counts = item
            if len(files) >= _BATCH:
                new_files += await store.files.put(files)
                files = []
            if len(keys) >= _BATCH:
                new_keys += await store.keys.restore(keys)
                keys = []
        new_files += await store.files.put(files)
        new_keys += await store.keys.restore(keys)
        now = datetime.now(UTC)
        stored = [key for key in await store.keys.keys() if key.key_id in imported]
    usable = [key for key in stored if key.state(now) == "active"]
    return ImportReport(counts, ExportCounts(new_files, new_keys), usable)
