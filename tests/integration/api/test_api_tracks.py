"""What the API says to a viewer about files: of what is made, of what is not, alone and together."""

from __future__ import annotations

from urllib.parse import quote

import pytest

from gooseherd.domain.artifact import Kind
from gooseherd.domain.contig import Contig
from gooseherd.domain.failures import Reason

pytestmark = pytest.mark.integration

ADMIN = {"X-API-Key": "the-admin-key"}

HG38 = (Contig("chr1", 248956422), Contig("chr2", 242193529))


async def made(town, **fields):
    entry = await town.register(**fields)
    await town.publish(entry, b"bytes", density=b"bigwig", contigs=HG38)
    return entry


async def told(town, path, **query):
    answer = await town.http.get(path, params=query)
    assert answer.status_code == 200, answer.text
    return answer


async def test_a_file_that_is_made_is_told_with_its_reference_its_index_and_its_density(town):
    entry = await made(town)
    view = (await told(town, f"/files/{entry.name}/tracks", viewer="igv", at="chr1:1,000-2,000")).json()
    folder = f"{town.url}/files/{entry.name}"
    assert view["notes"] == []
    assert view["spec"]["locus"] == "chr1:1000-2000"
    assert view["spec"]["reference"]["fastaURL"] == (
        f"{town.url}/tracks/chrom.sizes?files={entry.name}&at=chr1:1000-2000"
    )
    density, reads = view["spec"]["tracks"]
    assert (density["type"], density["format"]) == ("wig", "bigwig")
    assert reads["url"] == f"{folder}/{quote(entry.filename)}"
    assert reads["indexURL"] == f"{folder}/{quote(entry.filename)}.bai"
    assert view["text"].startswith("igv.createBrowser(")


async def test_a_file_that_nobody_has_made_is_told_by_the_names_it_will_have(town):
    entry = await town.register()
    view = (await told(town, f"/files/{entry.name}/tracks", viewer="jbrowse")).json()
    adapter = view["spec"]["tracks"][-1]["adapter"]
    assert adapter["index"]["location"]["uri"] == f"{town.url}/files/{entry.name}/{quote(entry.filename)}.bai"
    assert "name an assembly" in view["notes"][0]
    known = (await told(town, f"/files/{entry.name}/tracks", viewer="jbrowse", assembly="GRCh38")).json()
    assert known["notes"] == []
    assert known["spec"]["assemblies"][0]["name"] == "hg38"
    assert not any((await town.jobs.counts()).values())


async def test_files_together_have_one_reference(town):
    entries = [await made(town) for _ in range(2)]
    files = ",".join(entry.name for entry in entries)
    session = (await told(town, "/tracks/igv.json", files=files)).json()
    assert [track["type"] for track in session["tracks"]] == ["wig", "alignment"] * 2
    sizes = await town.http.get(session["reference"]["fastaURL"])
    assert sizes.text.splitlines()[:2] == ["chr1\t248956422", "chr2\t242193529"]
    assert session["reference"]["id"] == "hg38"
    spec = (await told(town, "/tracks/gosling.json", files=files)).json()
    assert spec["assembly"][0] == ["chr1", 248956422]
    assert spec["xDomain"] == {"chromosome": "chr1", "interval": [0, 248956422]}


async def test_a_hub_names_the_assembly_and_what_it_can_draw(town):
    entry = await made(town)
    hub = (await told(town, "/hub.txt", files=entry.name)).text
    stanzas = [dict(line.split(" ", 1) for line in block.splitlines()) for block in hub.strip().split("\n\n")]
    assert stanzas[0]["useOneFile"] == "on"
    assert stanzas[0]["descriptionUrl"] == f"{town.url}/"
    assert stanzas[1] == {"genome": "hg38"}
    assert stanzas[2]["type"] == "bam"
    assert stanzas[2]["bigDataIndex"] == f"{stanzas[2]['bigDataUrl']}.bai"
    found = (await told(town, "/hub.txt", dcc=entry.dcc)).text
    assert found == hub


async def test_a_reference_is_a_file_with_sequences(town):
    entry = await made(town)
    answer = await town.http.get("/tracks", params={"files": entry.name, "reference": entry.name})
    assert answer.status_code == 422
    assert "has no sequences" in answer.json()["detail"]


