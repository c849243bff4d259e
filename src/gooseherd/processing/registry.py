"""Which processor makes what of a source; light to import, for the API computes keys with it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import Final

from gooseherd.domain.artifact import Kind
from gooseherd.domain.errors import Misconfigured, UnsupportedFormat
from gooseherd.domain.formats import BIGWIG, CSV, TSV, Format
from gooseherd.domain.keys import Recipe
from gooseherd.domain.processing import Processor
from gooseherd.domain.source import SourceFile
from gooseherd.processing.alignments import BamIndexProcessor
from gooseherd.processing.confinement import Confinement
from gooseherd.processing.intervals import TabixIntervalProcessor
from gooseherd.processing.passthrough import PassthroughProcessor
from gooseherd.processing.workbench import DEFAULT_LEVEL, Budget

LEVELS: Final = frozenset("123456789")
"""Of compression, as they stand at the end of a version."""


class ProcessorRegistry:
    """Processors by format. A source with upstream indexes goes through unchanged: the pair stays a pair."""

    def __init__(
        self,
        by_format: Mapping[Format, Processor],
        unchanged: Processor,
        at_level: Callable[[int], Iterable[Processor]] = lambda _: (),
    ) -> None:
        self._by_format = MappingProxyType(dict(by_format))
        self._unchanged = unchanged
        self._by_name = {p.name: p for p in (*by_format.values(), unchanged)}
        self._at_level = at_level

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
        """The processor of that recipe, at the compression level that its version names.

        Raises:
            Misconfigured: unknown here, or of another version: the recipe is another build's.
        """
        processor = self._by_name.get(recipe.processor)
        if processor is None or recipe.source_format not in processor.formats:
            raise Misconfigured("build", f"no processor {recipe.processor!r} for {recipe.source_format.name}")
        if processor.version != recipe.processor_version:
            processor = self._of_level(recipe) or processor
        if processor.version != recipe.processor_version:
            raise Misconfigured(
                "build",
                f"{recipe.processor} is version {processor.version} here, not {recipe.processor_version}",
            )
        return processor

    def _of_level(self, recipe: Recipe) -> Processor | None:
        level = recipe.processor_version.rpartition(".")[2]
        if level not in LEVELS:
            return None
        return next((p for p in self._at_level(int(level)) if p.name == recipe.processor), None)

    def kinds(self, recipe: Recipe) -> frozenset[Kind]:
        """What the artifact of that recipe has. Raises as `processor` does."""
        return self.processor(recipe).kinds


def default_registry(
    *,
    sort_memory: int,
    samtools_memory: int,
    threads: int,
    level: int = DEFAULT_LEVEL,
    search_path: str | None = None,
    confinement: Confinement | None = None,
) -> ProcessorRegistry:
    """All processors of this build. Bytes of memory for a tool as a whole; the rest as in `Budget`.

    `level` is what new recipes name. Every recipe is followed at its own.
    """
    budget = Budget(sort_memory, samtools_memory, threads, level, search_path, confinement or Confinement())
    unchanged = PassthroughProcessor(budget)

    def at_level(level: int) -> tuple[Processor, ...]:
        leveled = replace(budget, level=level)
        return BamIndexProcessor(leveled), TabixIntervalProcessor(leveled)

    by_format: dict[Format, Processor] = {f: p for p in at_level(level) for f in p.formats}
    return ProcessorRegistry(
        {**by_format, **dict.fromkeys((CSV, TSV, BIGWIG), unchanged)}, unchanged, at_level
    )
