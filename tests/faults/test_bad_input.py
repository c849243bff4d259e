"""Input that cannot be used: each ends with a reason that says why, and leaves nothing behind."""

from __future__ import annotations

import gzip
import http.server
import os
import random
import subprocess
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import pytest

if TYPE_CHECKING:
    from tests.faults.conftest import Gooseherd

pytestmark = [pytest.mark.fault, pytest.mark.timeout(180)]

BED = "".join(f"chr{n % 3 + 1}\t{n * 7 % 5000}\t{n * 7 % 5000 + 10}\tx{n}\n" for n in range(3000)).encode()
GFF3 = b"##gff-version 3\n" + b"".join(
    f"chr1\tsrc\tgene\t{n + 1}\t{n + 5}\t.\t+\t.\tID=g{n}\n".encode() for n in range(500)
)
VCF_HEADER = b"##fileformat=VCFv4.2\n##contig=<ID=chr1>\n#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\n"
VCF = VCF_HEADER + b"".join(f"chr1\t{n}\t.\tA\tC\t.\t.\t.\n".encode() for n in range(900, 0, -1))
SAM_HEADER = b"@HD\tVN:1.6\n@SQ\tSN:chr1\tLN:100000\n"
SAM = SAM_HEADER + b"".join(
    f"r{n}\t0\tchr1\t{(n * 37) % 90000 + 1}\t60\t10M\t*\t0\t0\tACGTACGTAC\tIIIIIIIIII\n".encode()
    for n in range(2000)
)


def bgzipped(data: bytes) -> bytes:
    return subprocess.run(["bgzip", "-c"], input=data, capture_output=True, check=True).stdout


def bam() -> bytes:
    return subprocess.run(["samtools", "view", "-b", "-"], input=SAM, capture_output=True, check=True).stdout


def noise(size: int) -> bytes:
    return random.Random(3).randbytes(size)


@dataclass(frozen=True)
class Case:
    """A source, how it is registered, and the reason its job must end with."""

    name: str
    make: Callable[[], bytes]
    reason: str = "source_invalid"
    entry: dict[str, Any] = field(default_factory=dict)


CASES = [
    Case("cut.bed.gz", lambda: gzip.compress(BED)[:-200]),
    Case("cut-bgzf.vcf.gz", lambda: bgzipped(VCF)[:-300]),
    Case("cut.bam", lambda: bam()[:-400]),
    Case("garbled.bed.gz", lambda: gzip.compress(BED)[:2000] + noise(500) + gzip.compress(BED)[2500:]),
    Case("wrong-digest.bed", lambda: BED, "source_changed", {"md5": "0" * 32}),
    Case("wrong-size.bed", lambda: BED, "source_changed", {"size_in_bytes": 5}),
    Case("text.bam", lambda: BED),
    Case("alignments.vcf", bam),
    Case("page.gff3", lambda: b"<!DOCTYPE html><html><body>Not found</body></html>\n" * 20),
    Case("empty.bed", lambda: b""),
    Case("empty.bam", lambda: b""),
    Case("empty.csv", lambda: b""),
    Case("no-references.sam", lambda: SAM.replace(SAM_HEADER, b"@HD\tVN:1.6\n")),
    Case("one-10MB-word.bed", lambda: b"x" * 10_000_000 + b"\n"),
    Case("one-20MB-line.bed", lambda: b"chr1\t1\t2\t" + b"x" * 20_000_000 + b"\n"),
    Case("nul.bed", lambda: BED[:500] + b"\0\0\0" + BED[500:]),
    Case("backwards.gff3", lambda: GFF3 + b"chr1\ts\tgene\t900\t100\t.\t+\t.\tID=b\n"),
    Case("negative.bed", lambda: BED + b"chr1\t-5\t10\n"),
    Case("words.bed", lambda: BED + b"chr1\tabc\tdef\n"),
    Case("fraction.bed", lambda: BED + b"chr1\t1.5\t10\n"),
    Case("astronomical.bed", lambda: BED + b"chr1\t1\t99999999999999\n"),
    Case("two-columns.bed", lambda: b"chr1\t5\n" * 50),
    Case("five-columns.gff", lambda: b"chr1\tsrc\tgene\t1\t5\n" * 50),
    Case("six-columns.narrowPeak", lambda: b"chr1\t1\t5\tp\t0\t.\n" * 50),
    Case("headless.vcf", lambda: VCF.replace(VCF_HEADER, b"")),
    Case("garbage.gtf", lambda: b"this is no annotation at all\n" * 50),
    Case("noise.bigWig", lambda: noise(4000)),
    Case("noise.bb", lambda: noise(4000)),
    Case("noise.csv", lambda: noise(4000)),
    Case("noise.bcf", lambda: noise(4000)),
    Case("noise.cram", lambda: noise(4000)),
    Case("too-large.tsv", lambda: b"a\tb\n" * 18_000_000, "source_too_large"),
    Case("bomb.bed.gz", lambda: gzip.compress((b"chr1\t1\t2\t" + b"x" * 4000 + b"\n") * 90_000, 9)),
]


