"""Publishes what an attempt made, once it is seen to be there and to be what the attempt says.

The attempt writes its manifest under a name of its own; that it becomes the artifact's manifest, whose
presence is publication, is decided here (docs/adr/0030-what-a-worker-may-do.md).
"""

from __future__ import annotations

import asyncio
import hashlib
import re
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Final

from gooseherd.blocking import in_thread
from gooseherd.domain.artifact import MOST_BYTES, Manifest, Part
from gooseherd.domain.attempt import AttemptId
from gooseherd.domain.errors import InvalidInput, Misconfigured
from gooseherd.domain.failures import Failure, Reason
from gooseherd.domain.keys import MANIFEST, CacheKey, Recipe, artifact_prefix, cache_key, result_name
from gooseherd.domain.ports.cache import CacheBackend, StorageRefused
from gooseherd.domain.source import SourceFile

DIGESTED_BYTES: Final = 8 << 20
"""Parts up to here are read and digested where nothing else was asked for: most indexes and small files."""
_DIGESTED_AT_ONCE: Final = 3
"""Parts above that, of one process: the others wait, so that readers of what is published get their share."""
_HUGE_BYTES: Final = 1 << 30
_HUGE_AT_ONCE: Final = 2
"""Of these: one place is left for parts that take seconds, however many take an hour."""
_INLINE_BYTES: Final = 256 << 10
_MOST_PARTS: Final = 64
_SHA256: Final = re.compile(r"[0-9a-f]{64}")
_MEDIA_TYPE: Final = re.compile(r"[a-z]+/[A-Za-z0-9.+-]+(; ?[a-z]+=[A-Za-z0-9-]+)?")


@dataclass(frozen=True, slots=True)
class Verification:
    """The verified manifest, or None and why."""

    manifest: Manifest | None
    failure: Failure


class _WrongPart(Exception):
    """A part is not what the manifest says."""


class Digests:
    """Compares parts with their SHA-256 by reading them: those of up to `most_bytes`, None: all.

    Of larger ones the size alone is compared (docs/adr/0033-digests-before-publication.md).
    """

    def __init__(self, most_bytes: int | None = DIGESTED_BYTES) -> None:
        self._most_bytes = most_bytes
        self._places = asyncio.Semaphore(_DIGESTED_AT_ONCE)
        self._huge_places = asyncio.Semaphore(_HUGE_AT_ONCE)

    async def differs(self, cache: CacheBackend, part: Part) -> bool:
        """Whether what is stored is seen to be something else."""
        if self._most_bytes is not None and part.size > self._most_bytes:
            return False
        if part.size <= DIGESTED_BYTES:
            return await _digest(cache, part.key) != part.sha256
        async with self._place(part.size):
            return await _digest(cache, part.key) != part.sha256

    @asynccontextmanager
    async def _place(self, size: int) -> AsyncIterator[None]:
        async with AsyncExitStack() as places:
            if size >= _HUGE_BYTES:
                await places.enter_async_context(self._huge_places)
            await places.enter_async_context(self._places)
            yield


async def _digest(cache: CacheBackend, key: CacheKey) -> str:
    sha256 = hashlib.sha256()
    async with _reading(cache, key) as chunks:
        async for chunk in chunks:
            if len(chunk) < _INLINE_BYTES:
                sha256.update(chunk)
            else:  # some milliseconds, during which others are served
                await in_thread(sha256.update, chunk)
    return sha256.hexdigest()


@asynccontextmanager
async def _reading(cache: CacheBackend, key: CacheKey) -> AsyncIterator[AsyncIterator[bytes]]:
    """The object's chunks; its connection is closed with the block, however that ends."""
    chunks = cache.get(key)
    try:
        yield chunks
    finally:
        if isinstance(chunks, AsyncGenerator):
            await chunks.aclose()


async def verify_published(cache: CacheBackend, source: SourceFile, recipe: Recipe) -> Verification:
    """Compare the artifact's manifest with what is stored. Raises CacheUnavailable; never writes.

    Sizes are compared, digests are not: that was done when it was published.
    """
    found = await _read(cache, cache_key(source.identity, recipe, MANIFEST))
    return await _verify(cache, source, recipe, found, digests=None)


async def publish_verified(
    cache: CacheBackend,
    source: SourceFile,
    recipe: Recipe,
    attempt: AttemptId,
    digests: Digests | None = None,
) -> Verification:
    """The artifact's manifest; that of the attempt becomes it, if there is none and everything is as it says.

    Again it changes nothing. Raises CacheUnavailable and StorageRefused: what was made is there, and waits.
    """
    try:
        return await _publish_verified(cache, source, recipe, attempt, digests or Digests())
    except StorageRefused:  # The right may be given back.
        raise
    except Misconfigured as error:
        return Verification(None, Failure(Reason.MISCONFIGURED, f"publishing: {error}"))