async def test_of_several_sequences_those_of_the_files_are_the_reference(town):
    """A folder has more than one FASTA at times: on a control's genome nothing would be drawn."""
    reads = await made(town)

    async def letters(*contigs):
        entry = await town.register(filename="x.fa", file_format="fasta")
        await town.publish(entry, b"bytes", contigs=contigs)
        return entry

    control = await letters(Contig("phiX", 5386))
    genome = await letters(Contig("1", 248956422), Contig("2", 242193529))

    async def reference(*entries, **query):
        files = ",".join(entry.name for entry in entries)
        return (await told(town, "/tracks/igv.json", files=files, **query)).json()["reference"]["fastaURL"]

    assert genome.name in await reference(control, reads, genome)
    assert "chrom.sizes" in await reference(control, reads)
    assert control.name in await reference(control, reads, at="phiX:1-100")
    assert control.name in await reference(control)


@pytest.mark.parametrize(
    ("query", "problem"),
    [
        ({}, "name files"),
        ({"files": "nothing"}, "is no DCC/ID"),
        ({"files": "lab/x1", "at": "chr1:9-3"}, "positions start at 1"),
        ({"files": ",".join(f"lab/x{n}" for n in range(101))}, "at most 100"),
        ({"q": "x", "format": "docx"}, "is no known format"),
    ],
)
async def test_what_cannot_be_shown_is_said(town, query, problem):
    await town.register(dcc="lab", local_id="x1")
    answer = await town.http.get("/tracks", params=query)
    assert answer.status_code == 422
    assert problem in answer.json()["detail"]


async def test_an_assembly_that_is_not_known_is_refused_with_those_that_are(town):
    entry = await town.register()
    answer = await town.http.get("/tracks", params={"files": entry.name, "assembly": "hg99"})
    assert answer.status_code == 422
    assert "hg38" in answer.json()["detail"]


async def test_files_that_are_not_public_are_neither_shown_nor_found(town):
    entry = await town.register(dcc="closed", data_access_level="protected")
    assert (await town.http.get("/tracks", params={"files": entry.name})).status_code in (401, 403, 404)
    assert entry.local_id not in (await told(town, "/hub.txt", dcc="closed")).text


@pytest.mark.parametrize("viewer", ["shell", "python"])
async def test_programs_are_told_addresses_that_a_shell_cannot_misread(town, viewer):
    entry = await made(town, filename="it's; rm -rf $HOME.bam")
    text = (await told(town, f"/files/{entry.name}/tracks", viewer=viewer)).json()["text"]
    assert "%24HOME" in text
    assert "; rm" not in text.replace("# it's; rm -rf $HOME.bam", "")


async def test_lengths_of_sequences_are_a_text_for_viewers_too(town):
    entry = await made(town)
    answer = await told(town, f"/contigs/{entry.name}", format="chromsizes")
    assert answer.headers["content-type"].startswith("text/plain")
    assert answer.text == "chr1\t248956422\nchr2\t242193529\n"
    index = (await told(town, f"/files/{entry.name}/")).json()["names"]
    assert {Kind(name["kind"]) for name in index} >= {Kind.DATA, Kind.INDEX}


async def test_what_is_not_public_is_told_with_what_opens_it(town):
    """A viewer sends no key of its own."""
    entry = await made(town, dcc="closed", data_access_level="protected")
    other = await made(town, dcc="closed", data_access_level="protected")
    public = await made(town)
    files = ",".join(one.name for one in (public, entry, other))
    answer = await town.http.get("/tracks", params={"files": files, "viewer": "igv"}, headers=ADMIN)
    view = answer.json()
    assert any("download token" in note for note in view["notes"])
    of_public, *of_others = (track for track in view["spec"]["tracks"] if track["type"] == "alignment")
    assert "token" not in of_public["url"]
    for track in of_others:
        for url in (track["url"], track["indexURL"]):
            assert (await town.http.get(url)).status_code == 200
    tokens = {track["url"].partition("token=")[2] for track in of_others}
    assert len(tokens) == 2
    # It opens this file and no other one.
    stolen = of_others[1]["url"].replace(*sorted(tokens, key=of_others[1]["url"].find, reverse=True))
    assert (await town.http.get(stolen)).status_code == 404
    sizes = await town.http.get(view["spec"]["reference"]["fastaURL"])
    assert sizes.text.startswith("chr1\t248956422\n")
    hub = await town.http.get("/hub.txt", params={"files": entry.name}, headers=ADMIN)
    assert "?token=" in hub.text
    # Who came with a token gets that one again.
    token = tokens.pop()
    for one in (entry, other):
        again = await town.http.get(f"/files/{one.name}/tracks", params={"viewer": "igv", "token": token})
        assert again.status_code in (200, 404)
        if again.status_code == 200:
            assert again.text.count(token) >= 3
            assert again.json()["notes"] == []


