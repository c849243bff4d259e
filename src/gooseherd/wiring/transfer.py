"""Catalog and keys out of a store and into one, whichever they are; streaming."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from datetime import UTC, datetime
from typing import BinaryIO, Final

from gooseherd import __version__
from gooseherd.domain.apikey import ApiKey
from gooseherd.domain.export_file import LONGEST_LINE, ExportCounts, ExportWriter, read_export
from gooseherd.domain.ports.store import FileQuery, FileStore
from gooseherd.domain.source import SourceFile
from gooseherd.settings import Settings
from gooseherd.wiring.store import open_store

_BATCH: Final = 1000


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


async def import_store(settings: Settings, lines: Iterable[bytes]) -> tuple[ExportCounts, ExportCounts]:
    """Put what a checked export holds into the store; what is in it, and how much of that was new.

    By batches: broken off, some of it is there, and the same again completes it. Entries and keys of the same
    name are replaced; a key that was revoked in the store stays revoked.

    Raises:
        DamagedExport: it is no longer as it was checked.
        Misconfigured, StoreUnavailable.
    """
    counts, new_files, new_keys = ExportCounts(), 0, 0
    files: list[SourceFile] = []
    keys: list[ApiKey] = []
    async with open_store(settings) as store:
        for item in read_export(lines):
            if isinstance(item, SourceFile):
                files.append(item)
            elif isinstance(item, ApiKey):
                keys.append(item)
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
    return counts, ExportCounts(new_files, new_keys)
