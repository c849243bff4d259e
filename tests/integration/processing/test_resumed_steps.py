"""An attempt that finds the data of one before goes on with them alone, and makes the same bytes.

The key of an artifact names its bytes, so it must not show in them how many attempts it took.
"""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from gooseherd.domain.artifact import Kind
from gooseherd.domain.formats import BED, INTERVAL_LIST, VCF, Format
from gooseherd.domain.processing import Produced, StepInput
from gooseherd.domain.source import SourceFile
from gooseherd.processing.registry import ProcessorRegistry, default_registry
from gooseherd.trial import inputs

Process = Callable[..., Awaitable[Any]]


@pytest.fixture(scope="module")
def as_the_service(needs: Any) -> ProcessorRegistry:
    """With everything that new recipes of a service name by default."""
    needs("gooseherd-intervals")
    return default_registry(sort_memory=32 << 20, samtools_memory=64 << 20, threads=2, level=0, density=True)


async def parts_anew(
    registry: ProcessorRegistry, file_format: Format, made: Any, folder: Path
) -> list[Produced]:
    """What the steps after the first give when each of them finds only the data and its receipt."""
    fields = {"dcc": "test", "local_id": "x", "filename": f"x.{file_format.name}"}
    entry = SourceFile.from_json(
        {**fields, "access_url": "https://example.org/x", "file_format": file_format.name}
    )
    found: list[Produced] = []
    for step in registry.processor(registry.recipe(entry)).steps(file_format)[1:]:
        assert step.needs is Kind.DATA
        work = folder / step.name
        work.mkdir(parents=True)
        alone = work / "downloaded"
        await asyncio.to_thread(shutil.copy, made.data, alone)
        scratch = folder / f"{step.name} scratch"
        scratch.mkdir()
        given = StepInput(entry, alone, scratch, lambda *_: None, 1 << 30, contigs=made.outputs[0].contigs)
        found.extend((await step.run(given)).files)
    return found


@pytest.mark.parametrize("file_format", inputs.FORMATS, ids=lambda each: each.name)
async def test_what_a_later_attempt_makes_of_the_data_alone_is_the_same(
    process: Process, as_the_service: ProcessorRegistry, tmp_path: Path, file_format: Format
) -> None:
    source = inputs.make(file_format, tmp_path, "5").path
    made = await process(source, file_format.name, using=as_the_service)
    assert made.failure is None
    again = await parts_anew(as_the_service, file_format, made, tmp_path / "again")
    expected = [produced for output in made.outputs[1:] for produced in output.files]
    assert [(part.kind, part.name, part.filename) for part in again] == [
        (part.kind, part.name, part.filename) for part in expected
    ]
    assert [part.path.read_bytes() for part in again] == [part.path.read_bytes() for part in expected]


COLUMNS = b"#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\n"
EDGES = {
    "beyond a TBI": (BED, b"chr1\t5\t9\na\t1\t600000000\n"),
    "a sequence without records": (
        INTERVAL_LIST,
        b"@SQ\tSN:chr1\tLN:1000\n@SQ\tSN:chr2\tLN:99\nchr1\t5\t9\t+\tx\n",
    ),
    "no records": (BED, b"track name=x\n"),
    "a header alone": (VCF, b"##fileformat=VCFv4.2\n##contig=<ID=b,length=9>\n" + COLUMNS),
    "an index of several blocks": (
        BED,
        b"".join(b"chr%d\t%d\t%d\tx\n" % (n % 9, n * 20_000, n * 20_000 + 7) for n in range(20_000)),
    ),
}


@pytest.mark.parametrize(("file_format", "content"), EDGES.values(), ids=EDGES)
async def test_so_it_is_at_the_edges(
    process: Process,
    as_the_service: ProcessorRegistry,
    tmp_path: Path,
    file_format: Format,
    content: bytes,
) -> None:
    made = await process(content, file_format.name, using=as_the_service)
    assert made.failure is None
    again = await parts_anew(as_the_service, file_format, made, tmp_path / "again")
    expected = [produced for output in made.outputs[1:] for produced in output.files]
    assert [part.path.read_bytes() for part in again] == [part.path.read_bytes() for part in expected]
