"""Whether an artifact is published whole: the manifest is there and every part has its size."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from gooseherd.domain.artifact import Manifest
from gooseherd.domain.errors import InvalidInput
from gooseherd.domain.failures import Failure, Reason
from gooseherd.domain.keys import MANIFEST, Recipe, cache_key
from gooseherd.domain.ports.cache import CacheBackend
from gooseherd.domain.source import SourceFile


@dataclass(frozen=True, slots=True)
class Verified:
    """The manifest, or why there is none to stand by."""

    manifest: Manifest | None
    failure: Failure


async def verify(cache: CacheBackend, source: SourceFile, recipe: Recipe) -> Verified:
    """Look at what is stored. Raises CacheUnavailable; never writes.

    Sizes are compared, digests are not: the worker computed them from what it stored, and
    every later reader gets them as ETag.
    """
    data = b"".join([chunk async for chunk in cache.get(cache_key(source.identity, recipe, MANIFEST))])
    if not data:
        return Verified(None, Failure(Reason.TOOL_FAILED, "the attempt ended without a manifest"))
    try:
        manifest = Manifest.from_bytes(data)
    except InvalidInput:
        return Verified(None, Failure(Reason.TOOL_FAILED, "the manifest is unreadable"))
    stored = await asyncio.gather(*(cache.head(part.key) for part in manifest.parts))
    for part, found in zip(manifest.parts, stored, strict=True):
        if found is None or found.size != part.size:
            return Verified(
                None, Failure(Reason.TOOL_FAILED, f"the {part.kind} part is missing or cut short")
            )
    return Verified(manifest, Failure(Reason.PUBLISHED, ""))
