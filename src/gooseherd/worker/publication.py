"""How an attempt's files become objects that stay: parts, then the step's receipt, its manifest last.

What a step announces is on its way while it is made, and withheld until the step is done.

A killed attempt can leave parts under keys that no receipt speaks for. Such a part is taken over when its
bytes are the same; when they are not, another key is used. Nothing that is stored is ever replaced or
removed: an attempt has no right to (docs/adr/0030-what-a-worker-may-do.md).
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import os
import secrets
from dataclasses import replace
from pathlib import Path
from typing import Final

from gooseherd.domain.artifact import MOST_BYTES, Manifest, Part, StepReceipt
from gooseherd.domain.attempt import AttemptId
from gooseherd.domain.errors import CacheUnavailable, InvalidInput
from gooseherd.domain.failures import Reason
from gooseherd.domain.keys import MANIFEST, CacheKey, Recipe, cache_key, result_name
from gooseherd.domain.ports.cache import CacheBackend
from gooseherd.domain.processing import Produced, StepFailed, StepOutput
from gooseherd.domain.source import Identity
from gooseherd.storage.draft import open_regular
from gooseherd.worker.streaming_upload import StreamingUpload

log = logging.getLogger(__name__)

_CHUNK: Final = 1 << 20


class Publication:
    """The objects of one artifact. Raises CacheUnavailable as the cache does."""

    def __init__(self, cache: CacheBackend, identity: Identity, recipe: Recipe, attempt: AttemptId) -> None:
        self._cache = cache
        self._attempt = attempt
        self._identity = identity
        self._recipe = recipe
        self._uploads: dict[str, StreamingUpload] = {}
        self._replaced: set[asyncio.Task[None]] = set()

    async def manifest(self) -> Manifest | None:
        """The manifest, if the artifact is published."""
        raw = await self._read(self._key(MANIFEST))
        return None if raw is None else Manifest.from_bytes(raw)

    async def receipt(self, step: str) -> StepReceipt | None:
        """What an earlier attempt finished of that step.

        A receipt that cannot be read, or whose parts are missing or of another size, is void: as if there
        were none.
        """
        raw = await self._read(self._receipt_key(step))
        if raw is None:
            return None
        try:
            receipt = StepReceipt.from_bytes(raw)
        except InvalidInput:
            receipt = None
        if receipt is not None and await self._all_there(receipt.parts):
            return receipt
        log.warning("receipt is void", extra={"step": step})
        return None

    def announce(self, produced: Produced) -> None:
        """Store it while it is written. Without `step` for that file nothing will have been."""
        self._withdraw(produced.name)
        self._uploads[produced.name] = StreamingUpload(self._cache, self._key(produced.name), produced.path)

    def _withdraw(self, name: str) -> None:
        if upload := self._uploads.pop(name, None):
            task = asyncio.create_task(upload.abandon())
            self._replaced.add(task)
            task.add_done_callback(self._replaced.discard)

    async def abandon(self) -> None:
        """Let go of all that was announced; returns when the cache has let go of it too."""
        for name in list(self._uploads):
            self._withdraw(name)
        for task in list(self._replaced):
            await asyncio.shield(task)

    async def step(self, name: str, output: StepOutput) -> StepReceipt:
        """Store what a step made, then its receipt; returns the receipt that stands.

        That is another attempt's when it finished the same step in the meantime. Where a void one has the
        key, this one is not stored: a later attempt makes the step again.

        Raises:
            StepFailed: source_invalid; nobody could be asked to read all its sequence names.
        """
        receipt = StepReceipt(name, (), output.contigs, output.counts, output.notes, output.tools)
        size = len(await asyncio.to_thread(receipt.to_bytes))
        if size > MOST_BYTES:
            many = f"it names {len(output.contigs)} sequences, which takes {size} bytes"
            raise StepFailed.because(Reason.SOURCE_INVALID, f"{many}; the limit is {MOST_BYTES}")
        parts: list[Part] = []
        made = {produced.name: produced.path for produced in output.files}
        for announced, upload in list(self._uploads.items()):
            path = made.get(announced)
            if path is None or not _one_file(path, upload.path):
                self._withdraw(announced)
        for produced in output.files:
            stored = await self._put_part(name, produced)
            if isinstance(stored, StepReceipt):
                return stored
            parts.append(stored)
        mine = replace(receipt, parts=tuple(parts))
        if await self._cache.put_if_absent(self._receipt_key(name), mine.to_bytes()):
            return mine
        return await self.receipt(name) or mine

    async def conclude(self, manifest: Manifest) -> Manifest:
        """Hand it over: written under the attempt's own name, if every part is there.

        Whoever follows the attempt publishes it. Returns the one that stands.
        """
        if not await self._all_there(manifest.parts):
            raise CacheUnavailable("publication: a part went away")
        await self._cache.put_if_absent(self._key(result_name(str(self._attempt))), manifest.to_bytes())
        return manifest

    async def download(self, part: Part, into: Path) -> None:
        """Write a stored part's bytes to a file, verified."""
        await asyncio.to_thread(into.parent.mkdir, parents=True, exist_ok=True)
        sha256 = hashlib.sha256()
        file = await asyncio.to_thread(into.open, "xb")
        try:
            async for chunk in self._cache.get(part.key):
                sha256.update(chunk)
                await asyncio.to_thread(file.write, chunk)
        finally:
            await asyncio.to_thread(file.close)
        if sha256.hexdigest() != part.sha256:
            raise CacheUnavailable("reading a part back: its bytes are not those of its receipt")

    async def _put_part(self, step: str, produced: Produced) -> Part | StepReceipt:
        upload = self._uploads.pop(produced.name, None)
        sent = None if upload is None else await upload.finish()
        size, sha256 = await asyncio.to_thread(_digest, produced.path) if sent is None else sent
        part = Part(
            kind=produced.kind,
            key=self._key(produced.name),
            size=size,
            sha256=sha256,
            filename=produced.filename,
            media_type=produced.media_type,
        )
        if sent or await self._cache.put_if_absent(part.key, produced.path) or await self._same(part):
            return part
        theirs = await self.receipt(step)
        if theirs is not None:
            return theirs
        log.warning("a part that no receipt speaks for has the key", extra={"step": step})
        part = replace(part, key=self._key(f"{secrets.token_hex(8)}-{produced.name}"))
        if not await self._cache.put_if_absent(part.key, produced.path):
            raise CacheUnavailable("publishing a part")
        return part

    async def _same(self, part: Part) -> bool:
        stored = await self._cache.head(part.key)
        if stored is None or stored.size != part.size:
            return False
        sha256 = hashlib.sha256()
        async for chunk in self._cache.get(part.key):
            await asyncio.to_thread(sha256.update, chunk)
        return sha256.hexdigest() == part.sha256

    async def _all_there(self, parts: tuple[Part, ...]) -> bool:
        stored = await asyncio.gather(*(self._cache.head(part.key) for part in parts))
        return all(
            found is not None and found.size == part.size for found, part in zip(stored, parts, strict=True)
        )

    async def _read(self, key: CacheKey) -> bytes | None:
        if await self._cache.head(key) is None:
            return None
        return b"".join([chunk async for chunk in self._cache.get(key)])

    def _key(self, name: str) -> CacheKey:
        return cache_key(self._identity, self._recipe, name)

    def _receipt_key(self, step: str) -> CacheKey:
        return self._key(f"step-{step}.json")


def _one_file(a: Path, b: Path) -> bool:
    try:
        return a.samefile(b)
    except FileNotFoundError:
        return False


def _digest(path: Path) -> tuple[int, str]:
    sha256 = hashlib.sha256()
    size = 0
    # Tools that read foreign bytes made it: what it may lead to is not theirs to publish.
    with os.fdopen(open_regular(path), "rb") as file:
        while chunk := file.read(_CHUNK):
            sha256.update(chunk)
            size += len(chunk)
    return size, sha256.hexdigest()