@pytest.mark.parametrize("hidden", [False, True], ids=["public reads", "hidden reads"])
async def test_a_reference_that_is_not_public_is_opened_with_what_other_files_call_its_sequences(
    town, hidden
):
    closed = {"dcc": "closed", "data_access_level": "protected"}
    genome = await town.register(filename="x.fa", file_format="fasta", **closed)
    await town.publish(genome, b"bytes", contigs=[Contig("1", 248956422), Contig("2", 242193529)])
    reads = await made(town, **(closed if hidden else {}))
    query = {"files": reads.name, "reference": genome.name}
    answer = await town.http.get("/tracks/igv.json", params=query, headers=ADMIN)
    reference = answer.json()["reference"]
    for url in (reference["fastaURL"], reference["aliasURL"]):
        assert (await town.http.get(url)).status_code == 200, url
    assert answer.headers["cache-control"] == "no-store"
    view = await town.http.get("/tracks", params=query, headers=ADMIN)
    assert view.headers["cache-control"] == "no-store"


async def test_a_file_that_cannot_be_made_is_told_with_the_reason(town):
    entry = await town.register()
    waiting = await town.register()
    job = (await town.http.get(f"/data/{entry.name}")).json()["job_id"]
    await town.fail(await town.run(job), Reason.SOURCE_INVALID, "the header is missing")
    odd = await town.register(filename="x.cram", file_format="cram")
    files = ",".join(one.name for one in (waiting, entry, odd))
    notes = (await told(town, "/tracks", files=files, assembly="hg38")).json()["notes"]
    assert [note.partition(":")[0] for note in notes] == [odd.name, entry.name]
    assert notes[1].endswith("the header is missing")


async def test_a_search_with_more_than_a_view_has_says_so_and_goes_on(town):
    numbers = range(103)
    for number in numbers:
        await town.register(dcc="many", local_id=f"x{number:03}", filename=f"x{number}.bam")
    first = (await told(town, "/hub.txt", dcc="many", assembly="hg38")).text
    assert first.count("\ntrack ") == 100
    (note,) = (line for line in first.splitlines() if line.startswith("#"))
    after = note.rpartition("after=")[2]
    rest = (await told(town, "/hub.txt", dcc="many", assembly="hg38", after=after)).text
    assert rest.count("\ntrack ") == 3
    assert "#" not in rest


async def test_a_sequence_that_no_file_has_is_told(town):
    entry = await made(town)
    view = (await told(town, "/tracks", files=entry.name, at="chr77:1-9")).json()
    assert "no file here has a sequence chr77" in view["notes"][0]


async def test_files_with_other_names_of_sequences_are_told_of_them(town):
    entry = await made(town)
    other = await town.register()
    await town.publish(other, b"bytes", contigs=[Contig("1", 248956422), Contig("2", 242193529)])
    files = f"{entry.name},{other.name}"
    session = (await told(town, "/tracks/igv.json", files=files, at="2:5-9")).json()
    assert session["locus"] == "chr2:5-9"
    aliases = await town.http.get(session["reference"]["aliasURL"])
    assert aliases.text == "chr1\t1\nchr2\t2\n"
    sizes = (await told(town, "/tracks/chrom.sizes", files=files)).text
    assert [line.split()[0] for line in sizes.splitlines()][:2] == ["chr1", "chr2"]
    assert "\n1\t" not in sizes


async def test_a_bigwig_is_one_whatever_it_is_called(town):
    entry = await town.register(filename="coverage.bed", file_format="bigwig")
    view = (await told(town, "/tracks", files=entry.name)).json()
    assert view["spec"]["tracks"][0]["format"] == "bigwig"


async def test_a_sequence_whose_name_looks_like_a_place_is_asked_for_again_as_it_was(town):
    entry = await town.register()
    await town.publish(entry, b"bytes", contigs=[Contig("HLA:01", 50), Contig("chr1", 10)])
    session = (await told(town, "/tracks/igv.json", files=entry.name, at="{HLA:01}")).json()
    assert session["locus"] == "HLA:01:1-50"
    assert "at=%7BHLA:01%7D" in session["reference"]["fastaURL"]
