"""GET /search: what is found by name, in which files, and who is told of it."""

from __future__ import annotations

import asyncio
import io
from typing import Any

import pytest

from gooseherd.domain.artifact import Kind, Manifest, Part
from gooseherd.domain.contig import Contig
from gooseherd.domain.failures import Reason
from gooseherd.domain.keys import MANIFEST, Recipe, cache_key
from gooseherd.domain.source import SourceFile
from gooseherd.processing.formats.name_lines import BedNames, GffNames
from gooseherd.processing.formats.trix import write_trix

pytestmark = pytest.mark.integration

ADMIN = {"X-API-Key": "the-admin-key"}
GENES = (
    b"chr17\tx\tgene\t43044292\t43170245\t.\t-\t.\tID=g1;Name=BRCA1;Alias=RNF53\n"
    b"chr17\tx\tgene\t100\t900\t.\t-\t.\tID=g2;Name=BRCA1P1\n"
    b"chr13\tx\tgene\t32315086\t32400268\t.\t+\t.\tID=g3;Name=BRCA2\n"
    b"chr1\tx\tgene\t5\t9\t.\t+\t.\tID=g4;Name=DNA repair kinase\n"
)


def index_of(content: bytes, *, bed: bool = False) -> tuple[bytes, bytes]:
    reader = BedNames(10**6) if bed else GffNames(10**6)
    lines = sorted(line for row in content.splitlines() for line in reader.of_line(row))
    ix, ixx = io.BytesIO(), io.BytesIO()
    write_trix(lines, ix, ixx)
    return ix.getvalue(), ixx.getvalue()


async def with_names(town: Any, entry: SourceFile, content: bytes = GENES, *, bed: bool = False) -> Manifest:
    recipe = Recipe("names", "1", entry.file_format)
    ix, ixx = index_of(content, bed=bed)
    manifest = Manifest(
        source=str(entry.identity),
        source_format=entry.file_format.name,
        processor="names",
        processor_version="1",
        parts=(
            await town._part(entry, recipe, Kind.NAMES, ix, f"{entry.filename}.ix"),
            await town._part(entry, recipe, Kind.NAMES_INDEX, ixx, f"{entry.filename}.ixx"),
        ),
    )
    await town.cache.put_if_absent(cache_key(entry.identity, recipe, MANIFEST), manifest.to_bytes())
    return manifest


async def genes(town: Any, **fields: Any) -> SourceFile:
    entry: SourceFile = await town.register(**{"filename": "genes.gff3", "file_format": "gff3", **fields})
    return entry


async def found(town: Any, **query: Any) -> dict[str, Any]:
    response = await town.http.get("/search", params=query)
    assert response.status_code == 200, response.text
    result: dict[str, Any] = response.json()
    return result


async def test_a_gene_is_found_by_its_name_whatever_its_case_exact_ones_first(town: Any) -> None:
    entry = await genes(town)
    await with_names(town, entry)
    answer = await found(town, q="brca1", files=entry.name)
    assert [(one["name"], one["exact"]) for one in answer["results"]] == [("BRCA1", True), ("BRCA1P1", False)]
    assert answer["results"][0]["region"] == "chr17:43044292-43170245"
    assert answer["results"][0]["file"] == entry.name
    assert answer["pending"] == []
    assert len((await found(town, q="BRCA", files=entry.name))["results"]) == 3
    alias = (await found(town, q="rnf53", files=entry.name))["results"]
    assert [(one["name"], one["matched"], one["exact"]) for one in alias] == [("BRCA1", "RNF53", True)]
    assert (await found(town, q="zzz", files=entry.name))["results"] == []
    assert (await found(town, q="!", files=entry.name))["results"] == []
    assert len((await found(town, q="BRCA", files=entry.name, limit=2))["results"]) == 2


async def test_several_words_are_looked_for_together(town: Any) -> None:
    entry = await genes(town)
    await with_names(town, entry)
    (one,) = (await found(town, q="repair dna", files=entry.name))["results"]
    assert one["name"] == "DNA repair kinase"
    assert (await found(town, q="repair brca", files=entry.name))["results"] == []


async def test_a_large_index_is_read_by_ranges_only(town: Any) -> None:
    entry = await town.register(filename="x.bed", file_format="bed")
    rows = b"".join(b"chr1\t%d\t%d\tpeak%07d\n" % (n, n + 5, n) for n in range(60_000))
    manifest = await with_names(town, entry, rows, bed=True)
    ix: Part | None = manifest.part(Kind.NAMES)
    assert ix is not None
    read = 0
    inner = town.cache.inner.get

    def counted(key: Any, span: Any = None) -> Any:
        nonlocal read
        if key == ix.key:
            read += len(span)
        return inner(key, span)

    town.cache.inner.get = counted
    for number in (0, 1, 29_999, 31_234, 59_999):
        read = 0
        answer = await found(town, q=f"peak{number:07d}", files=entry.name)
        assert [one["start"] for one in answer["results"]] == [number + 1]
        assert 0 < read <= 3 * 65536 < ix.size // 10
    assert len((await found(town, q="peak", files=entry.name, limit=100))["results"]) == 100


