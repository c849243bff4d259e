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
class Verification:
    """The verified manifest, or None and why."""

    manifest: Manifest | None
    failure: Failure


async def verify_published(cache: CacheBackend, source: SourceFile, recipe: Recipe) -> Verification:
    """Compare the manifest with what is stored. Raises CacheUnavailable; never writes.

    Sizes are compared, digests are not: the worker computed them from what it stored, and
    every later reader gets them as ETag.
    """
    data = b"".join([chunk async for chunk in cache.get(cache_key(source.identity, recipe, MANIFEST))])
    if not data:
        return _failed("the attempt ended without a manifest")
    try:
        manifest = Manifest.from_bytes(data)
    except InvalidInput:
        return _failed("the manifest is unreadable")
    objects = await asyncio.gather(*(cache.head(part.key) for part in manifest.parts))
    for part, stored in zip(manifest.parts, objects, strict=True):
        if stored is None or stored.size != part.size:
            return _failed(f"the {part.kind} part is missing or cut short")
    return Verification(manifest, Failure(Reason.PUBLISHED, ""))


def _failed(detail: str) -> Verification:
    return Verification(None, Failure(Reason.TOOL_FAILED, detail))
