"""Brings the reference sequences that a source needs: from the folder of the machine, else fetched and split.

A FASTA is fetched once for all that the source names; each of its sequences is known by the M5 of its own
bases, so a reference cannot be another one than meant, whatever the file behind a URL holds.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import threading
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from gooseherd.blocking import in_thread, in_thread_until
from gooseherd.domain.failures import Reason
from gooseherd.domain.formats import FASTA
from gooseherd.domain.ports.source import Pausing, Sources
from gooseherd.domain.processing import StepFailed
from gooseherd.domain.reference import BroughtReferences, ReferenceSequence
from gooseherd.domain.source import Dcc, LocalId, SourceFile
from gooseherd.processing.formats.decompression import MAX_BYTES
from gooseherd.processing.formats.reference_fasta import SequenceSink, sequences_of
from gooseherd.sources.references import SETTING, ReferenceSource, in_order
from gooseherd.worker.failure_reason import lacks_room
from gooseherd.worker.reference_store import DraftSequence, ReferenceStore, ReferenceUse

log = logging.getLogger(__name__)

_POLL_SECONDS: Final = 0.5
_POLLS_TOLD_EVERY: Final = 60
_ROOM_CHECKED_EVERY: Final = 16 << 20
"""Bytes that go into the folder without looking again whether there is room."""
_MOST_NAMES: Final = 200_000
"""Sequences of a FASTA whose M5s are remembered."""
_PROBLEMS: Final[Mapping[Reason, str]] = {
    Reason.SOURCE_MISSING: "there is no such file",
    Reason.SOURCE_FORBIDDEN: "access is denied, there or by our rules of what may be fetched",
    Reason.SOURCE_TOO_LARGE: "it is larger than SOURCE_REFERENCES_MAX_BYTES",
    Reason.SOURCE_UNAVAILABLE: "it does not answer",
    Reason.OUT_OF_DISK: "no space left for it",
}
"""Instead of what the fetch says, which may name a host of the operator's."""
_OURS: Final = frozenset({Reason.SOURCE_UNAVAILABLE, Reason.OUT_OF_DISK})
"""Failures after which another try may help; others are for whoever set the setting."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReferenceRules:
    """What SOURCE_REFERENCES… say, and where the folder of this machine is."""

    sources: tuple[ReferenceSource, ...] = ()
    most_bytes: int = 16 << 30
    folder: Path


@dataclass
class _Split:
    """What was found in one FASTA."""

    contents: dict[str, str] = field(default_factory=dict)
    found: set[str] = field(default_factory=set)


class References:
    """Those of one attempt; what it was given stays in the folder until `close`."""

    def __init__(self, rules: ReferenceRules, sources: Sources, work: Path) -> None:
        self._rules = rules
        self._sources = sources
        self._work = work
        self._store: ReferenceStore | None = None
        self._use: ReferenceUse | None = None

    async def bring(
        self, wanted: Sequence[ReferenceSequence], also: Sequence[ReferenceSequence], pausing: Pausing
    ) -> BroughtReferences:
        """As many of `wanted` as the sources have; of `also` those that are met on the way.

        Raises:
            StepFailed: some are missing, and a source that may have them cannot be had or read.
        """
        if not self._rules.sources:
            return BroughtReferences(self._rules.folder, configured=False)
        if self._store is None:
            try:
                self._store = await in_thread(ReferenceStore, self._rules.folder, self._rules.most_bytes)
                self._use = await in_thread(self._store.begin_use)
            except OSError as error:
                if lacks_room(error):
                    raise
                problem = f"the folder of reference sequences cannot be used ({error.strerror})"
                raise StepFailed.because(Reason.MISCONFIGURED, f"{problem}: SOURCE_REFERENCES_DIR") from error
        found = set(await self._kept({sequence.m5 for sequence in wanted}))
        missing = [sequence for sequence in wanted if sequence.m5 not in found]
        different: dict[str, tuple[str, str]] = {}
        first_problem: StepFailed | None = None
        for source in in_order(self._rules.sources, missing):
            for url, sequences in _requests(source, [s for s in missing if s.m5 not in found]):
                try:
                    split = await self._from(source, url, sequences, also, pausing)
                except StepFailed as failed:
                    if not (source.by_m5 and failed.failure.reason is Reason.SOURCE_MISSING):
                        first_problem = first_problem or _problem(source, failed)
                    continue
                found |= split.found
                for sequence in sequences:
                    m5 = split.contents.get(sequence.name, sequence.m5)
                    if m5 != sequence.m5:
                        different[sequence.name] = (source.name, m5)
        if first_problem is not None and any(sequence.m5 not in found for sequence in missing):
            raise first_problem
        return BroughtReferences(self._store.sequences, frozenset(found), different)

    async def close(self) -> None:
        """Let go of the sequences; idempotent."""
        if self._use is not None:
            await in_thread(self._use.close)

    async def _kept(self, m5s: Collection[str]) -> frozenset[str]:
        """Those that are in the folder, and stay there for this attempt."""
        assert self._store is not None
        assert self._use is not None
        stop = threading.Event()
        return await in_thread_until(stop.set, self._store.use, self._use, m5s, stop)

    async def _from(
        self,
        source: ReferenceSource,
        url: str,
        missing: Sequence[ReferenceSequence],
        also: Sequence[ReferenceSequence],
        pausing: Pausing,
    ) -> _Split:
        """Read one file, if it is not known to lack what is missing; one attempt of the machine at a time."""
        assert self._store is not None
        name, m5s = hashlib.sha256(url.encode()).hexdigest(), {sequence.m5 for sequence in missing}
        polls = 0
        while (lock := await in_thread(self._store.lock_of, name)) is None:
            if polls % _POLLS_TOLD_EVERY == 0:
                seconds = _POLL_SECONDS * _POLLS_TOLD_EVERY
                pausing(f"another attempt fetches the reference {source.name}", seconds)
            polls += 1
            await asyncio.sleep(_POLL_SECONDS)
        try:
            # Another attempt may have brought them in the meantime.
            found = await self._kept(m5s)
            contents = await in_thread(self._store.contents, name)
            if found == m5s or (contents and not m5s & set(contents.values())):
                return _Split(dict(contents), set(found))
            path = self._work / "reference"
            await in_thread(self._work.mkdir, parents=True, exist_ok=True)
            try:
                await self._fetch(url, path, pausing)
                stop = threading.Event()
                split = await in_thread_until(stop.set, self._split, path, missing, also, stop)
            finally:
                await in_thread(path.unlink, missing_ok=True)
            if not source.by_m5 and len(split.contents) < _MOST_NAMES:
                await in_thread(self._store.remember, name, split.contents)
            return _Split(split.contents, split.found | found)
        finally:
            await in_thread(lock.close)

    async def _fetch(self, url: str, path: Path, pausing: Pausing) -> None:
        filename = url.partition("?")[0].rpartition("/")[2] or "reference.fa"
        source = SourceFile(Dcc("reference"), LocalId("reference"), filename, FASTA, url)
        try:
            await self._sources.fetch(
                source, path, limit=self._rules.most_bytes, report=lambda *_: None, pausing=pausing
            )
        except StepFailed as failed:
            # Its words may name a host of the operator's.
            log.warning("a reference cannot be had: %s", failed)
            reason = failed.failure.reason
            raise StepFailed.because(
                reason, _PROBLEMS.get(reason, "its URL names nothing readable")
            ) from None

    def _split(
        self,
        path: Path,
        missing: Sequence[ReferenceSequence],
        also: Sequence[ReferenceSequence],
        stop: threading.Event,
    ) -> _Split:
        assert self._store is not None
        split, store, unchecked = _Split(), self._store, _ROOM_CHECKED_EVERY
        needed = {sequence.m5 for sequence in missing}
        keep = needed | {s.m5 for s in also if not store.has(s.m5)}
        longest = max(sequence.length for sequence in (*missing, *also))
        drafts: list[DraftSequence] = []

        def begin() -> SequenceSink:
            drafts[:] = [store.draft()]
            return _Sink(drafts[0], stop)

        try:
            for sequence in sequences_of(path, begin, longest=longest, max_bytes=MAX_BYTES):
                if sequence.m5 in keep and sequence.length <= longest:
                    unchecked += sequence.length
                    if unchecked >= _ROOM_CHECKED_EVERY:
                        store.make_room(sequence.length)
                        unchecked = 0
                    store.publish(drafts[0], sequence.m5, self._use if sequence.m5 in needed else None)
                    split.found |= {sequence.m5} & needed
                    keep.discard(sequence.m5)
                drafts[0].discard()
                if len(split.contents) < _MOST_NAMES:
                    split.contents[sequence.name] = sequence.m5
        except _Stopped:
            pass
        finally:
            for draft in drafts:
                draft.discard()
        return split


class _Stopped(Exception):
    """The attempt is over."""


class _Sink:
    """A draft that can be told to stop."""

    def __init__(self, draft: DraftSequence, stop: threading.Event) -> None:
        self._draft = draft
        self._stop = stop

    def write(self, data: bytes) -> None:
        if self._stop.is_set():
            raise _Stopped
        self._draft.write(data)


def _requests(
    source: ReferenceSource, missing: Sequence[ReferenceSequence]
) -> list[tuple[str, Sequence[ReferenceSequence]]]:
    """(URL, which sequences it may have) of each file that is to be read of a source."""
    if source.by_m5:
        return [(source.url_of(sequence.m5), (sequence,)) for sequence in missing]
    return [(source.url, missing)] if missing else []


def _problem(source: ReferenceSource, failed: StepFailed) -> StepFailed:
    reason = failed.failure.reason
    return StepFailed.because(
        reason if reason in _OURS else Reason.MISCONFIGURED,
        f"the reference {source.name} of {SETTING} cannot be had: {failed.failure.detail}",
    )
