"""One attempt from order to manifest: what is stored already is kept, what is missing is made.

Keys are known before any run, so each step's receipt says whether the step is still to be
done, and a retry repeats only what an earlier attempt did not finish.
"""

from __future__ import annotations

import asyncio
import dataclasses
import logging
import shutil
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final, Protocol

from gooseherd.domain.artifact import Kind, Manifest, Part, StepReceipt
from gooseherd.domain.attempt import AttemptSpec, EventKind
from gooseherd.domain.keys import Recipe
from gooseherd.domain.ports import CacheBackend, Sources
from gooseherd.domain.processing import Processor, Step, StepInput
from gooseherd.domain.source import IdentityKind
from gooseherd.worker.diagnosis import failure_of
from gooseherd.worker.publication import Publication

log = logging.getLogger(__name__)

_FETCH_PERCENT: Final = 10.0
"""Of the whole job, when the source has to be fetched: downloads are short beside sorting."""
_RUN_SHARE: Final = 0.9
"""Of a step; the rest is publishing what it made."""
WEAK_NOTE: Final = (
    "The source has no published checksum: this artifact stands for its address, size and version tag, "
    "not for bytes that were verified."
)


class Emit(Protocol):
    """Says one event; the rate is the receiver's concern. Called from any thread."""

    def __call__(self, kind: EventKind, **fields: Any) -> object:
        """`fields` are those of `Event`."""


class Registry(Protocol):
    """Finds the processor of a recipe."""

    def processor(self, recipe: Recipe) -> Processor:
        """UnsupportedFormat or Misconfigured when this build cannot follow the recipe."""
        ...


async def run_attempt(
    spec: AttemptSpec, *, cache: CacheBackend, sources: Sources, registry: Registry, work: Path, emit: Emit
) -> None:
    """Publish the artifact the spec orders, saying events up to the last one.

    `work` is a folder for scratch of this attempt alone; it is gone before the last event is said.
    Every failure becomes a last event. Cancellation removes the scratch and is raised
    without a last event: only the caller knows why.
    """
    try:
        manifest = await _Run(spec, cache, sources, registry, work, emit).publish()
    except asyncio.CancelledError:
        shutil.rmtree(work, ignore_errors=True)
        raise
    except Exception as error:
        failure = failure_of(error)
        log.warning("attempt failed", exc_info=error, extra={"reason": str(failure.reason)})
        await _clear(work)
        emit(EventKind.FAILED, reason=failure.reason, detail=failure.detail)
    else:
        await _clear(work)
        emit(EventKind.DONE, manifest_digest=manifest.digest, percent=100.0)


class Meter:
    """Turns shares and fractions into one percentage that never falls, with an estimate of what is left."""

    def __init__(self, emit: Emit, clock: Callable[[], float] = time.monotonic) -> None:
        self._emit = emit
        self._clock = clock
        self._started = clock()
        self._given = 0.0
        self._percent = 0.0

    def grant(self, percent: float) -> None:
        """Count this much as done without work, so that the estimate is not led by it."""
        self._given += percent
        self._percent = min(100.0, self._percent + percent)

    def at(self, step: str, percent: float, bytes_in: int = 0, bytes_out: int = 0) -> None:
        """The whole job stands at `percent`."""
        self._percent = min(100.0, max(self._percent, percent))
        earned = self._percent - self._given
        elapsed = self._clock() - self._started
        eta = elapsed * (100.0 - self._percent) / earned if earned >= 1.0 else None
        self._emit(
            EventKind.PROGRESS,
            step=step,
            percent=round(self._percent, 2),
            bytes_in=bytes_in,
            bytes_out=bytes_out,
            eta_seconds=None if eta is None else round(eta, 1),
        )


