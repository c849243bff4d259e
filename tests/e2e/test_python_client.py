"""The Python client against a service as a user starts it: the examples, the notebook, each format."""

from __future__ import annotations

import hashlib
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nbclient
import nbformat
import pytest
from jupyter_client.manager import start_new_kernel

from gooseherd.client import AsyncGooseherdClient, GooseherdClient, InvalidInput, Job
from gooseherd.client.local_service import find_local

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "docs" / "examples"
LENGTH = 20_000


@pytest.fixture(scope="module")
def served(user: Any) -> Any:
    """The user, with the files of the examples in the catalog."""
    names = [str(path) for path in sorted((EXAMPLES / "data").iterdir())]
    folder = user.home / "files" / "data"
    folder.mkdir()
    for name in names:
        (folder / Path(name).name).write_bytes(Path(name).read_bytes())
    added = user.run("add", *(str(path) for path in folder.iterdir()))
    assert added.returncode == 0, added.stderr
    return user


@pytest.fixture(scope="module")
def client(served: Any) -> Iterator[GooseherdClient]:
    found = find_local(served.state)
    assert found is not None
    with GooseherdClient(found.url, found.admin_key) as client:
        yield client


@pytest.mark.parametrize("example", sorted(path.name for path in EXAMPLES.glob("*.py")))
def test_an_example_of_the_documentation_runs(served: Any, example: str, needs: Any) -> None:
    if example == "region.py":
        needs("curl")  # and so libcurl, by which htslib reads addresses
    done = subprocess.run(
        [sys.executable, EXAMPLES / example],
        env=served.environ,
        cwd=served.home,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout


def test_the_page_shows_the_examples_as_they_are() -> None:
    page = (ROOT / "docs/python.md").read_text(encoding="utf-8")
    shown = re.findall(r"<!-- (examples/\S+) -->\n```python\n(.*?)```", page, re.DOTALL)
    assert {name for name, _ in shown} == {f"examples/{path.name}" for path in EXAMPLES.glob("*.py")}
    for name, text in shown:
        assert text == (ROOT / "docs" / name).read_text(encoding="utf-8")


def test_the_notebook_runs_in_a_kernel(served: Any, needs: Any) -> None:
    needs("curl")
    notebook = nbformat.read(EXAMPLES / "region.ipynb", as_version=4)
    nbformat.validate(notebook)
    assert not any(cell.get("outputs") for cell in notebook.cells), "outputs are not kept"
    runner = nbclient.NotebookClient(
        notebook, timeout=120, kernel_name="python3", resources={"metadata": {"path": str(served.home)}}
    )
    runner.execute(env={**served.environ, "PATH": os.environ["PATH"]})
    outputs = {
        cell.id: [output.get("data", {}) for output in cell.outputs]
        for cell in notebook.cells
        if cell.cell_type == "code"
    }
    by_source = {cell.source: outputs[cell.id] for cell in notebook.cells if cell.cell_type == "code"}
    (batch,) = next(found for source, found in by_source.items() if source.startswith("batch = "))
    assert "<b>3 files</b>" in batch["text/html"]
    frame = next(found for source, found in by_source.items() if "calls.vcf" in source and "frame" in source)
    assert "<table" in frame[0]["text/html"]
    view = next(found for source, found in by_source.items() if "client.view" in source)
    assert "application/vnd.jupyter.widget-view+json" in view[0]
    for widget in runner.widget_state.values():
        assert "ghk_" not in str(widget)


def test_a_batch_that_a_cell_shows_goes_on_moving(served: Any, client: GooseherdClient) -> None:
    """By messages of the kernel after the cell's end, as JupyterLab takes them (nbclient does not)."""
    (served.home / "files/fresh.bed").write_text("chr1\t5\t9\nchr1\t1\t4\n")
    assert served.run("add", str(served.home / "files/fresh.bed")).returncode == 0
    manager, kernel = start_new_kernel(kernel_name="python3", env=served.environ)
    try:
        kernel.execute(
            "from gooseherd.client import GooseherdClient\n"
            "client = GooseherdClient()\n"
            "client.create_batch(['local/fresh.bed'])"
        )
        shown = None
        updates: list[str] = []
        while not any("1 ready" in html for html in updates):
            message = kernel.get_iopub_msg(timeout=60)
            content = message["content"]
            if message["msg_type"] == "display_data":
                shown = content["transient"]["display_id"]
            elif message["msg_type"] == "update_display_data":
                assert content["transient"]["display_id"] == shown
                updates.append(content["data"]["text/html"])
            assert message["msg_type"] != "error", content
    finally:
        kernel.stop_channels()
        manager.shutdown_kernel(now=True)


def test_records_become_tables_with_the_columns_of_their_format(client: GooseherdClient) -> None:
    reads = client.frame("local", "reads.sam", "chr1")
    assert len(reads) == 150
    assert list(reads.columns[:5]) == ["chrom", "start", "end", "name", "flag"]
    assert ((reads["end"] - reads["start"]) == 50).all()
    assert reads["mapq"].dtype.kind == "i"

    calls = client.frame("local", "calls.vcf", "chr1:1-10,000")
    assert list(calls.columns) == [
        *("chrom", "start", "end", "id", "ref", "alt", "qual", "filter", "info", "FORMAT", "NA1", "NA2")
    ]
    assert calls["start"].is_monotonic_increasing
    assert set(calls["NA2"]) == {"1/1"}

    genes = client.frame("local", "genes.gff3", "chr1", kind="polars")
    assert genes.columns == [
        *("chrom", "start", "end", "source", "type", "score", "strand", "phase", "attributes")
    ]
    assert genes["phase"].null_count() == len(genes) == 12

    if sys.version_info < (3, 13):  # there is no wheel of it for later ones
        peaks = client.frame("local", "peaks.narrowPeak", "chr1", kind="pyranges")
        assert len(peaks) == 25
        assert {"Chromosome", "Start", "End", "signalValue"} <= set(peaks.columns)

    signal = client.frame("local", "signal.bedgraph", "chr1:101-200")
    assert signal[["start", "end"]].to_numpy().tolist() == [[100, 200]]
    assert len(client.frame("local", "samples.csv")) == 2
    assert client.frame("local", "samples.csv", kind="polars").columns == ["sample", "age"]


def test_a_region_without_records_is_an_empty_table_of_the_same_columns(client: GooseherdClient) -> None:
    for name in ("genes.gff3", "calls.vcf"):
        empty, some = (client.frame("local", name, f"chr1:1-{end}") for end in (2, 10_000))
        assert (len(empty), list(empty.columns)) == (0, list(some.columns))


def test_what_has_no_table_is_refused_with_words(client: GooseherdClient) -> None:
    with pytest.raises(InvalidInput, match="name one"):
        client.frame("local", "genes.gff3")
    with pytest.raises(InvalidInput, match="by region"):
        client.frame("local", "samples.csv", "chr1:1-2")
    with pytest.raises(InvalidInput, match="none of pandas"):
        client.frame("local", "genes.gff3", "chr1", kind="excel")  # type: ignore[arg-type]
    with pytest.raises(InvalidInput, match="no library"):
        client.open("local", "samples.csv")


OPENED = """
from gooseherd.client import GooseherdClient
with GooseherdClient() as client:
    found = []
    with client.open("local", "reads.sam") as reads:
        found.append(reads.count("chr1"))
    with client.open("local", "calls.vcf") as calls:
        found += [list(calls.header.samples), len(list(calls.fetch("chr1")))]
    with client.open("local", "genes.gff3") as genes:
        found.append(len(list(genes.fetch("chr1", 0, 20000))))
    with client.open("local", "sequence.fa") as sequence:
        found += [sequence.fetch("chr1", 0, 60), sequence.get_reference_length("chr1")]
    with client.open("local", "signal.bedgraph") as signal:
        found.append(len(list(signal.records("chr1", 0, 1000))))
    with client.open("local", "reads.sam", density=True) as density:
        found.append(density.chroms()["chr1"])
print(found)
"""


def run_python(served: Any, folder: Path, script: str) -> subprocess.CompletedProcess[str]:
    """In a process of its own: htslib's libcurl stays in one that has opened an address."""
    return subprocess.run(
        [sys.executable, "-c", script],
        env=served.environ,
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


def test_files_open_as_the_libraries_have_them_and_leave_nothing(
    served: Any, tmp_path: Path, needs: Any
) -> None:
    needs("curl")
    done = run_python(served, tmp_path, OPENED)
    letters = (EXAMPLES / "data/sequence.fa").read_text().splitlines()[1]
    assert done.stderr == ""
    assert done.stdout.strip() == str([150, ["NA1", "NA2"], 40, 12, letters, LENGTH, 10, LENGTH])
    assert list(tmp_path.iterdir()) == []


async def test_the_async_form_opens_and_reads_too(client: GooseherdClient) -> None:
    async with AsyncGooseherdClient(client.base_url) as awaited:
        assert len(await awaited.frame("local", "reads.sam", "chr1")) == 150
        assert len([line async for line in awaited.records("local", "genes.gff3", "chr1")]) == 12
        with await awaited.open("local", "reads.sam", density=True) as density:
            assert density.chroms()["chr1"] == LENGTH


def test_a_file_that_is_not_public_opens_by_a_token_that_no_error_shows(
    client: GooseherdClient, served: Any, tmp_path: Path, needs: Any
) -> None:
    needs("curl")
    entry = client.file("local", "genes.gff3")
    client.register(
        {
            **{name: entry[name] for name in ("filename", "file_format", "access_url", "md5")},
            "dcc": "secret",
            "local_id": "genes",
            "data_access_level": "protected",
        }
    )
    opening = "from gooseherd.client import GooseherdClient\nwith GooseherdClient() as client:\n"
    done = run_python(
        served,
        tmp_path,
        f"{opening}    with client.open('secret', 'genes') as genes:\n"
        "        print(len(list(genes.fetch('chr1'))))\n",
    )
    assert (done.stdout, done.stderr) == ("12\n", "")
    assert "ght_" not in (served.home / "log").read_text()


def test_a_job_is_shown_as_a_bar_and_as_text(client: GooseherdClient) -> None:
    client.ready("local", "reads.sam")
    (job,) = client.jobs(local_id="reads.sam", limit=1)
    assert isinstance(job, Job)
    html = job._repr_html_()
    assert "<b>local/reads.sam</b>" in html
    assert "ready" in html
    file = client.file("local", "reads.sam")._repr_html_()
    assert "reads.sam" in file


def test_a_file_is_sent_and_a_broken_one_goes_on(client: GooseherdClient, tmp_path: Path) -> None:
    path = tmp_path / "sent.bed"
    path.write_text("".join(f"chr1\t{n * 20}\t{n * 20 + 9}\tname{n}\n" for n in range(300_000)))
    size = path.stat().st_size
    assert size > 2 * 4 << 20
    seen: list[int] = []
    begun: list[str] = []

    def breaks(there: int, _: int) -> None:
        seen.append(there)
        if there:
            raise ConnectionError("the user's program ends here")

    with pytest.raises(ConnectionError):
        client.upload(path, on_begun=begun.append, on_bytes=breaks)
    (left,) = [upload for upload in client.uploads().uploads if not upload.complete]
    assert [left.upload_id] == begun
    assert left.offset == seen[-1]
    assert 0 < left.offset < size
    whole = client.resume_upload(left.upload_id, path)
    assert (whole.complete, whole.file) == (True, "local/sent.bed")
    assert whole.md5 == hashlib.md5(path.read_bytes()).hexdigest()
    assert len(list(client.records("local", "sent.bed", "chr1:1-200"))) == 10


async def test_the_async_form_sends_files_too(client: GooseherdClient, tmp_path: Path) -> None:
    path = tmp_path / "other.bed"
    path.write_text("chr1\t1\t5\n")
    async with AsyncGooseherdClient(client.base_url, client.endpoint.api_key) as awaited:
        upload = await awaited.upload(path)
        assert upload.file == "local/other.bed"
        unfinished = await awaited.uploads()
        assert unfinished.allowed


def test_genes_are_found_by_name(client: GooseherdClient) -> None:
    found = client.search("g3", ["local/genes.gff3"])
    assert [one.name for one in found.results] == ["G3"]
    assert found.results[0].exact
    assert len(list(client.records("local", "genes.gff3", found.results[0].region))) >= 1
