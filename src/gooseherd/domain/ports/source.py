"""Upstream files: judged, opened, described and fetched."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from gooseherd.domain.source import SourceFile


@dataclass(frozen=True, slots=True)
class Upstream:
    """Upstream's answer to one request, headers lowercased; `body` must be read or closed."""

    status: int
    headers: Mapping[str, str]
    body: AsyncIterator[bytes]


@dataclass(frozen=True, slots=True)
class Fetched:
    """A verified local copy of a source; `md5` is lowercase hex of what was read."""

    path: Path
    size: int
    md5: str


@dataclass(frozen=True, slots=True)
class SourceDetails:
    """What a source states of itself before it is read; None: nothing."""

    size_in_bytes: int | None = None
    version_tag: str | None = None
    """ETag, else date of the last change; of a file its modification time; of a DRS object its checksum."""


Pausing = Callable[[str, float], None]
"""Called with what is wrong, in words without hosts or addresses, and the seconds until the next try."""


def ignore_pause(_: str, __: float) -> None:
    """Nobody wants to know."""


class Sources(Protocol):
    """Outbound reads.

    Raises OutboundRefused, UpstreamUnavailable, NotFound, AccessDenied, and InvalidInput for
    a URL that names nothing readable (an unknown DRS prefix, a bundle).
    """

    def judge(self, url: str) -> None:
        """Refuse now what a fetch would refuse by the URL alone; asks and resolves nothing, so it is quick.

        Raises:
            OutboundRefused: scheme, host, port or path are not allowed, with the rule and its setting.
            InvalidInput: a drs or s3 URL that names nothing readable.
        """
        ...

    def open(self, url: str, headers: Mapping[str, str]) -> AbstractAsyncContextManager[Upstream]:
        """One guarded GET, Range passed on; redirects are followed and re-checked."""
        ...

    def is_private(self, url: str) -> bool:
        """Whether something of this service's own opens it: its artifacts are then not for everybody."""
        return False

    async def details(self, url: str) -> SourceDetails:
        """Size and version by one guarded HEAD (a file's by stat), tried once; no byte is read.

        How long that may take is the caller's to bound, by cancelling it.
        """
        ...

    async def fetch(
        self,
        source: SourceFile,
        into: Path,
        *,
        limit: int,
        report: Callable[[int, int | None], None],
        pausing: Pausing = ignore_pause,
    ) -> Fetched:
        """Download into the file `into`, resuming what broke off, digests computed while streaming.

        `report(bytes so far, total or None)` is called often. `limit` is in bytes. So many bytes
        are in the file then and stay as they are, so that they can be read already; unless a later
        report says fewer: then what lay beyond was wrong and is gone. They are verified once
        this returns. `pausing` is called before each wait between two tries.

        Raises:
            StepFailed: source_missing, source_forbidden (by upstream or by the guard, the
                rule named), source_changed (digest or size differ from the catalog),
                source_too_large, source_invalid (a URL that names nothing readable),
                source_unavailable or out_of_disk.
        """
        ...

    async def close(self) -> None:
        """Free connections; idempotent."""
        ...
