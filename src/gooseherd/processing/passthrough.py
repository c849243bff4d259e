"""Files that readers can use as they are: checked and described, not copied."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from gooseherd.domain.artifact import Kind
from gooseherd.domain.contig import Contig
from gooseherd.domain.failures import Reason
from gooseherd.domain.formats import ALL, BIGWIG, Family, Format
from gooseherd.domain.processing import Produced, Step, StepFailed, StepInput, StepOutput
from gooseherd.domain.source import SourceFile
from gooseherd.processing.formats.decompression import Compression
from gooseherd.processing.formats.detection import is_text
from gooseherd.processing.step_context import Budget, StepContext


@dataclass(frozen=True)
class PassthroughProcessor:
    """Tables and bigWig; and whatever upstream has an index for, which fits only those bytes."""

    budget: Budget
    name: str = "passthrough"
    formats: frozenset[Format] = frozenset(ALL)
    kinds: frozenset[Kind] = frozenset({Kind.DATA})

    def version(self, source_format: Format) -> str:
        """The same for all."""
        return "1"

    def filenames(self, source: SourceFile) -> Mapping[Kind, str]:
        """As upstream calls it."""
        return {Kind.DATA: source.filename}

    def steps(self, source_format: Format) -> tuple[Step, ...]:
        """The one step: check and pass on."""
        return (AsItIs(self.budget, source_format),)


@dataclass(frozen=True)
class AsItIs:
    """The source itself, after a check that it can be what the catalog says."""

    budget: Budget
    source_format: Format
    name: str = "data"
    needs: Kind | None = None
    weight: float = 1.0

    async def run(self, given: StepInput) -> StepOutput:
        context = StepContext(given, self.budget)
        detected = await context.detect(self.source_format)
        plain = detected.compression is Compression.PLAIN
        produced = Produced(
            Kind.DATA,
            given.path,
            f"data.{self.source_format.name}",
            given.source.filename,
            self.source_format.media_type if plain else "application/octet-stream",
        )
        given.announce(produced)
        notes: tuple[str, ...] = ()
        contigs: tuple[Contig, ...] = ()
        if self.source_format.family is Family.TABLE:
            if not is_text(detected.head):
                raise StepFailed.because(
                    Reason.SOURCE_INVALID,
                    f"the catalog says {self.source_format.name}, but the file is not text",
                )
            if not detected.head.strip():
                raise StepFailed.because(Reason.SOURCE_INVALID, "the file has no content")
            if not plain:
                notes = (f"stays {detected.compression}-compressed: a browser does not unpack it by itself",)
        elif self.source_format is BIGWIG:
            # Its tree of positions stands at its end.
            await given.arriving.whole()
            contigs = await context.bigwig_contigs(self.source_format)
        await given.arriving.whole()
        given.report(1.0, given.path.stat().st_size, 0)
        return StepOutput(files=(produced,), contigs=contigs, notes=notes)
