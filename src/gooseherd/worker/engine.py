"""One attempt from order to manifest: parts that are stored are kept, missing ones are made.

Keys are known before any run, so each step's receipt says whether the step is still to be
done, and a retry repeats only what an earlier attempt did not finish. The first step begins
while the source arrives, and a file that a step announces is uploaded while it is written
(docs/adr/0009-stream-in-stream-out.md).
"""

from __future__ import annotations

import asyncio
import dataclasses
import logging
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final, Protocol

from gooseherd import tracing
from gooseherd.domain.artifact import Kind, Manifest, Part, StepReceipt
from gooseherd.domain.attempt import AttemptSpec, EventKind
from gooseherd.domain.contig import Contig, with_lengths
from gooseherd.domain.formats import CRAM
from gooseherd.domain.keys import Recipe
from gooseherd.domain.ports.cache import CacheBackend
from gooseherd.domain.ports.source import Fetched, Sources
from gooseherd.domain.processing import HERE, Arriving, Processor, Step, StepInput, StepOutput
from gooseherd.domain.reference import BroughtReferences, ReferenceSequence
from gooseherd.domain.source import WEAK_NOTE, IdentityKind, Sidecar, SidecarKind, SourceFile
from gooseherd.worker.failure_reason import failure_of
from gooseherd.worker.progress import FETCH_PERCENT, Emit, ProgressReporter
from gooseherd.worker.publication import Publication
from gooseherd.worker.references import References
from gooseherd.worker.streaming_source import OnFetched, StreamingSource

log = logging.getLogger(__name__)

_BEGIN_BYTES: Final = 4 << 20
"""Of the source, before the first step begins: a smaller one is whole by then."""
_MOST_INDEX_BYTES: Final = 1 << 28
_OWN_INDEX: Final = "what a CRAM is served with is made here"


class Processors(Protocol):
    """Finds the processor of a recipe."""

    def processor(self, recipe: Recipe) -> Processor:
        """UnsupportedFormat or Misconfigured when this build cannot follow the recipe."""
        ...


async def run_attempt(
    spec: AttemptSpec,
    *,
    cache: CacheBackend,
    sources: Sources,
    registry: Processors,
    work: Path,
    emit: Emit,
    references: References | None = None,
) -> None:
    """Make the artifact that the spec orders, emitting events up to the last one.

    `work` is a folder for scratch of this attempt alone; it is removed before the last event.
    Every failure becomes a last event. Cancellation removes the scratch and is raised
    without a last event: only the caller knows the reason.
    """
    tracing.record_below(spec.traceparent, lambda fields: emit(EventKind.SPAN, span=fields))
    run = _Run(spec, cache, sources, registry, work, emit, references)
    try:
        try:
            with tracing.timed("run"):
                manifest = await run.publish()
        finally:
            await run.end()
    except asyncio.CancelledError:
        shutil.rmtree(work, ignore_errors=True)
        raise
    except Exception as error:
        failure = failure_of(error)
        log.warning("attempt failed", exc_info=error, extra={"reason": str(failure.reason)})
        await _clear(work)
        emit(EventKind.FAILED, reason=failure.reason, detail=failure.detail, bytes_in=run.bytes_in)
    else:
        await _clear(work)
        emit(
            EventKind.DONE,
            manifest_digest=manifest.digest,
            percent=100.0,
            bytes_in=run.bytes_in,
            bytes_out=sum(part.size for part in manifest.parts),
        )


