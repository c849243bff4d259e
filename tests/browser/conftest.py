"""Genome browsers in real web browsers: pages with nothing but addresses in them, and a gooseherd behind."""

from __future__ import annotations

import random
import subprocess
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyBigWig
import pysam
import pytest
from tests.benchmark_modules import load_benchmark
from tests.browser.driver import Driver
from tests.browser.service import ASSEMBLY, Herd, Origin, running

if TYPE_CHECKING:
    from conftest import Needs

HERE = Path(__file__).parent / "viewers"
ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="session")
def bundle(needs: Needs) -> Path:
    """A folder with the viewers, their pages and the driver; made once for each state of the lock file."""
    needs("node", "npm")
    viewers = load_benchmark("_viewers")
    try:
        made: Path = viewers.bundle_of_viewers()
    except viewers.NotBundled as missing:
        needs.missing(str(missing))
    return made


@pytest.fixture(scope="session")
def pages(bundle: Path) -> Iterator[str]:
    """The portal: another origin than the API's."""

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(bundle)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


@pytest.fixture(scope="module")
def chromium(bundle: Path, needs: Needs, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Driver]:
    """Debian's Chromium."""
    (program,) = needs("chromium")
    driver = Driver(bundle, program, "chrome", tmp_path_factory.mktemp("chromium"))
    yield driver
    driver.close()


@pytest.fixture(scope="module")
def firefox(bundle: Path, needs: Needs, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Driver]:
    """Debian's Firefox, on a display that nobody sees."""
    program, server = needs("firefox-esr", "Xvfb")
    with subprocess.Popen(
        [server, "-displayfd", "1", "-screen", "0", "1280x1200x24", "-nolisten", "tcp"],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as xvfb:
        assert xvfb.stdout is not None
        display = f":{xvfb.stdout.readline().strip()}"
        driver = Driver(bundle, program, "firefox", tmp_path_factory.mktemp("firefox"), display=display)
        yield driver
        driver.close()
        xvfb.terminate()


@pytest.fixture(scope="session")
def sources(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file of each format with some hundred records, most of them in no order."""
    folder = tmp_path_factory.mktemp("sources")
    chance = random.Random(5)
    places = [(chance.choice(["chr1", "chr1", "chr2"]), chance.randrange(1000, 99_000)) for _ in range(800)]
    places += [("chr1", chance.randrange(90_000, 110_000)) for _ in range(300)]
    header = "@HD\tVN:1.6\n" + "".join(f"@SQ\tSN:{name}\tLN:{length}\n" for name, length in ASSEMBLY)
    reads = [
        f"r{n}\t{16 * (n % 2)}\t{name}\t{start}\t60\t100M\t*\t0\t0\t{'ACGTACGTGC' * 10}\t{'I' * 100}\n"
        for n, (name, start) in enumerate(places)
    ]
    (folder / "reads.sam").write_text(header + "".join(reads))
    # Compresses badly: a viewer that has drawn one end of it has not read the other.
    noise = chance.randbytes(1 << 19).hex().upper()
    (folder / "many.sam").write_text(
        header
        + "".join(
            f"r{n}\t{16 * (n % 2)}\t{name}\t{n * 9 + 1}\t60\t100M\t*\t0\t0\t{'ACGTACGTGC' * 10}"
            f"\t{noise[n * 40 : n * 40 + 100]}\n"
            for name, length in ASSEMBLY
            for n in range(length // 9 - 12)
        )
    )
    with (
        pysam.AlignmentFile(str(folder / "reads.sam"), check_sq=False) as source,
        pysam.AlignmentFile(str(folder / "mapped.bam"), "wb", template=source) as packed,
    ):
        for read in source:
            packed.write(read)
    (folder / "calls.vcf").write_text(
        "##fileformat=VCFv4.2\n"
        + "".join(f"##contig=<ID={name},length={length}>\n" for name, length in ASSEMBLY)
        + "#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\n"
        + "".join(f"{name}\t{start}\tv{n}\tA\tT\t50\tPASS\t.\n" for n, (name, start) in enumerate(places))
    )
    (folder / "genes.gff3").write_text(
        "##gff-version 3\n"
        + "".join(
            f"{name}\tx\tgene\t{start}\t{start + 300}\t.\t+\t.\tID=g{n};Name=G{n}\n"
            for n, (name, start) in enumerate(places)
        )
    )
    (folder / "models.gtf").write_text(
        "".join(
            f'{name}\tx\texon\t{start}\t{start + 300}\t.\t+\t.\tgene_id "g{n}"; transcript_id "t{n}"; '
            f'gene_name "G{n}";\n'
            for n, (name, start) in enumerate(places)
        )
    )
    (folder / "regions.bed").write_text(
        "".join(f"{name}\t{start}\t{start + 300}\tb{n}\t0\t+\n" for n, (name, start) in enumerate(places))
    )
    (folder / "peaks.narrowPeak").write_text(
        "".join(
            f"{name}\t{start}\t{start + 300}\tp{n}\t500\t.\t5\t3\t2\t100\n"
            for n, (name, start) in enumerate(places)
        )
    )
    (folder / "table.csv").write_text(
        "chrom,start,end\n" + "".join(f"{name},{start},{start + 300}\n" for name, start in places)
    )
    with pyBigWig.open(str(folder / "signal.bw"), "w") as out:
        out.addHeader(ASSEMBLY)
        for name, length in ASSEMBLY:
            values = [float(chance.randrange(1, 50)) for _ in range(length // 100)]
            out.addEntries(name, 0, values=values, span=100, step=100)
    return folder


@pytest.fixture(scope="module")
def origin(sources: Path) -> Iterator[Origin]:
    origin = Origin(sources)
    yield origin
    origin.close()


@pytest.fixture(scope="module")
def herd(origin: Origin, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Herd]:
    """A service as `gooseherd up` starts it."""
    with running(tmp_path_factory.mktemp("herd"), origin) as herd:
        yield herd