class _Run:
    def __init__(
        self,
        spec: AttemptSpec,
        cache: CacheBackend,
        sources: Sources,
        registry: Registry,
        work: Path,
        emit: Emit,
    ) -> None:
        self._spec = spec
        self._sources = sources
        self._registry = registry
        self._work = work
        self._emit = emit
        self._meter = Meter(emit)
        self._publication = Publication(cache, spec.source.identity, spec.recipe)
        self._fetching: asyncio.Task[Path] | None = None
        self._source: Path | None = None
        self._made: dict[Kind, Path] = {}
        self._percent = 0.0

    async def publish(self) -> Manifest:
        processor = self._registry.processor(self._spec.recipe)
        try:
            return await self._publish(processor)
        finally:
            if self._fetching is not None:  # What it found is nobody's concern any more.
                self._fetching.cancel()
                await asyncio.gather(self._fetching, return_exceptions=True)

    async def _publish(self, processor: Processor) -> Manifest:
        steps = processor.steps(self._spec.recipe.source_format)
        if self._spec.attempt.number == 1 and any(step.needs is None for step in steps):
            # Nearly always nothing is stored yet: the source is on its way while that is asked.
            self._begin_fetch()
        # Asked together: each answer may be a trip to another place.
        published, found = await asyncio.gather(
            self._publication.manifest(),
            asyncio.gather(*(self._publication.receipt(step.name) for step in steps)),
        )
        if published is not None:
            return published
        receipts = dict(zip((step.name for step in steps), found, strict=True))
        to_run = [step for step in steps if receipts[step.name] is None]
        shares = self._shares(steps, to_run)
        # What is there is said first: the job's record shows it while the rest is made.
        for step in steps:
            receipt = receipts[step.name]
            if receipt is not None:
                self._percent += shares[step.name]
                self._meter.grant(shares[step.name])
                self._say_complete(receipt)
        for at, step in enumerate(to_run):
            receipts[step.name] = await self._perform(
                step, to_run[at + 1 :], shares, [r for r in receipts.values() if r is not None]
            )
        done = [receipt for step in steps if (receipt := receipts[step.name]) is not None]
        manifest = Manifest.of_steps(
            source=str(self._spec.source.identity),
            source_format=self._spec.recipe.source_format.name,
            processor=processor.name,
            processor_version=processor.version,
            receipts=done,
        )
        if self._spec.source.identity.kind is IdentityKind.WEAK:
            manifest = dataclasses.replace(manifest, notes=(*manifest.notes, WEAK_NOTE))
        return await self._publication.conclude(manifest)

    def _shares(self, steps: tuple[Step, ...], to_run: list[Step]) -> Mapping[str, float]:
        fetch = _FETCH_PERCENT if any(step.needs is None for step in to_run) else 0.0
        whole = sum(step.weight for step in steps) or 1.0
        return {step.name: (100.0 - fetch) * step.weight / whole for step in steps}

    async def _perform(
        self, step: Step, later: list[Step], shares: Mapping[str, float], receipts: list[StepReceipt]
    ) -> StepReceipt:
        path = await self._input(step, receipts)
        self._emit(EventKind.STEP, step=step.name, percent=round(self._percent, 2))
        work = self._work / "steps" / step.name
        await asyncio.to_thread(work.mkdir, parents=True)
        start, share = self._percent, shares[step.name]

        def report(fraction: float, bytes_in: int, bytes_out: int) -> None:
            done = start + share * _RUN_SHARE * min(1.0, max(0.0, fraction))
            self._meter.at(step.name, done, bytes_in, bytes_out)

        output = await step.run(
            StepInput(self._spec.source, path, work, report, self._spec.limits.scratch_bytes)
        )
        receipt = await self._publication.step(step.name, output)
        self._made.update({produced.kind: produced.path for produced in output.files})
        self._percent = start + share
        self._meter.at(step.name, self._percent)
        self._say_complete(receipt)
        await asyncio.to_thread(self._forget, later)
        return receipt

    async def _input(self, step: Step, receipts: list[StepReceipt]) -> Path:
        if step.needs is None:
            if self._source is None:
                self._source = await self._begin_fetch()
                self._percent += _FETCH_PERCENT
            return self._source
        made = self._made.get(step.needs)
        if made is None:
            part = _part(receipts, step.needs)
            made = self._work / "kept" / part.filename
            await self._publication.download(part, made)
            self._made[step.needs] = made
        return made

    def _begin_fetch(self) -> asyncio.Task[Path]:
        if self._fetching is None:
            self._fetching = asyncio.create_task(self._fetch(), name="fetch")
        return self._fetching

    async def _fetch(self) -> Path:
        source = self._spec.source

        def report(done: int, total: int | None) -> None:
            size = total or source.size_in_bytes
            share = _FETCH_PERCENT * min(1.0, done / size) if size else 0.0
            self._meter.at("fetch", self._percent + share, bytes_in=done)

        self._emit(EventKind.STEP, step="fetch", percent=round(self._percent, 2))
        folder = self._work / "source"
        await asyncio.to_thread(folder.mkdir, parents=True)
        limit = self._spec.limits.source_bytes
        fetched = await self._sources.fetch(source, folder / source.filename, limit=limit, report=report)
        self._meter.at("fetch", self._percent + _FETCH_PERCENT, bytes_in=fetched.size)
        return fetched.path

    def _forget(self, later: list[Step]) -> None:
        """Free the disk of what no later step reads."""
        wanted = {step.needs for step in later}
        for kind in [kind for kind in self._made if kind not in wanted]:
            made = self._made.pop(kind)
            if made != self._source:
                made.unlink(missing_ok=True)
        # A step that keeps the source as it is (an already sorted BAM) publishes that very file.
        if self._source is not None and None not in wanted:
            if self._source not in self._made.values():
                self._source.unlink(missing_ok=True)
            self._source = None

    def _say_complete(self, receipt: StepReceipt) -> None:
        parts = tuple({**dataclasses.asdict(part), "kind": str(part.kind)} for part in receipt.parts)
        self._emit(EventKind.STEP_COMPLETE, step=receipt.step, parts=parts, percent=round(self._percent, 2))


def _part(receipts: list[StepReceipt], kind: Kind) -> Part:
    return next(part for receipt in receipts for part in receipt.parts if part.kind is kind)


async def _clear(work: Path) -> None:
    await asyncio.to_thread(shutil.rmtree, work, ignore_errors=True)
