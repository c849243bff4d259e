"""What a processor is: it turns one format into artifacts, in steps that can be kept."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final, Protocol

from gooseherd.domain.errors import GooseherdError
from gooseherd.domain.failures import Failure, Reason

if TYPE_CHECKING:  # Programs that tools are made of import this module for StepFailed alone.
    from gooseherd.domain.artifact import Kind
    from gooseherd.domain.contig import Contig
    from gooseherd.domain.formats import Format
    from gooseherd.domain.reference import BroughtReferences, ReferenceSequence
    from gooseherd.domain.source import Sidecar, SourceFile

Report = Callable[[float, int, int], None]
"""Called with (fraction of the step 0..1, bytes read, bytes written); cheap, any rate."""


@dataclass(eq=False)
class StepFailed(GooseherdError):
    """A step cannot give its parts; carries the reason the attempt will end with."""

    failure: Failure

    def __str__(self) -> str:
        return f"{self.failure.reason}: {self.failure.detail}"

    @classmethod
    def because(cls, reason: Reason, detail: str) -> StepFailed:
        """Short form for raising."""
        return cls(Failure(reason, detail))


class Arriving(Protocol):
    """A file on its way: what is in it already, and when that was all.

    Bytes that were counted stay as they are while a step runs; when they turn out wrong after
    all, the step is cancelled and begun anew. Both calls raise StepFailed when the file will
    never be whole: that failure is the attempt's.
    """

    @property
    def complete(self) -> bool:
        """All bytes are there, and they are the right ones."""
        ...

    @property
    def size(self) -> int | None:
        """How many bytes it will have, as far as anybody has said; the truth once it is complete."""
        ...

    async def at_least(self, size: int) -> int:
        """Wait until `size` bytes are there or the file is complete; how many there are.

        Fewer than asked for means that it is complete; so many or more says nothing about that.
        """
        ...

    async def whole(self) -> None:
        """Wait until the file is complete."""
        ...


class _Here:
    """A file that was whole from the start."""

    complete: Final = True
    size: Final = None

    async def at_least(self, size: int) -> int:
        return 0

    async def whole(self) -> None:
        return None


HERE: Final = _Here()


@dataclass(frozen=True, slots=True)
class Produced:
    """A finished file in the step's work folder, to be published as one part.

    `name` is the object's name in the artifact (fixed per processor, so the key is known
    before any run), `filename` what a person would save it as.
    """

    kind: Kind
    path: Path
    name: str
    filename: str
    media_type: str = "application/octet-stream"


def _nobody(_: Produced) -> None:
    """Nobody wants to know."""


async def _nothing(_: Sidecar, __: Path) -> None:
    raise StepFailed.because(Reason.SOURCE_MISSING, "there is no upstream")


class BringReferences(Protocol):
    """Called with sequences that are needed, and others that are worth keeping when they are met."""

    def __call__(
        self, needed: Sequence[ReferenceSequence], also: Sequence[ReferenceSequence], /
    ) -> Awaitable[BroughtReferences]: ...


async def _no_references(
    _: Sequence[ReferenceSequence], __: Sequence[ReferenceSequence]
) -> BroughtReferences:
    from gooseherd.domain.reference import BroughtReferences

    return BroughtReferences(Path("no-references"), configured=False)


@dataclass(frozen=True, slots=True)
class StepInput:
    """What a step works on.

    `path` is the source, or, for a step that `needs` a kind, that part's bytes. `work` is an
    empty folder of the step's own, removed by the caller.
    """

    source: SourceFile
    path: Path
    work: Path
    report: Report
    scratch_bytes: int
    """The most the step may write below `work`."""
    arriving: Arriving = HERE
    """How much of `path` is there already. A step that needs all of it waits for that."""
    announce: Callable[[Produced], None] = _nobody
    """Say early what will probably be published, when a tool is about to write it.

    Only a file that is appended to and never changed otherwise; it may not be there yet, and it
    may be removed and written anew. The next announcement under that name replaces it. Nobody
    sees any of it unless the step returns that very file.
    """
    fetch_index: Callable[[Sidecar, Path], Awaitable[None]] = _nothing
    """Download an index that upstream publishes beside the source; StepFailed as when a source is fetched."""
    contigs: tuple[Contig, ...] = ()
    """Sequences as the steps before named them, of this attempt or of one before."""
    bring_references: BringReferences = _no_references
    """Bring reference sequences that the source leaves out, as many as can be had; they stay for the attempt.

    StepFailed when some are missing and a source that may have them cannot be had.
    """


@dataclass(frozen=True, slots=True)
class StepOutput:
    """What a step made and what it noticed; becomes the step's receipt."""

    files: tuple[Produced, ...]
    contigs: tuple[Contig, ...] = ()
    counts: Mapping[str, int] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    tools: Mapping[str, str] = field(default_factory=dict)


class Step(Protocol):
    """One tool-sized unit of a processor; its output can be kept while a later one fails."""

    @property
    def name(self) -> str:
        """Stable: the receipt's key is made of it."""
        ...

    @property
    def needs(self) -> Kind | None:
        """None: works on the source. A kind: works on that part, made by an earlier step."""
        ...

    @property
    def weight(self) -> float:
        """Share of the processor's time, relative to its other steps."""
        ...

    async def run(self, given: StepInput) -> StepOutput:
        """Make the parts. Deterministic: same input bytes, same output bytes.

        Cancellation ends every child process before it returns.

        Raises:
            StepFailed: with the reason; nothing the step wrote will be published.
        """
        ...


class Processor(Protocol):
    """Makes artifacts from some formats. When the bytes made of a format change, so does its `version`."""

    @property
    def name(self) -> str:
        """Part of every key."""
        ...

    def version(self, source_format: Format) -> str:
        """Part of every key of that format."""
        ...

    @property
    def formats(self) -> frozenset[Format]:
        """What it reads."""
        ...

    @property
    def kinds(self) -> frozenset[Kind]:
        """What it makes."""
        ...

    def steps(self, source_format: Format) -> tuple[Step, ...]:
        """The steps for this format, in order."""
        ...

    def filenames(self, source: SourceFile) -> Mapping[Kind, str]:
        """What the parts made of `source` will be called: the `filename` of what the steps produce.

        Known before any of them ran, so an index is the usual one (.tbi, .bai), although it turns out a
        .csi for a sequence that those cannot hold.
        """
        ...
