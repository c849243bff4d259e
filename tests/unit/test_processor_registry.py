"""Which processor a source gets, and what the API may import to know it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from gooseherd.domain.artifact import Kind
from gooseherd.domain.errors import Misconfigured, UnsupportedFormat
from gooseherd.domain.formats import ALL, BAM, BED
from gooseherd.domain.keys import Recipe
from gooseherd.domain.source import SourceFile
from gooseherd.processing.registry import ProcessorRegistry, default_registry


@pytest.fixture
def registry() -> ProcessorRegistry:
    return default_registry(sort_memory=1 << 26, samtools_memory=1 << 26, threads=2)


def entry(file_format: str, **more: Any) -> SourceFile:
    result = {
        "dcc": "d",
        "local_id": "x",
        "filename": f"x.{file_format}",
        "access_url": "https://example.org/x",
    }
    return SourceFile.from_json({**result, "file_format": file_format, "md5": "0" * 32, **more})


@pytest.mark.parametrize(
    ("formats", "processor", "kinds"),
    [
        (("csv", "tsv", "bigwig", "2bit", "hic", "cool", "mcool"), "passthrough", {Kind.DATA}),
        (
            ("bedpe", "paf", "pairs"),
            "two-ended",
            {Kind.DATA, Kind.INDEX, Kind.SECOND_END, Kind.SECOND_END_INDEX},
        ),
        (
            ("genbank", "embl"),
            "flatfile",
            {Kind.DATA, Kind.INDEX, Kind.GZI, Kind.ANNOTATION, Kind.ANNOTATION_INDEX},
        ),
        (("bedgraph", "wig"), "signal", {Kind.DATA}),
        (("fasta",), "fasta-index", {Kind.DATA, Kind.INDEX, Kind.GZI}),
        (("sam", "bam", "cram"), "bam-index", {Kind.DATA, Kind.INDEX}),
        (
            (
                *("vcf", "bcf", "gff", "gff3", "gtf", "bed", "narrowpeak", "broadpeak", "bigbed"),
                *("gappedpeak", "tagalign", "interact", "seg", "interval_list", "macs", "ucsc_table"),
            ),
            "tabix-interval",
            {Kind.DATA, Kind.INDEX},
        ),
    ],
)
def test_every_format_has_its_processor(
    registry: ProcessorRegistry, formats: tuple[str, ...], processor: str, kinds: set[Kind]
) -> None:
    for name in formats:
        recipe = registry.recipe(entry(name))
        assert recipe.processor == processor
        assert registry.kinds(recipe) == kinds
        steps = registry.processor(recipe).steps(recipe.source_format)
        of_one_pass = processor in ("fasta-index", "two-ended", "flatfile")
        assert [step.name for step in steps] == (["data"] if of_one_pass else sorted(map(str, kinds)))


def test_no_format_is_left_out(registry: ProcessorRegistry) -> None:
    assert {registry.recipe(entry(f.name)).source_format for f in ALL} == set(ALL)


@pytest.mark.parametrize(("file_format", "kind"), [("bam", "px2"), ("bed", "beddb"), ("csv", "beddb")])
def test_a_source_with_an_index_that_is_not_checked_goes_through_unchanged(
    registry: ProcessorRegistry, file_format: str, kind: str
) -> None:
    sidecars = [{"kind": kind, "access_url": "https://example.org/x.index"}]
    recipe = registry.recipe(entry(file_format, sidecars=sidecars))
    assert recipe.processor == "passthrough"
    assert registry.kinds(recipe) == {Kind.DATA}


@pytest.mark.parametrize("file_format", ["bcf", "cram", "sam", "bigbed"])
@pytest.mark.parametrize("kind", ["tbi", "bai", "csi"])
def test_an_index_of_a_format_that_has_none_is_left_out(
    registry: ProcessorRegistry, file_format: str, kind: str
) -> None:
    sidecars = [{"kind": kind, "access_url": "https://example.org/x.index"}]
    indexed = entry(file_format, sidecars=sidecars)
    assert registry.recipe(indexed) == registry.recipe(entry(file_format))
    assert [sidecar.kind for sidecar in indexed.left_out] == [kind]


@pytest.mark.parametrize(
    ("file_format", "kind"), [("bam", "bai"), ("bed", "tbi"), ("vcf", "csi"), ("gtf", "tbi")]
)
def test_an_index_of_upstream_that_can_be_checked_is_a_part_of_the_artifact(
    registry: ProcessorRegistry, file_format: str, kind: str
) -> None:
    sidecars = [{"kind": kind, "access_url": "https://example.org/x.index"}]
    recipe = registry.recipe(entry(file_format, sidecars=sidecars))
    assert recipe.processor == "upstream-index"
    assert registry.kinds(recipe) == {Kind.DATA, Kind.INDEX}
    processor = registry.processor(recipe)
    assert processor.version(recipe.source_format) == recipe.processor_version
    assert [step.name for step in processor.steps(recipe.source_format)] == ["data", "index"]


def test_a_format_without_processor_is_unsupported(registry: ProcessorRegistry) -> None:
    only = registry.processor(registry.recipe(entry("csv")))
    with pytest.raises(UnsupportedFormat):
        ProcessorRegistry({BED: only}, only).recipe(entry("bam"))


@pytest.mark.parametrize(
    "recipe", [Recipe("bam-index", "0", BAM), Recipe("shrink", "1", BAM), Recipe("bam-index", "1.1", BED)]
)
def test_a_recipe_of_another_build_is_refused(registry: ProcessorRegistry, recipe: Recipe) -> None:
    with pytest.raises(Misconfigured):
        registry.processor(recipe)


def test_a_recipe_names_its_compression_level_and_is_followed_at_it(registry: ProcessorRegistry) -> None:
    small = default_registry(sort_memory=1 << 26, samtools_memory=1 << 26, threads=2, level=6)
    for file_format in ("bam", "gtf", "vcf"):
        recipe = small.recipe(entry(file_format))
        assert recipe != registry.recipe(entry(file_format))
        processor = registry.processor(recipe)
        assert processor.version(recipe.source_format) == recipe.processor_version
        assert [vars(step)["budget"].level for step in processor.steps(recipe.source_format)] == [6, 6]
    assert small.recipe(entry("csv")) == registry.recipe(entry("csv"))


@pytest.mark.parametrize("file_format", ["bed", "bam"])
def test_the_quickest_level_is_the_kernels(file_format: str, tmp_path: Path) -> None:
    quick = default_registry(sort_memory=1 << 26, samtools_memory=1 << 26, threads=2, level=0)
    recipe = quick.recipe(entry(file_format))
    steps = quick.processor(recipe).steps(recipe.source_format)
    assert [vars(step)["budget"].level for step in steps] == [0, 0]
    bare = default_registry(
        sort_memory=1 << 26, samtools_memory=1 << 26, threads=2, search_path=str(tmp_path)
    )
    assert bare.recipe(entry(file_format)) != recipe
    assert bare.processor(recipe).version(recipe.source_format) == recipe.processor_version


def test_a_recipe_names_whether_there_is_a_density(registry: ProcessorRegistry) -> None:
    more = default_registry(sort_memory=1 << 26, samtools_memory=1 << 26, threads=2, density=True)
    for file_format in ("bam", "gtf", "vcf"):
        with_it, without = more.recipe(entry(file_format)), registry.recipe(entry(file_format))
        assert with_it != without
        for each in (more, registry):
            assert each.kinds(with_it) == {Kind.DATA, Kind.INDEX, Kind.DENSITY}
            assert each.kinds(without) == {Kind.DATA, Kind.INDEX}
            names = [step.name for step in each.processor(with_it).steps(with_it.source_format)]
            assert names == ["data", "index", "density"]
    assert more.recipe(entry("csv")) == registry.recipe(entry("csv"))


def test_a_recipe_names_whether_bad_lines_are_left_out_where_that_matters(
    registry: ProcessorRegistry,
) -> None:
    skipping = default_registry(sort_memory=1 << 26, samtools_memory=1 << 26, threads=2, skip_bad_lines=True)
    texts = ("vcf", "gff", "gff3", "gtf", "bed", "narrowpeak", "broadpeak", "tagalign", "bedgraph", "wig")
    tables = ("seg", "interval_list", "macs", "ucsc_table", "bedpe", "paf", "pairs")
    for file_format in (*texts, *tables):
        recipe = skipping.recipe(entry(file_format))
        assert recipe.processor_version == registry.recipe(entry(file_format)).processor_version + "s"
        for each in (skipping, registry):
            steps = each.processor(recipe).steps(recipe.source_format)
            assert all(vars(step)["budget"].skip_bad_lines for step in steps)
    for file_format in ("bam", "sam", "cram", "bcf", "bigbed", "bigwig", "csv"):
        assert skipping.recipe(entry(file_format)) == registry.recipe(entry(file_format))


def test_knowing_recipes_needs_no_genomics_library() -> None:
    code = (
        "import sys; import gooseherd.processing.registry; "
        "print([m for m in ('pysam', 'pyBigWig', 'numpy', 'pydantic') if m in sys.modules])"
    )
    output = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert output.stdout.strip() == "[]"
