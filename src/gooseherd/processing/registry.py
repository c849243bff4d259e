"""The processor of each format; light to import, because the API computes keys with it."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import Final

from gooseherd.domain.artifact import Kind
from gooseherd.domain.errors import Misconfigured, UnsupportedFormat
from gooseherd.domain.formats import BIGWIG, COOL, CRAM, CSV, HIC, MCOOL, TSV, TWOBIT, Format
from gooseherd.domain.keys import Recipe, recipe_name
from gooseherd.domain.processing import Processor
from gooseherd.domain.source import SourceFile
from gooseherd.processing.alignments import BamIndexProcessor
from gooseherd.processing.intervals import SKIPPING, TabixIntervalProcessor
from gooseherd.processing.passthrough import PassthroughProcessor, UpstreamIndexProcessor
from gooseherd.processing.processors.crams import CramIndexProcessor
from gooseherd.processing.processors.flatfiles import FlatfileProcessor
from gooseherd.processing.processors.name_indexes import NameIndexProcessor
from gooseherd.processing.processors.sequences import FastaProcessor
from gooseherd.processing.processors.signals import SignalProcessor
from gooseherd.processing.processors.two_ended import TwoEndedProcessor
from gooseherd.processing.step_context import Budget, quickest_level
from gooseherd.processing.tools.isolation import Confinement
from gooseherd.processing.tools.verifier import LoadedVerifier

_RECIPE: Final = re.compile(rf"\.([0-9])(d?)({SKIPPING}?)$")
"""The end of a version: the compression level, and whether there is a density (Budget.recipe); whether bad
lines are left out."""


class ProcessorRegistry:
    """Processors by format. A source with upstream indexes stays as it is if they fit."""

    def __init__(
        self,
        by_format: Mapping[Format, Processor],
        unchanged: Processor,
        processors_at: Callable[[int, bool, bool], Iterable[Processor]] = lambda *_: (),
        with_index: Processor | None = None,
        others: Iterable[Processor] = (),
        on_demand: Iterable[Processor] = (),
    ) -> None:
        """`on_demand`: make artifacts of their own beside the usual one, when a part of them is asked for."""
        self._on_demand = tuple(on_demand)
        self._by_format = MappingProxyType(dict(by_format))
        self._unchanged = unchanged
        self._with_index = with_index
        named = (
            *by_format.values(),
            unchanged,
            *((with_index,) if with_index else ()),
            *others,
            *self._on_demand,
        )
        self._by_name = {p.name: p for p in named}
        self._processors_at = processors_at

    @property
    def formats(self) -> Iterable[Format]:
        """All formats that have a processor."""
        return self._by_format.keys()

    @property
    def recipe_names(self) -> frozenset[str]:
        """All recipes that are made now, as they stand in artifacts' prefixes."""
        return frozenset(
            recipe_name(Recipe(processor.name, processor.version(made_of), made_of))
            for processor in self._by_name.values()
            for made_of in processor.formats
        )

    def recipe(self, source: SourceFile) -> Recipe:
        """What will be made of this source.

        Raises:
            UnsupportedFormat: nothing can be.
        """
        processor = self._by_format.get(source.file_format)
        if processor is None:
            raise UnsupportedFormat(source.file_format.name, tuple(sorted(f.name for f in self._by_format)))
        if source.index_to_check is not None and self._with_index is not None:
            processor = self._with_index
        elif source.is_upstreams_pair:
            processor = self._unchanged
        return Recipe(processor.name, processor.version(source.file_format), source.file_format)

    def recipes_on_demand(self, source: SourceFile) -> tuple[Recipe, ...]:
        """What makes artifacts of their own beside the usual one, for those who ask for a part of them."""
        made_of = source.file_format
        return tuple(
            Recipe(processor.name, processor.version(made_of), made_of)
            for processor in self._on_demand
            if made_of in processor.formats and not source.is_upstreams_pair
        )

    def processor(self, recipe: Recipe) -> Processor:
        """The processor of that recipe, with the settings that its version names.

        Raises:
            Misconfigured: unknown here, or of another version: the recipe is another build's.
        """
        processor = self._by_name.get(recipe.processor)
        if processor is None or recipe.source_format not in processor.formats:
            raise Misconfigured("build", f"no processor {recipe.processor!r} for {recipe.source_format.name}")
        if processor.version(recipe.source_format) != recipe.processor_version:
            processor = self._processor_of_version(recipe) or processor
        if (version := processor.version(recipe.source_format)) != recipe.processor_version:
            raise Misconfigured(
                "build",
                f"{recipe.processor} is version {version} here, not {recipe.processor_version}",
            )
        return processor

    def _processor_of_version(self, recipe: Recipe) -> Processor | None:
        match = _RECIPE.search(recipe.processor_version)
        if match is None:
            return None
        return next(
            (
                p
                for p in self._processors_at(int(match[1]), bool(match[2]), bool(match[3]))
                if p.name == recipe.processor
            ),
            None,
        )

    def kinds(self, recipe: Recipe) -> frozenset[Kind]:
        """What the artifact of that recipe has. Raises as `processor` does."""
        return self.processor(recipe).kinds

    def filenames(self, source: SourceFile, recipe: Recipe) -> Mapping[Kind, str]:
        """What the parts of `source` are called by that recipe. Raises as `processor` does."""
        return self.processor(recipe).filenames(source)


def default_registry(
    *,
    sort_memory: int,
    samtools_memory: int,
    threads: int,
    level: int | None = None,
    density: bool = False,
    skip_bad_lines: bool = False,
    keep_cram: bool = False,
    search_path: str | None = None,
    confinement: Confinement | None = None,
    verifier: LoadedVerifier | None = None,
) -> ProcessorRegistry:
    """All processors of this build. Bytes of memory for a tool as a whole; the rest as in `Budget`.

    `level`, `density`, `skip_bad_lines` and `keep_cram` (or it becomes BAM) are what new recipes name;
    None: the quickest level that there is here. A recipe that exists is followed as it names them.
    """
    budget = Budget(
        sort_memory,
        samtools_memory,
        threads,
        search_path=search_path,
        confinement=confinement or Confinement(),
        verifier=verifier,
    )
    unchanged = PassthroughProcessor(budget)

    def processors_at(level: int, density: bool, skip_bad_lines: bool) -> tuple[Processor, ...]:
        so = replace(budget, level=level, density=density, skip_bad_lines=skip_bad_lines)
        return (
            BamIndexProcessor(so),
            TabixIntervalProcessor(so),
            FastaProcessor(so),
            SignalProcessor(so),
            TwoEndedProcessor(so),
            FlatfileProcessor(so),
            CramIndexProcessor(so),
            UpstreamIndexProcessor(so),
        )

    new = quickest_level(search_path) if level is None else level
    reads, *of_formats, crams, with_index = processors_at(new, density, skip_bad_lines)
    by_format: dict[Format, Processor] = {f: p for p in (reads, *of_formats) for f in p.formats}
    if keep_cram:
        by_format[CRAM] = crams
    return ProcessorRegistry(
        {**by_format, **dict.fromkeys((CSV, TSV, BIGWIG, TWOBIT, HIC, COOL, MCOOL), unchanged)},
        unchanged,
        processors_at,
        with_index,
        (crams,),
        (NameIndexProcessor(budget),),
    )