async def test_names_that_are_not_indexed_are_indexed_first_and_pending_after_a_while(
    build_town: Any,
) -> None:
    town = await build_town()
    entry = await genes(town)
    answer = await found(town, q="BRCA1", files=entry.name, wait=0)
    assert answer["results"] == []
    (pending,) = answer["pending"]
    assert pending["file"] == entry.name
    asking = asyncio.create_task(found(town, q="BRCA1", files=entry.name, wait=15))
    job = await town.run(pending["job_id"])
    assert job.recipe.processor == "names"
    await town.complete(job, await with_names(town, entry))
    answer = await asking
    assert [one["name"] for one in answer["results"]] == ["BRCA1", "BRCA1P1"]
    assert answer["pending"] == []


async def test_a_viewer_is_redirected_until_there_is_something_to_search(build_town: Any) -> None:
    """igv.js remembers what was not found, and never asks again."""
    town = await build_town()
    entry = await genes(town)
    viewer = {"Sec-Fetch-Mode": "cors"}
    query = {"q": "BRCA1", "files": entry.name, "wait": "0"}
    response = await town.http.get("/search", params=query, headers=viewer)
    assert response.status_code == 307
    assert response.headers["location"].endswith("&hop=1")
    last = await town.http.get("/search", params={**query, "hop": "19"}, headers=viewer)
    assert (last.status_code, last.json()["type"]) == (503, "/problems/not-ready")
    await with_names(town, entry)
    found_at_last = await town.http.get(response.headers["location"], headers=viewer)
    assert found_at_last.json()["results"][0]["name"] == "BRCA1"


async def test_a_file_whose_names_cannot_be_indexed_is_named_in_a_note(town: Any) -> None:
    entry, reads = await genes(town), await town.register()
    first = await found(town, q="BRCA1", files=f"{entry.name},{reads.name}", wait=0)
    assert first["notes"] == [f"{reads.name}: names of bam are not indexed"]
    job = await town.run(first["pending"][0]["job_id"])
    await town.fail(job, Reason.SOURCE_INVALID, "line 1 is no GFF3")
    second = await found(town, q="BRCA1", files=entry.name, wait=0)
    assert "could not be indexed" in second["notes"][0]
    assert second["pending"] == []


async def test_without_files_those_are_searched_that_have_an_index_and_are_on_the_assembly(town: Any) -> None:
    hg38, other, without = [await genes(town) for _ in range(3)]
    for entry, length in ((hg38, 248956422), (other, 249250621)):
        await with_names(town, entry)
        await town.publish(entry, b"data", contigs=(Contig("chr1", length),))
    everything = await found(town, q="BRCA2")
    assert {one["file"] for one in everything["results"]} == {hg38.name, other.name}
    assert everything["pending"] == []
    assert not any((await town.jobs.counts()).values()), without.name
    refused = await town.http.get("/search", params={"q": "x", "assembly": "nope"})
    assert refused.status_code == 422


async def test_files_that_the_caller_may_not_see_are_neither_searched_nor_named(town: Any) -> None:
    entry = await genes(town, data_access_level="protected")
    await with_names(town, entry)
    named = await town.http.get("/search", params={"q": "BRCA1", "files": entry.name})
    assert named.status_code == 404
    assert (await found(town, q="BRCA1"))["results"] == []
    allowed = await town.http.get("/search", params={"q": "BRCA1"}, headers=ADMIN)
    assert allowed.json()["results"][0]["file"] == entry.name


async def test_the_index_is_served_by_name_by_kind_and_by_digest(town: Any) -> None:
    entry = await genes(town)
    manifest = await with_names(town, entry)
    part = manifest.part(Kind.NAMES)
    assert part is not None
    for path in (
        f"/files/{entry.name}/genes.gff3.ix",
        f"/data/{entry.name}?part=names",
        f"/artifacts/{part.sha256}/genes.gff3.ix?of={entry.name}",
    ):
        response = await town.http.get(path, headers={"Range": "bytes=0-99"})
        assert (response.status_code, len(response.content)) == (206, 100), path
    reads = await town.register()
    assert (await town.http.get(f"/data/{reads.name}?part=names")).status_code == 404


async def test_viewers_are_told_where_names_are(town: Any) -> None:
    entry = await genes(town)
    spec = (
        await town.http.get("/tracks/jbrowse.json", params={"files": entry.name, "assembly": "hg38"})
    ).json()
    (adapter,) = spec["aggregateTextSearchAdapters"]
    assert adapter["type"] == "TrixTextSearchAdapter"
    assert adapter["ixFilePath"]["uri"] == f"{town.url}/files/{entry.name}/genes.gff3.ix"
    igv = (await town.http.get("/tracks/igv.json", params={"files": entry.name, "assembly": "hg38"})).json()
    assert igv["search"]["url"] == f"{town.url}/search?files={entry.name}&q=$FEATURE$"
    await with_names(town, entry)
    results = (await town.http.get(igv["search"]["url"].replace("$FEATURE$", "BRCA2"))).json()
    first = results[igv["search"]["resultsField"]][0]
    assert (first[igv["search"]["chromosomeField"]], first[igv["search"]["startField"]]) == (
        "chr13",
        32315086,
    )


@pytest.mark.parametrize(
    "query",
    [
        {"q": ""},
        {"q": " "},
        {},
        {"q": "x", "files": "a"},
        {"q": "x", "files": ",".join(f"a/{n}" for n in range(21))},
    ],
)
async def test_a_question_that_cannot_be_used_is_refused(town: Any, query: dict[str, str]) -> None:
    assert (await town.http.get("/search", params=query)).status_code == 422
