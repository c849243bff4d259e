"""What a user does in a terminal, against the real thing: up, add, get, jobs, files."""

from __future__ import annotations

import gzip
import hashlib
import json
import os
import re
import signal
import stat
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pyBigWig
import pytest

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]

BED = "".join(
    f"chr{1 + n % 2}\t{(n * 7919) % 90_000}\t{(n * 7919) % 90_000 + 50}\tn{n}\n" for n in range(500)
)


@pytest.fixture(scope="module")
def bed(user: Any) -> Path:
    path: Path = user.home / "files" / "my peaks.bed"
    path.write_text(BED)
    return path


@pytest.fixture(scope="module")
def name(user: Any, bed: Path) -> str:
    done = user.run("add", str(bed))
    assert done.returncode == 0, done.stderr.decode()
    return str(done.stdout.decode().strip())


def naive(contig: str, start: int, end: int) -> list[str]:
    rows = (line.split("\t") for line in BED.splitlines())
    return sorted("\t".join(r) for r in rows if r[0] == contig and int(r[2]) > start and int(r[1]) < end)


def test_a_file_is_added_under_a_name_of_its_own(user: Any, bed: Path, name: str) -> None:
    assert name == "local/my-peaks.bed"
    [entry] = [f for f in user.json("files", "ls", "my")["files"] if f["local_id"] == "my-peaks.bed"]
    assert entry["md5"] == hashlib.md5(BED.encode()).hexdigest()
    assert user.run("add", str(bed)).stdout.decode().strip() == name


def test_it_comes_back_sorted_indexed_and_verified(user: Any, name: str) -> None:
    result = user.json("get", name, "-o", "out.bed.gz")
    assert result["verified"]
    lines = gzip.decompress((user.home / "out.bed.gz").read_bytes()).decode().splitlines()
    assert sorted(lines) == sorted(BED.splitlines())
    starts = [(line.split("\t")[0], int(line.split("\t")[1])) for line in lines]
    assert starts == sorted(starts)
    assert (user.home / "out.bed.gz.tbi").stat().st_size == result["index"]["size"]
    assert user.json("get", name, "-o", "again.bed.gz")["cached"] is True


def test_a_region_is_read_by_byte_ranges(user: Any, name: str) -> None:
    done = user.run("get", name, "--region", "chr1:20,001-30,000")
    assert done.returncode == 0, done.stderr.decode()
    assert sorted(done.stdout.decode().splitlines()) == naive("chr1", 20_000, 30_000) != []
    result = user.json("get", name, "--region", "chr2")
    assert sorted(result["records"]) == naive("chr2", 0, 10**9)
    unknown = user.run("get", name, "--region", "chrX:1-5")
    assert (unknown.returncode, b"chr1, chr2" in unknown.stderr) == (2, True)


@pytest.fixture
def no_libcurl(tmp_path: Path) -> dict[str, str]:
    """An environment in which the genome library opens no URL: the library it would load is none."""
    (tmp_path / "libcurl.so.4").write_bytes(b"no library")
    environ = {"LD_LIBRARY_PATH": str(tmp_path)}
    program = "import pysam; pysam.AlignmentFile('http://127.0.0.1:9/x.bam')"
    done = subprocess.run(
        [sys.executable, "-c", program], env={**os.environ, **environ}, capture_output=True, check=False
    )
    assert b"libcurl" in done.stderr, done.stderr
    return environ


def test_regions_are_read_where_libcurl_is_not(user: Any, name: str, no_libcurl: dict[str, str]) -> None:
    done = user.run("get", name, "--region", "chr1:20,001-30,000", environ=no_libcurl)
    assert sorted(done.stdout.decode().splitlines()) == naive("chr1", 20_000, 30_000), done.stderr.decode()
    url = json.loads((user.state / "server.json").read_text())["url"]
    formats = ("bam", "vcf", "bed", "gff3")
    report = user.json(
        "smoke",
        *("--url", url, "--inputs", str(user.home / "files")),
        *(word for one in formats for word in ("--format", one)),
        environ=no_libcurl,
    )
    assert [(one["format"], one["ok"]) for one in report["formats"]] == [(one, True) for one in formats]