class _Run:
    def __init__(
        self,
        spec: AttemptSpec,
        cache: CacheBackend,
        sources: Sources,
        registry: Processors,
        work: Path,
        emit: Emit,
        references: References | None,
    ) -> None:
        self._spec = spec
        self._references = references
        self._sources = sources
        self._registry = registry
        self._work = work
        self._emit = emit
        self._progress = ProgressReporter(emit)
        self._publication = Publication(cache, spec.source.identity, spec.recipe, spec.attempt)
        self._source = work / "source" / spec.source.filename
        self._streaming_source: StreamingSource | None = None
        self._made: dict[Kind, Path] = {}

    @property
    def bytes_in(self) -> int:
        """Of the source, that have arrived."""
        return self._progress.bytes_arrived

    async def end(self) -> None:
        """Cancel the download and the uploads that are still running."""
        try:
            if self._streaming_source is not None:
                await self._streaming_source.stop()
        finally:
            await self._publication.abandon()

    async def publish(self) -> Manifest:
        processor = self._registry.processor(self._spec.recipe)
        steps = processor.steps(self._spec.recipe.source_format)
        if self._spec.attempt.number == 1 and any(step.needs is None for step in steps):
            # Nearly always nothing is stored yet: the download begins while the cache is asked.
            await self._begin_fetch()
        # At the same time: each may be a request to a remote service.
        published, found = await asyncio.gather(
            self._publication.manifest(),
            asyncio.gather(*(self._publication.receipt(step.name) for step in steps)),
        )
        if published is not None:
            return published
        receipts = dict(zip((step.name for step in steps), found, strict=True))
        to_run = [step for step in steps if receipts[step.name] is None]
        shares = self._shares(steps, to_run)
        if self._streaming_source is not None and all(step.needs is not None for step in to_run):
            await self._streaming_source.stop()
        # Kept steps are reported first: the job's record shows them while the rest is made.
        for step in steps:
            receipt = receipts[step.name]
            if receipt is not None:
                self._progress.skip(shares[step.name])
                self._emit_complete(receipt)
        for at, step in enumerate(to_run):
            with tracing.timed(f"step {step.name}"):
                receipts[step.name] = await self._run_step(
                    step, to_run[at + 1 :], shares, [r for r in receipts.values() if r is not None]
                )
        done = [receipt for step in steps if (receipt := receipts[step.name]) is not None]
        manifest = Manifest.of_steps(
            source=str(self._spec.source.identity),
            source_format=self._spec.recipe.source_format.name,
            processor=processor.name,
            processor_version=processor.version(self._spec.recipe.source_format),
            receipts=done,
        )
        manifest = dataclasses.replace(manifest, notes=(*manifest.notes, *_notes_on(self._spec.source)))
        with tracing.timed("publish"):
            return await self._publication.conclude(manifest)

    def _shares(self, steps: tuple[Step, ...], to_run: list[Step]) -> Mapping[str, float]:
        fetch = FETCH_PERCENT if any(step.needs is None for step in to_run) else 0.0
        whole = sum(step.weight for step in steps) or 1.0
        return {step.name: (100.0 - fetch) * step.weight / whole for step in steps}

    async def _run_step(
        self, step: Step, later: list[Step], shares: Mapping[str, float], receipts: list[StepReceipt]
    ) -> StepReceipt:
        share = shares[step.name]
        if step.needs is None:
            streaming_source = await self._begin_fetch()
            await streaming_source.at_least(_BEGIN_BYTES)
            self._progress.begin_step(step.name)
            output = await streaming_source.run_while_arriving(
                lambda: self._try_step(step, self._source, share, arriving=streaming_source)
            )
        else:
            path = await self._input_of(step.needs, receipts)
            self._progress.begin_step(step.name)
            named: tuple[Contig, ...] = ()
            for before in receipts:
                named = with_lengths(named, before.contigs)
            output = await self._try_step(step, path, share, contigs=named)
        with tracing.timed("upload"):
            receipt = await self._publication.step(step.name, output)
        self._made.update({produced.kind: produced.path for produced in output.files})
        self._progress.end_step(share)
        self._emit_complete(receipt)
        await asyncio.to_thread(self._remove_unneeded, later)
        return receipt

    async def _try_step(
        self,
        step: Step,
        path: Path,
        share: float,
        *,
        arriving: Arriving = HERE,
        contigs: tuple[Contig, ...] = (),
    ) -> StepOutput:
        """Run the step in an empty folder; a try before it may have left files."""
        await self._publication.abandon()
        work = self._work / "steps" / step.name
        await asyncio.to_thread(_make_anew, work)

        def report(fraction: float, bytes_in: int, bytes_out: int) -> None:
            self._progress.running(share, fraction, bytes_in, bytes_out)

        return await step.run(
            StepInput(
                self._spec.source,
                path,
                work,
                report,
                self._spec.limits.scratch_bytes,
                arriving,
                self._publication.announce,
                self._fetch_index,
                contigs,
                self._bring_references,
            )
        )

    async def _bring_references(
        self, needed: Sequence[ReferenceSequence], also: Sequence[ReferenceSequence], /
    ) -> BroughtReferences:
        if self._references is None:
            return BroughtReferences(self._work, configured=False)
        return await self._references.bring(needed, also, self._progress.waiting)

    async def _fetch_index(self, sidecar: Sidecar, into: Path) -> None:
        source = dataclasses.replace(
            self._spec.source,
            access_url=sidecar.access_url,
            md5=None,
            sha256=None,
            size_in_bytes=sidecar.size_in_bytes,
            version_tag=None,
        )
        await self._sources.fetch(source, into, limit=_MOST_INDEX_BYTES, report=lambda *_: None)

    async def _input_of(self, kind: Kind, receipts: list[StepReceipt]) -> Path:
        made = self._made.get(kind)
        if made is None:
            part = _part(receipts, kind)
            made = self._work / "kept" / part.filename
            await self._publication.download(part, made)
            self._made[kind] = made
        return made

    async def _begin_fetch(self) -> StreamingSource:
        if self._streaming_source is None:
            source = self._spec.source
            self._progress.begin_step()
            await asyncio.to_thread(self._source.parent.mkdir, parents=True)

            def report(there: int, total: int | None) -> None:
                size = total or source.size_in_bytes
                self._progress.arrived(there / size if size else 0.0, there)

            async def fetch(report: OnFetched) -> Fetched:
                limit = self._spec.limits.source_bytes
                with tracing.timed("fetch"):
                    fetched = await self._sources.fetch(
                        source, self._source, limit=limit, report=report, pausing=self._progress.waiting
                    )
                self._progress.arrived(1.0, fetched.size)
                return fetched

            self._streaming_source = StreamingSource(fetch, expected=source.size_in_bytes, report=report)
        return self._streaming_source

    def _remove_unneeded(self, later: list[Step]) -> None:
        """Remove the files that no later step reads."""
        needed = {step.needs for step in later}
        for kind in [kind for kind in self._made if kind not in needed]:
            made = self._made.pop(kind)
            if made != self._source:
                made.unlink(missing_ok=True)
        # A step that hands on the source as it is publishes that very file.
        if None not in needed and self._source not in self._made.values():
            self._source.unlink(missing_ok=True)

    def _emit_complete(self, receipt: StepReceipt) -> None:
        parts = tuple({**dataclasses.asdict(part), "kind": str(part.kind)} for part in receipt.parts)
        self._emit(
            EventKind.STEP_COMPLETE,
            step=receipt.step,
            parts=parts,
            percent=round(self._progress.percent, 2),
        )


def _part(receipts: list[StepReceipt], kind: Kind) -> Part:
    return next(part for receipt in receipts for part in receipt.parts if part.kind is kind)


def _notes_on(source: SourceFile) -> tuple[str, ...]:
    """What is to be told of the catalog's entry, whatever was made of the bytes."""
    left_out = tuple(
        f"upstream's {sidecar.kind} index is left out: "
        + (_OWN_INDEX if _is_own(source, sidecar) else f"a {source.file_format.name} is not served with one")
        for sidecar in source.left_out
    )
    return ((WEAK_NOTE,) if source.identity.kind is IdentityKind.WEAK else ()) + left_out


def _is_own(source: SourceFile, sidecar: Sidecar) -> bool:
    return source.file_format is CRAM and sidecar.kind is SidecarKind.CRAI


def _make_anew(folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)


async def _clear(work: Path) -> None:
    await asyncio.to_thread(shutil.rmtree, work, ignore_errors=True)