async def _publish_verified(
    cache: CacheBackend, source: SourceFile, recipe: Recipe, attempt: AttemptId, digests: Digests
) -> Verification:
    key = cache_key(source.identity, recipe, MANIFEST)
    if await cache.head(key) is not None:
        return await verify_published(cache, source, recipe)
    result = await _read(cache, cache_key(source.identity, recipe, result_name(str(attempt))))
    verification = await _verify(cache, source, recipe, result, digests=digests)
    if verification.manifest is None:
        return verification
    if await cache.put_if_absent(key, result):
        return verification
    # Another attempt's was first: what readers get counts.
    return await verify_published(cache, source, recipe)


async def _verify(
    cache: CacheBackend, source: SourceFile, recipe: Recipe, data: bytes, *, digests: Digests | None
) -> Verification:
    """`digests`: it is not published yet."""
    if not data:
        return _failed("the attempt ended without a manifest")
    try:
        manifest = Manifest.from_bytes(data)
    except InvalidInput:
        return _failed("the manifest is unreadable")
    if digests is not None:
        try:
            wrong = _wrong(manifest, source, recipe)
        except (
            TypeError,
            AttributeError,
        ):  # It was written by whoever runs the worker: it may hold anything.
            wrong = "its fields are of other types"
        if wrong is not None:
            return _failed(f"the manifest is not that of this artifact: {wrong}")
    try:
        # Once one part is wrong, or cannot be read, nothing goes on reading the others.
        async with asyncio.TaskGroup() as checks:
            for part in manifest.parts:
                checks.create_task(_check(cache, part, digests))
    except BaseExceptionGroup as errors:
        wrong_parts = errors.subgroup(_WrongPart)
        if wrong_parts is not None:
            return _failed(str(wrong_parts.exceptions[0]))
        raise errors.exceptions[0] from None
    return Verification(manifest, Failure(Reason.PUBLISHED, ""))


def _wrong(manifest: Manifest, source: SourceFile, recipe: Recipe) -> str | None:
    """What it says that the attempt's order did not, if anything: readers are served by what it says."""
    prefix = artifact_prefix(source.identity, recipe)
    if manifest.source != str(source.identity) or manifest.source_format != recipe.source_format.name:
        return "another source"
    if (manifest.processor, manifest.processor_version) != (recipe.processor, recipe.processor_version):
        return "another processor"
    texts = (*manifest.notes, *manifest.counts, *manifest.tools, *manifest.tools.values())
    texts += tuple(contig.name for contig in manifest.contigs)
    numbers = (*manifest.counts.values(), *(contig.length or 0 for contig in manifest.contigs))
    if {type(text) for text in texts} - {str} or {type(number) for number in numbers} - {int}:
        return "its fields are of other types"
    kinds = {part.kind for part in manifest.parts}
    if not 0 < len(manifest.parts) == len(kinds) <= _MOST_PARTS:
        return "no parts, or two of a kind"
    for part in manifest.parts:
        name = part.key.removeprefix(prefix)
        # A key elsewhere would have the bytes of other artifacts served, whoever may read those.
        if name == part.key or not name or "/" in name or name == MANIFEST:
            return f"the {part.kind} part lies elsewhere"
        if not _SHA256.fullmatch(part.sha256):
            return f"the {part.kind} part has no digest"
        if not part.filename.isprintable() or set(part.filename) & set('/\\"') or not part.filename:
            return f"the {part.kind} part has no usable name"
        if not _MEDIA_TYPE.fullmatch(part.media_type):
            return f"the {part.kind} part has no media type"
    return None


async def _check(cache: CacheBackend, part: Part, digests: Digests | None) -> None:
    stored = await cache.head(part.key)
    if stored is None or stored.size != part.size:
        raise _WrongPart(f"the {part.kind} part is missing or cut short")
    if digests is not None and await digests.differs(cache, part):
        raise _WrongPart(f"the {part.kind} part has another digest")


async def _read(cache: CacheBackend, key: CacheKey) -> bytes:
    data = bytearray()
    async with _reading(cache, key) as chunks:
        async for chunk in chunks:
            data += chunk
            if len(data) > MOST_BYTES:
                return b"too large"
    return bytes(data)


def _failed(detail: str) -> Verification:
    return Verification(None, Failure(Reason.TOOL_FAILED, detail))