def test_the_density_read_by_byte_ranges_counts_the_records(user: Any, name: str) -> None:
    data = user.json("get", name, "-o", "counted.bed.gz", "--density")
    whole = (user.home / data["density"]["path"]).read_bytes()
    url = data["density"]["url"]
    pieces = []
    for at in range(0, len(whole), 500):
        asked = urllib.request.Request(url, headers={"Range": f"bytes={at}-{at + 499}"})
        with urllib.request.urlopen(asked, timeout=60) as answer:
            assert answer.status == 206
            pieces.append(answer.read())
    path = user.home / "ranges.bw"
    path.write_bytes(b"".join(pieces))
    with pyBigWig.open(str(path)) as opened:
        assert set(opened.chroms()) == {"chr1", "chr2"}
        for contig, length in opened.chroms().items():
            for start in range(0, length, 1024):
                end = min(start + 1024, length)
                assert opened.stats(contig, start, end, exact=True) == [len(naive(contig, start, end))]


def test_raw_bytes_are_the_source_s_own(user: Any, name: str) -> None:
    assert user.run("get", name, "--raw", "-o", "-").stdout == BED.encode()


def test_the_job_is_there_to_be_looked_at(user: Any) -> None:
    # A content of its own: of two entries with one content, the job is of the one that was asked for first.
    path = user.home / "files" / "looked-at.bed"
    path.write_text(f"{BED}chr9\t1\t2\tlooked-at\n")
    name = user.json("add", str(path))["added"][0]["name"]
    user.json("get", name, "-o", "job.bed.gz")
    jobs = user.json("jobs", "ls", "--limit", "200")["jobs"]
    job = next(j for j in jobs if f"{j['dcc']}/{j['local_id']}" == name)
    assert job["status"] == "completed"
    shown = user.run("jobs", "show", job["job_id"])
    assert (shown.returncode, b"completed" in shown.stdout) == (0, True)
    assert user.run("jobs", "watch", job["job_url"]).returncode == 0
    late = user.run("jobs", "cancel", job["job_id"])
    assert (late.returncode, b"can no longer be cancelled" in late.stderr) == (1, True)


def test_what_is_broken_ends_with_its_reason(user: Any) -> None:
    path = user.home / "files" / "broken.bam"
    path.write_bytes(b"this is no BAM")
    added = user.json("add", str(path))["added"][0]["name"]
    done = user.run("get", added, "--json")
    assert done.returncode == 1
    error = json.loads(done.stdout)["error"]
    assert error["job"]["reason"] == "source_invalid"
    again = user.run("get", added)
    assert (again.returncode, b"source_invalid" in again.stderr) == (1, True)


def test_a_folder_that_was_not_allowed_is_told_with_the_way_out(user: Any) -> None:
    path = user.home / "elsewhere.bed"
    path.write_text(BED + "chr9\t1\t2\n")
    done = user.run("add", str(path))
    assert done.returncode == 4
    assert f"gooseherd up --allow-root {user.home}" in done.stderr.decode()


def test_a_job_outlives_who_waits_for_it_and_can_be_cancelled(user: Any, stalled: str) -> None:
    added = user.json("add", f"{stalled}/stalled.bed")["added"][0]["name"]
    late = user.run("get", added, "--timeout", "2", "--json")
    assert late.returncode == 1
    job = re.search(r"job (\w+) goes on", json.loads(late.stdout)["error"]["detail"])
    assert job is not None

    with subprocess.Popen(
        user.command("get", added), cwd=user.home, env=user.environ, stderr=subprocess.PIPE
    ) as get:
        assert get.stderr is not None
        assert get.stderr.readline().startswith(added.encode())
        get.send_signal(signal.SIGINT)
        words = get.stderr.read().decode()
        assert (get.wait(30), f"gooseherd jobs cancel {job[1]}" in words) == (130, True), words

    assert user.json("jobs", "show", job[1])["status"] in {"pending", "running"}
    cancelled = user.run("jobs", "cancel", job[1])
    assert cancelled.returncode == 0, cancelled.stderr.decode()
    watched = user.run("jobs", "watch", job[1])
    assert (watched.returncode, b"cancelled" in watched.stderr) == (1, True)