def ask_and_wait(service: Gooseherd, name: str) -> dict[str, Any]:
    answer = service.ask(name)
    assert answer.status_code == 202, answer.text
    return service.ended(answer.json()["job_id"])


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_bytes_that_cannot_be_used_end_the_job_with_the_reason(
    steady: Gooseherd, stored: list[str], case: Case
) -> None:
    path = steady.sources / case.name
    path.write_bytes(case.make())
    job = ask_and_wait(steady, steady.register(path, **case.entry))
    assert job["status"] == "failed"
    assert job["reason"] == case.reason, job["detail"]
    assert len(job["attempts"]) == 1
    check_sentence(steady, job["detail"])
    again = steady.ask(f"t/{case.name}")
    assert again.status_code == 422
    assert again.headers["content-type"] == "application/problem+json"
    assert again.json()["reason"] == case.reason
    check_nothing_left(steady, stored)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("only-header.vcf", VCF_HEADER),
        ("only-header.sam", SAM_HEADER),
        ("only-header.gff3", b"##gff-version 3\n##sequence-region chr1 1 1000\n"),
        ("only-comments.bed", b"# nothing\ntrack name=x\n"),
    ],
)
def test_a_file_with_nothing_but_a_header_is_an_empty_track(
    steady: Gooseherd, name: str, content: bytes
) -> None:
    path = steady.sources / name
    path.write_bytes(content)
    job = ask_and_wait(steady, steady.register(path))
    assert job["status"] == "completed", job["detail"]
    assert job["counts"]["records"] == 0
    assert steady.ask(f"t/{name}").status_code == 200


def check_sentence(service: Gooseherd, detail: str) -> None:
    """Something for people, without a path of ours."""
    assert len(detail) > 10
    assert str(service.state) not in detail
    assert str(service.sources) not in detail
    assert "/tmp" not in detail
    assert "Traceback" not in detail


@pytest.fixture
def stored(steady: Gooseherd) -> list[str]:
    """What is in the cache before the test: other tests publish."""
    return steady.left_in_cache()


def check_nothing_left(service: Gooseherd, stored: list[str]) -> None:
    service.until(
        lambda: service.left_in_work() == [] and service.left_in_cache() == stored and not service.attempts(),
        "cache, work folder and process table are clean",
        20,
    )


