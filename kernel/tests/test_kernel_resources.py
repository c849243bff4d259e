"""Memory, disk, pipes and signals: what the kernel takes, and how it ends when there is no more."""

from __future__ import annotations

import itertools
import json
import os
import random
import select
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from backports import zstd

MIB = 1 << 20
SLACK = 4 * MIB


@pytest.fixture(scope="module")
def big(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """105 MB of BED on sequences of 60 Mb: an index of some MB."""
    path = tmp_path_factory.mktemp("big") / "big.bed"
    rng = random.Random(7)
    block = [(rng.randint(1, 8), rng.randrange(60_000_000), rng.randint(1, 500)) for _ in range(100_000)]
    with path.open("wb") as file:
        for turn in range(28):
            file.write(
                b"".join(
                    b"chr%d\t%d\t%d\tread_%d_%d\n" % (c, s + turn * 911, s + turn * 911 + n, turn, i)
                    for i, (c, s, n) in enumerate(block)
                )
            )
    return path


LAUNCHER = """
import os, sys
_, status, used = os.wait4(os.posix_spawn(sys.argv[1], sys.argv[1:], os.environ), 0)
print(os.waitstatus_to_exitcode(status), used.ru_maxrss)
"""


def peak_of(argv: list[str]) -> tuple[int, int]:
    """Exit status and the most memory held at once, in bytes.

    By way of a small process: the peak of the one that starts another is inherited.
    """
    output = subprocess.run(
        [sys.executable, "-ISc", LAUNCHER, *argv], capture_output=True, check=True, timeout=200
    ).stdout.split()
    return int(output[0]), int(output[1]) * 1024


def limited(argv: list[str], **limits: int) -> list[str]:
    """The command under limits: data, fsize.

    A program sets them: for `preexec_fn` Python forks, which gRPC's threads may not survive.
    """
    return ["prlimit", *(f"--{name}={most}:{most}" for name, most in limits.items()), "--", *argv]


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("budget", [32, 96])
def test_the_budget_is_kept(budget: int, big: Path, kernel: Any) -> None:
    argv, planned = kernel.call("bed", big, "--memory", str(budget * MIB))
    status, peak = peak_of(argv)
    assert status == 0
    assert peak <= budget * MIB + SLACK
    assert planned.out.stat().st_size > 10 * MIB


def test_a_budget_that_cannot_hold_the_index_is_refused_not_exceeded(kernel: Any) -> None:
    """A record far out on each of many sequences: a linear index of 256 KiB each."""
    lines = b"".join(b"c%d\t536000000\t536000001\n" % i for i in range(2000))
    source = kernel.folder / "far.bed"
    source.write_bytes(lines)
    argv, planned = kernel.call("bed", source, "--memory", str(64 * MIB))
    status, peak = peak_of(argv)
    assert status == 21
    assert peak < 64 * MIB + SLACK
    assert not planned.out.exists()
    report = json.loads(planned.out.with_name("report.json").read_bytes())
    assert report["reason"] == "out_of_memory"


@pytest.mark.parametrize("ordered", [True, False])
def test_too_little_memory_is_named_wherever_it_runs_out(ordered: bool, kernel: Any) -> None:
    """RLIMIT_DATA from what the program cannot start with to what is enough: done, or out_of_memory."""
    source = kernel.folder / "some.bed"
    places = [(i // 6_000, i % 6_000 * 40_000) for i in range(60_000)]
    if not ordered:
        random.Random(3).shuffle(places)
    lines = [b"chr%d\t%d\t%d\tread_%d\n" % (name, at, at + 300, at) for name, at in places]
    source.write_bytes(b"".join(lines))
    ends = set()
    for most in (60, 84, 88, 91, 94, 97, 100, 105, 250):
        argv, planned = kernel.call("bed", source, "--memory", str(64 * MIB))
        done = subprocess.run(limited(argv, data=most * MIB), capture_output=True, check=False, timeout=60)
        ends.add(done.returncode)
        if done.returncode:
            assert done.returncode == 21, (most, done.stderr)
            assert b"ran out of memory" in done.stderr, most
            assert not planned.out.exists(), most
            report = planned.out.with_name("report.json")
            assert json.loads(report.read_bytes())["reason"] == "out_of_memory", most
    assert ends == {0, 21}


@pytest.mark.parametrize("where", ["data", "runs"])
def test_a_full_disk_is_named(where: str, big: Path, kernel: Any) -> None:
    """RLIMIT_FSIZE stands in for it: the same code path, with EFBIG for ENOSPC."""
    most = 3 * MIB if where == "data" else 30 * MIB
    memory = 900 * MIB if where == "data" else 32 * MIB
    argv, planned = kernel.call("bed", big, "--memory", str(memory))
    done = subprocess.run(limited(argv, fsize=most), capture_output=True, check=False, timeout=100)
    run = kernel.outcome(planned, done.returncode, done.stderr)
    assert run.status == 20, run.stderr
    assert run.found.reason == "out_of_disk"
    assert ("runs" in run.found.detail) == (where == "runs")
    assert sorted(p.name for p in planned.out.parent.iterdir()) == ["report.json"]


@pytest.mark.parametrize("level", ["0", "1"])
def test_a_disk_without_room_for_the_index_is_named(level: str, kernel: Any) -> None:
    source = kernel.folder / "wide.bed"
    source.write_bytes(b"".join(b"c%d\t%d\t%d\n" % (i, i, i + 1) for i in range(3000)))
    whole = kernel("bed", source)
    most = whole.out.stat().st_size
    assert whole.index.stat().st_size > most // 4
    argv, planned = kernel.call("bed", source, "--index", "/dev/full", "--level", level)
    done = subprocess.run(argv, capture_output=True, check=False, timeout=100)
    assert done.returncode == 20
    assert kernel.outcome(planned, done.returncode, done.stderr).found.reason == "out_of_disk"
    assert not planned.out.exists()
    assert Path("/dev/full").exists()


def test_a_reader_that_goes_away_ends_it(big: Path, kernel: Any) -> None:
    argv, planned = kernel.call("bed", big)
    reading, writing = os.pipe()
    argv[argv.index("--out") + 1] = f"fd:{writing}"
    with subprocess.Popen(argv, pass_fds=[writing], stderr=subprocess.DEVNULL) as process:
        os.close(writing)
        os.close(reading)
        assert process.wait(100) == 20
    assert json.loads(planned.out.with_name("report.json").read_bytes())["reason"] == "tool_failed"


def test_a_missing_source_is_named(kernel: Any) -> None:
    run = kernel("bed", kernel.folder / "absent")
    assert run.status == 20
    assert run.found.reason == "tool_failed"


def test_nothing_stays_behind_when_it_is_killed(big: Path, kernel: Any) -> None:
    argv, planned = kernel.call("bed", big, "--memory", str(32 * MIB))
    with subprocess.Popen(argv) as process:
        deadline = time.monotonic() + 60
        while not _spilling(process.pid) and time.monotonic() < deadline:
            time.sleep(0.005)
        process.send_signal(signal.SIGTERM)
        assert process.wait(10) == -signal.SIGTERM
    left = {path.name for path in planned.out.parent.iterdir()}
    assert left <= {"out.gz"}


@pytest.mark.parametrize("given", [True, False])
def test_nothing_is_written_but_where_it_is_told(given: bool, big: Path, kernel: Any, tmp_path: Path) -> None:
    """Neither where it runs, nor, without a work folder, anywhere but in the temporary one."""
    empty, temporary = tmp_path / "empty", tmp_path / "temporary"
    empty.mkdir()
    temporary.mkdir()
    argv, _ = kernel.call("bed", big, "--memory", str(32 * MIB), "--density", str(tmp_path / "table"))
    at = argv.index("--work")
    work = Path(argv[at + 1])
    if not given:
        del argv[at : at + 2]
    before = empty.stat().st_mtime_ns, temporary.stat().st_mtime_ns
    done = subprocess.run(
        argv, cwd=empty, env={"TMPDIR": str(temporary)}, capture_output=True, timeout=100, check=False
    )
    assert done.returncode == 0, done.stderr
    assert sorted(path.name for path in work.iterdir()) == ["out.gz", "out.gz.tbi", "report.json"]
    # A file that had a name for a moment has left its trace in the folder's time.
    assert empty.stat().st_mtime_ns == before[0]
    assert (temporary.stat().st_mtime_ns == before[1]) == given
    assert [*empty.iterdir(), *temporary.iterdir()] == []


def _spilling(pid: int) -> bool:
    """Whether it has runs, which have no name any more."""
    for fd in Path(f"/proc/{pid}/fd").iterdir():
        try:
            name = str(fd.readlink())
            if "runs-" in name and name.endswith(" (deleted)"):
                return True
        except OSError:
            continue
    return False


def test_a_source_is_read_while_it_arrives(kernel: Any) -> None:
    """Half of a long sorted file is given; compressed output appears before the rest is."""
    line = b"chr1\t%d\t%d\tname_%d\n"
    half = b"".join(line % (i, i + 5, i) for i in range(900_000))
    rest = b"".join(line % (i, i + 5, i) for i in range(900_000, 900_100))
    argv, planned = kernel.call("bed", None)
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdin is not None
        process.stdin.write(half)
        process.stdin.flush()
        deadline = time.monotonic() + 60
        while not (planned.out.exists() and planned.out.stat().st_size > MIB):
            assert time.monotonic() < deadline
            time.sleep(0.01)
        assert process.poll() is None
        _, output = process.communicate(rest, timeout=60)
    run = kernel.outcome(planned, process.returncode, output)
    assert run.status == 0
    assert run.found.sorted
    assert run.text() == half + rest


def test_standard_input_may_be_packed_and_come_in_drops(sanitised: Any, packed: dict[str, Any]) -> None:
    text = b"".join(b"chr%d\t%d\t%d\n" % (i % 3, i * 17 % 1009, 2000) for i in range(400))
    wanted = sanitised("bed", text).sizes()
    for pack, (make,) in packed.items():
        data = make(text)
        assert sanitised.drip("bed", data, 97).sizes() == wanted, pack


def test_progress_is_told_and_never_waits_for_a_reader(big: Path, kernel: Any) -> None:
    argv, planned = kernel.call("bed", big, "--memory", str(64 * MIB))
    reading, writing = os.pipe()
    argv[1:1] = ["--progress-fd", str(writing)]
    with subprocess.Popen(argv, pass_fds=[writing]) as process:
        os.close(writing)
        assert process.wait(100) == 0
    with os.fdopen(reading, "rb") as pipe:
        lines = [json.loads(line) for line in pipe.read().splitlines()]
    size = big.stat().st_size
    assert [line["phase"] for line in lines[-1:]] == ["done"]
    assert lines[-1]["in"] == lines[-1]["in_total"] == size
    assert all(a["in"] <= b["in"] and a["written"] <= b["written"] for a, b in itertools.pairwise(lines))
    assert {"read", "done"} <= {line["phase"] for line in lines}
    assert planned.out.exists()


def test_a_full_progress_pipe_does_not_stop_the_work(kernel: Any) -> None:
    source = kernel.folder / "small.bed"
    source.write_bytes(b"chr1\t1\t2\n")
    argv, _ = kernel.call("bed", source)
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    while select.select([], [writing], [], 0)[1]:
        os.write(writing, b"x" * 4096)
    os.set_blocking(writing, True)
    argv[1:1] = ["--progress-fd", str(writing)]
    assert subprocess.run(argv, pass_fds=[writing], check=False, timeout=60).returncode == 0
    os.close(writing)
    os.close(reading)


def test_the_window_of_a_frame_counts_as_memory(kernel: Any) -> None:
    packer = zstd.ZstdCompressor()
    frame = bytearray(packer.compress(b"chr1\t1\t2\n" * 100) + packer.flush())
    frame[5] = 27 - 10 << 3  # RFC 8878 3.1.1.1.2: 128 MB
    run = kernel("bed", bytes(frame), "--memory", str(256 * MIB))
    assert run.text() == b"chr1\t1\t2\n" * 100
    run = kernel("bed", bytes(frame), "--memory", str(100 * MIB))
    assert (run.status, run.found.reason) == (21, "out_of_memory")