@pytest.fixture
def stalled() -> Iterator[str]:
    """An origin that sends the beginning of a file and then nothing, for as long as the test lasts."""
    over = threading.Event()

    class Stall(BaseHTTPRequestHandler):
        def log_message(self, *args: object) -> None:
            pass

        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Length", str(10**6))
            self.end_headers()
            self.wfile.write(BED.encode())
            self.wfile.flush()
            over.wait()

    with ThreadingHTTPServer(("127.0.0.1", 0), Stall) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        over.set()
        server.shutdown()
        thread.join()


def test_many_files_are_prepared_as_one(user: Any, bed: Path, name: str) -> None:
    for number in range(3):
        (user.home / "files" / f"many{number}.bed").write_text(f"chr1\t{number}\t{number + 5}\n")
    assert user.run("add", str(user.home / "files"), "--glob", "many*.bed").returncode == 0
    record = user.json("prepare", "many", name)
    assert (record["status"], record["total"], record["counts"]["ready"]) == ("completed", 4, 4)
    assert user.json("get", "local/many1.bed", "-o", "many1.bed.gz")["cached"] is True
    partial = user.run("prepare", name, "local/nobody")
    assert (partial.returncode, partial.stdout) == (1, b"")
    assert "local/nobody: source_missing: no file 'local/nobody'" in partial.stderr.decode()
    detached = user.run("prepare", "many", "--detach")
    batch = detached.stdout.decode().strip()
    assert user.run("batches", "watch", batch).returncode == 0
    assert [b["batch_id"] for b in user.json("batches", "ls", "--limit", "1")["batches"]] == [batch]


def test_what_a_batch_made_is_ready_at_once_for_whoever_asks_all_the_time(user: Any, name: str) -> None:
    """The loop of batches asked the source for its size, which is part of what the file is known by."""
    assert user.run("get", name).returncode == 0, "a worker is warm"
    (user.home / "files" / "unsized.bed").write_text("chr1\t7\t9\n")
    address = (user.home / "files" / "unsized.bed").as_uri()
    dump = json.dumps({"dcc": "local", "local_id": "unsized", "access_url": address, "format": "bed"})
    assert user.json("files", "import", "-", given=dump.encode() + b"\n")["imported"] == 1
    url = json.loads((user.state / "server.json").read_text())["url"]

    def asked(path: str, data: bytes | None = None) -> Any:
        head = {"Content-Type": "application/json"} if data else {}
        with urllib.request.urlopen(urllib.request.Request(url + path, data, head), timeout=60) as answer:
            return json.load(answer)

    batch = asked("/batches", json.dumps({"files": ["local/unsized"]}).encode())
    status = "/data/local/unsized/status"
    while asked(f"/batches/{batch['batch_id']}")["status"] == "active":
        asked(status)
    assert asked(status)["ready"]


def test_a_dump_is_imported_line_by_line(user: Any) -> None:
    good = {"dcc": "dump", "local_id": "a", "access_url": "https://files.example.org/a.bam"}
    dump = json.dumps(good).encode() + b'\nnonsense\n{"dcc": "dump"}\n'
    done = user.run("files", "import", "-", given=dump)
    assert (done.returncode, done.stdout) == (1, b"1 imported, 1 of them new\n")
    assert b"line 2" in done.stderr
    (user.home / "dump.jsonl").write_text(json.dumps(good) + "\n")
    assert user.json("files", "import", "dump.jsonl")["imported"] == 1
    assert [f["local_id"] for f in user.json("files", "ls", "--dcc", "dump")["files"]] == ["a"]