class Upstream(http.server.BaseHTTPRequestHandler):
    """Answers that a source host should not give."""

    def do_GET(self) -> None:
        match self.path.split("?")[0]:
            case "/to-metadata.bed":
                self._redirect("http://169.254.169.254/latest/meta-data/")
            case "/to-private.bed":
                self._redirect("http://10.0.0.1/x.bed")
            case "/to-file.bed":
                self._redirect("file:///etc/passwd")
            case "/round.bed":
                self._redirect("/round.bed")
            case "/forbidden.bed":
                self.send_error(403)
            case _:
                self.send_error(404)

    def _redirect(self, where: str) -> None:
        self.send_response(302)
        self.send_header("Location", where)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Quiet."""


@pytest.fixture(scope="module")
def upstream() -> Iterator[str]:
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Upstream)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        ("/to-metadata.bed", "source_forbidden"),
        ("/to-private.bed", "source_forbidden"),
        ("/to-file.bed", "source_forbidden"),
        ("/round.bed", "source_unavailable"),
        ("/forbidden.bed", "source_forbidden"),
        ("/missing.bed", "source_missing"),
    ],
)
def test_what_upstream_must_not_do_ends_the_job(
    steady: Gooseherd, stored: list[str], upstream: str, path: str, reason: str
) -> None:
    job = ask_and_wait(steady, register_url(steady, upstream + path))
    assert (job["status"], job["reason"]) == ("failed", reason), job["detail"]
    check_nothing_left(steady, stored)


def register_url(service: Gooseherd, url: str) -> str:
    local_id = url.rsplit("/", 1)[-1]
    return service.register(Path("/") / local_id, access_url=url)


def test_files_outside_the_allowed_folders_are_not_read(steady: Gooseherd, stored: list[str]) -> None:
    link = steady.sources / "link.bed"
    link.symlink_to("/etc/passwd")
    pipe = steady.sources / "pipe.bed"
    os.mkfifo(pipe)
    for url in ("file:///etc/passwd", f"{steady.sources.as_uri()}/../../../../../../etc/passwd"):
        with pytest.raises(AssertionError, match="outside of the allowed folders"):
            steady.register(Path("/outside.bed"), access_url=url)
    for name, url in {"link.bed": link.as_uri(), "pipe.bed": pipe.as_uri()}.items():
        registered = steady.register(Path(name).absolute(), access_url=url)
        job = ask_and_wait(steady, registered)
        assert job["status"] == "failed"
        assert job["reason"] in ("source_forbidden", "source_missing", "source_invalid"), job
        assert "root:" not in job["detail"]
    check_nothing_left(steady, stored)


@pytest.mark.parametrize(
    "path",
    [
        "/data/t/../../etc/passwd",
        "/data/t/%2e%2e%2f%2e%2e%2fetc%2fpasswd",
        "/data/t/..%2f..%2fadmin-key",
        "/data/%2e%2e/admin-key",
        "/data/t/a%00b",
        "/data/t/%252e%252e%252f",
        "/data/t/" + "x" * 3000,
        "/data/t/",
        "/data//x",
        "/index/t/a%0d%0aSet-Cookie:x",
        "/jobs/..%2f..%2f",
        "/files/t/%ff%fe",
    ],
)
def test_ids_cannot_lead_anywhere(steady: Gooseherd, path: str) -> None:
    with httpx.Client(base_url=steady.url, timeout=30) as client:
        answer = client.send(client.build_request("GET", httpx.URL(steady.url + path)))
    assert 400 <= answer.status_code < 500, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    assert str(steady.state) not in answer.text


@pytest.mark.parametrize(
    ("header", "status"),
    [
        ("bytes=99999999999999999999-", 416),
        ("bytes=-0", 416),
        ("bytes=5-2", 400),
        ("bytes=a-b", 400),
        ("bytes=", 400),
        ("bytes=0-" + "9" * 900, 206),
        ("bytes=-99999999999999999999", 206),
        ("bytes=" + ",".join(["0-0"] * 200), 200),
        ("lines=1-2", 200),
    ],
)
def test_absurd_ranges_are_answered_by_the_book(steady: Gooseherd, header: str, status: int) -> None:
    path = steady.sources / "ranges.bed"
    if not path.exists():
        path.write_bytes(BED)
        steady.register(path)
        assert steady.ask("t/ranges.bed", params={"wait": 60}).status_code == 200
    answer = steady.ask("t/ranges.bed", headers={"Range": header})
    assert answer.status_code == status, answer.text[:300]


def test_a_file_that_is_not_public_is_refused_and_starts_nothing(steady: Gooseherd) -> None:
    path = steady.sources / "secret.bed"
    path.write_bytes(BED + b"chr9\t1\t2\n")
    name = steady.register(path, data_access_level="protected")
    for part in ("data", "index"):
        for query in ("", "?raw=true", "/status"):
            answer = httpx.get(f"{steady.url}/{part}/{name}{query}", timeout=30)
            assert answer.status_code == 404, answer.text
    jobs = httpx.get(f"{steady.url}/jobs", params={"dcc": "t", "local_id": "secret.bed"}, timeout=30).json()
    assert jobs["jobs"] == []
