"""Which processor makes what of a source; light to import, for the API computes keys with it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from types import MappingProxyType

from gooseherd.domain.artifact import Kind
from gooseherd.domain.errors import Misconfigured, UnsupportedFormat
from gooseherd.domain.formats import BIGWIG, CSV, TSV, Format
from gooseherd.domain.keys import Recipe
from gooseherd.domain.processing import Processor
from gooseherd.domain.source import SourceFile
from gooseherd.processing.alignments import BamIndexProcessor
from gooseherd.processing.intervals import TabixIntervalProcessor
from gooseherd.processing.passthrough import PassthroughProcessor
from gooseherd.processing.workbench import Budget


class ProcessorRegistry:
    """Processors by format. A source with upstream indexes goes through unchanged: the pair stays a pair."""

    def __init__(self, by_format: Mapping[Format, Processor], unchanged: Processor) -> None:
        self._by_format = MappingProxyType(dict(by_format))
        self._unchanged = unchanged
        self._by_name = {p.name: p for p in (*by_format.values(), unchanged)}

    @property
    def formats(self) -> Iterable[Format]:
        """All formats that have a processor."""
        return self._by_format.keys()

    def recipe(self, source: SourceFile) -> Recipe:
        """What will be made of this source.

        Raises:
            UnsupportedFormat: nothing can be.
        """
        processor = self._by_format.get(source.file_format)
        if processor is None:
            raise UnsupportedFormat(source.file_format.name, tuple(sorted(f.name for f in self._by_format)))
        if source.sidecars:
            processor = self._unchanged
        return Recipe(processor.name, processor.version, source.file_format)

    def processor(self, recipe: Recipe) -> Processor:
        """The processor of that recipe.

        Raises:
            Misconfigured: unknown here, or of another version: the recipe is another build's.
        """
        processor = self._by_name.get(recipe.processor)
        if processor is None or recipe.source_format not in processor.formats:
            raise Misconfigured("build", f"no processor {recipe.processor!r} for {recipe.source_format.name}")
        if processor.version != recipe.processor_version:
            raise Misconfigured(
                "build",
                f"{recipe.processor} is version {processor.version} here, not {recipe.processor_version}",
            )
        return processor

    def kinds(self, recipe: Recipe) -> frozenset[Kind]:
        """What the artifact of that recipe has. Raises as `processor` does."""
        return self.processor(recipe).kinds


def default_registry(
    *, sort_memory: int, samtools_memory: int, threads: int, search_path: str | None = None
) -> ProcessorRegistry:
    """All processors of this build. Bytes of memory for a tool as a whole; `search_path` as in `Budget`."""
    budget = Budget(sort_memory, samtools_memory, threads, search_path)
    unchanged = PassthroughProcessor(budget)
    made: tuple[Processor, ...] = (BamIndexProcessor(budget), TabixIntervalProcessor(budget))
    by_format: dict[Format, Processor] = {f: processor for processor in made for f in processor.formats}
    return ProcessorRegistry({**by_format, **dict.fromkeys((CSV, TSV, BIGWIG), unchanged)}, unchanged)