def test_what_is_not_public_is_for_those_who_may_see_it(user: Any, bed: Path) -> None:
    added = user.json("add", str(bed), "--id", "secret", "--level", "protected")["added"][0]["name"]
    assert user.run("get", added).returncode == 0, "the key of the user's own service sees everything"
    url = json.loads((user.state / "server.json").read_text())["url"]
    with urllib.request.urlopen(f"{url}/files") as response:
        assert added not in response.read().decode()
    with pytest.raises(urllib.error.HTTPError, match="404"):
        urllib.request.urlopen(f"{url}/data/{added}")
    assert user.run("get", "local/nothing").returncode == 4


def test_the_own_service_may_be_named_as_people_spell_it(user: Any, bed: Path) -> None:
    url = json.loads((user.state / "server.json").read_text())["url"]
    named = {"GOOSEHERD_URL": url.replace("127.0.0.1", "localhost") + "/"}
    done = user.run("add", str(bed), "--id", "named", environ=named)
    assert (done.returncode, done.stdout) == (0, b"local/named\n"), done.stderr.decode()
    elsewhere = {**named, "GOOSEHERD_STATE_DIR": str(user.home / "other")}
    assert user.run("add", str(bed), "--id", "named", environ=elsewhere).returncode == 4


def test_a_wrong_key_is_denied(user: Any, bed: Path) -> None:
    done = user.run("add", str(bed), "--id", "denied", "--api-key", "wrong")
    assert (done.returncode, b"--api-key" in done.stderr) == (4, True)


def test_a_second_service_on_the_same_folder_is_refused(user: Any) -> None:
    done = user.run("up", "--port", "0")
    assert (done.returncode, b"another gooseherd runs" in done.stderr) == (2, True)


def test_a_folder_a_pipe_and_an_index_are_added(user: Any) -> None:
    folder = user.home / "files" / "mixed"
    (folder / "deep").mkdir(parents=True)
    (folder / "deep" / "b.bed").write_text("chr1\t9\t20\nchr1\t1\t5\n")
    data = subprocess.run(["bgzip", "-c"], input=b"chr1\t1\t5\n", capture_output=True, check=True).stdout
    (folder / "i.bed.gz").write_bytes(data)
    subprocess.run(["tabix", "-p", "bed", folder / "i.bed.gz"], check=True)
    done = user.run("add", str(folder), "--wait")
    assert done.returncode == 0, done.stderr.decode()
    assert done.stdout.decode().splitlines() == ["local/i.bed.gz", "local/b.bed"]
    # With its own index it is served as it is.
    assert user.run("get", "local/i.bed.gz", "-o", "-").stdout == data
    index = (folder / "i.bed.gz.tbi").read_bytes()
    assert user.run("get", "local/i.bed.gz", "-o", "i.bed.gz").returncode == 0
    assert (user.home / "i.bed.gz.tbi").read_bytes() == index

    for private in (user.state, user.state / "added"):
        assert stat.S_IMODE(private.stat().st_mode) == 0o700
    piped = user.run("add", "-", "--name", "piped.bed", "--wait", given=b"chr2\t7\t9\nchr1\t1\t5\n")
    assert piped.returncode == 0, piped.stderr.decode()
    region = user.run("get", "local/piped.bed", "--region", "chr2:1-100")
    assert region.stdout == b"chr2\t7\t9\n"
    assert list((user.state / "added").rglob("piped.bed"))
    assert user.run("files", "rm", "local/piped.bed").returncode == 0
    assert not list((user.state / "added").rglob("piped.bed"))


def test_show_tells_what_was_made_and_starts_nothing(user: Any) -> None:
    path = user.home / "files" / "shown.bed"
    path.write_text("chr3\t9\t20\nchr1\t1\t5\n")
    assert user.run("add", str(path)).returncode == 0
    known = user.json("show", "local/shown.bed")
    assert (known["manifest"], known["job"], known["ready"]["data"]["ready"]) == (None, None, False)
    assert user.run("get", "local/shown.bed", "-o", "shown").returncode == 0
    known = user.json("show", "local/shown.bed")
    assert known["ready"]["data"]["ready"] is True
    assert (known["job"]["status"], known["manifest"]["counts"]["records"]) == ("completed", 2)
    assert known["job"]["counts"] == known["manifest"]["counts"]
