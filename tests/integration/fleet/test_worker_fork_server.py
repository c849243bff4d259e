"""An attempt is forked by a fork server, or is the spare it keeps; it must not depend on it afterwards."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest

from gooseherd.domain.attempt import EventKind
from gooseherd.processes import ProcessId
from gooseherd.worker.folders import SPARE

pytestmark = pytest.mark.integration


def forked(root: Path) -> dict[int, str]:
    """Name by pid of the live fork servers of workers below `root`, and of what they forked."""
    found = {}
    for path in Path("/proc").iterdir():
        if not path.name.isdigit():
            continue
        try:
            content = (path / "cmdline").read_bytes().split(b"\0")
            named = (path / "comm").read_text().strip()
        except OSError:
            continue
        ours = any(word.startswith(str(root).encode()) for word in content)
        if ours and b"gooseherd.worker.fork_server" in content and ProcessId.of(int(path.name)):
            found[int(path.name)] = named
    return found


def fork_servers(root: Path) -> list[int]:
    return [pid for pid, name in forked(root).items() if name not in ("attempt", "spare attempt")]


def sockets(pid: int) -> list[str]:
    """Those that the process has open."""
    found = []
    for path in Path(f"/proc/{pid}/fd").iterdir():
        with suppress(FileNotFoundError):
            if (target := str(path.readlink())).startswith("socket:"):
                found.append(target)
    return found


def spares(root: Path) -> list[int]:
    """Those that have prepared what they can: the program that checks results waits."""
    return [pid for pid, name in forked(root).items() if name == "spare attempt" and waiting_check(root)]


def waiting_check(root: Path) -> list[int]:
    """Live processes of programs/verify.py that were started in a spare's folder below `root`."""
    found = []
    for path in Path("/proc").iterdir():
        try:
            content = (path / "cmdline").read_bytes()
            environment = (path / "environ").read_bytes()
        except OSError:
            continue
        started_ahead = f"TMPDIR={root}".encode() in environment and SPARE.encode() in environment
        if started_ahead and b"programs.verify" in content and ProcessId.of(int(path.name)):
            found.append(int(path.name))
    return found


def sandboxes(work: Path) -> list[int]:
    """Live processes of bubblewrap around a spare's folder below `work`."""
    found = []
    for path in Path("/proc").iterdir():
        try:
            content = (path / "cmdline").read_bytes()
        except OSError:
            continue
        if content.startswith(b"bwrap") and str(work).encode() in content and ProcessId.of(int(path.name)):
            found.append(int(path.name))
    return found


def spare_folders(root: Path) -> list[Path]:
    return list((root / "work").glob(f"*/{SPARE}*"))


async def last_event(yard, worker, spec):
    async with yard.workers.connect(worker) as link:
        return [event async for event in link.watch_attempt(spec.attempt, 1)][-1]


async def test_an_attempt_outlives_its_fork_server_and_the_next_one_gets_another(yard, until) -> None:
    fleet, spec = yard.fleet(), yard.spec("hold")
    worker = await fleet.acquire(yard.need(spec))
    async with yard.workers.connect(worker) as link:
        await link.start_attempt(spec)
    await yard.pids()
    (fork_server,) = fork_servers(yard.root)
    os.kill(fork_server, signal.SIGKILL)
    await until(lambda: not fork_servers(yard.root))
    yard.open_gate()
    assert (await last_event(yard, worker, spec)).kind is EventKind.DONE
    after = yard.spec("quick")
    async with yard.workers.connect(worker) as link:
        await link.start_attempt(after)
    assert (await last_event(yard, worker, after)).kind is EventKind.DONE


async def test_a_worker_without_work_keeps_a_fork_server_and_a_spare_and_takes_both_along(
    yard, until
) -> None:
    fleet, spec = yard.fleet(), yard.spec("quick")
    worker = await fleet.acquire(yard.need(spec))
    await until(lambda: spares(yard.root))
    assert len(fork_servers(yard.root)) == len(spares(yard.root)) == len(spare_folders(yard.root)) == 1
    await fleet.release(worker.worker_id, reusable=False)
    await until(lambda: not forked(yard.root))
    await until(lambda: not waiting_check(yard.root))


async def test_the_spare_becomes_the_attempt_and_the_next_one_gets_another(yard, until) -> None:
    fleet = yard.fleet()
    worker = await fleet.acquire(yard.need(yard.spec("quick")))
    for _ in range(2):
        await until(lambda: spares(yard.root))
        (spare,) = spares(yard.root)
        (prepared,) = spare_folders(yard.root)
        inode = prepared.stat().st_ino
        spec = yard.spec("hold")
        scratch = yard.folder(worker, spec) / "scratch"
        async with yard.workers.connect(worker) as link:
            await link.start_attempt(spec)
        attempt, *_ = await yard.pids()
        assert attempt == spare
        assert scratch.stat().st_ino == inode
        assert not spare_folders(yard.root), "nobody prepares while an attempt runs"
        yard.open_gate()
        assert (await last_event(yard, worker, spec)).kind is EventKind.DONE
        await until(lambda scratch=scratch: not scratch.exists())
        for file in ("pids", "open"):
            (yard.root / file).unlink()


async def test_an_attempt_whose_spare_was_killed_is_forked(yard, until) -> None:
    fleet, spec = yard.fleet(), yard.spec("quick")
    worker = await fleet.acquire(yard.need(spec))
    await until(lambda: spares(yard.root))
    (spare,) = spares(yard.root)
    os.kill(spare, signal.SIGKILL)
    async with yard.workers.connect(worker) as link:
        await link.start_attempt(spec)
    assert (await last_event(yard, worker, spec)).kind is EventKind.DONE
    await until(lambda: spare not in forked(yard.root))


async def test_a_spare_that_is_killed_with_the_order_in_hand_costs_no_try(yard, until) -> None:
    fleet, spec = yard.fleet(), yard.spec("quick")
    worker = await fleet.acquire(yard.need(spec))
    await until(lambda: spares(yard.root))
    (spare,), (fork_server,) = spares(yard.root), fork_servers(yard.root)
    os.kill(spare, signal.SIGSTOP)
    async with yard.workers.connect(worker) as link:
        starting = asyncio.create_task(link.start_attempt(spec))
        # Its end of the socket to the spare is closed once the order is sent.
        await until(lambda: len(sockets(fork_server)) == 1)
        os.kill(spare, signal.SIGKILL)
        await starting
    assert (await last_event(yard, worker, spec)).kind is EventKind.DONE


async def test_an_attempt_that_is_killed_leaves_nothing_of_what_was_prepared(yard, until) -> None:
    fleet, spec = yard.fleet(), yard.spec("hold")
    worker = await fleet.acquire(yard.need(spec))
    await until(lambda: spares(yard.root))
    async with yard.workers.connect(worker) as link:
        await link.start_attempt(spec)
    attempt, *_ = await yard.pids()
    stand_ins = yard.folder(worker, spec).parent / "stand-ins"
    assert [folder.name for folder in stand_ins.iterdir()] == [str(attempt)]
    os.kill(attempt, signal.SIGKILL)
    await until(lambda: not (stand_ins / str(attempt)).exists())


async def test_an_attempt_whose_prepared_folder_is_gone_makes_its_own(yard, until) -> None:
    fleet, spec = yard.fleet(), yard.spec("quick")
    worker = await fleet.acquire(yard.need(spec))
    await until(lambda: spares(yard.root))
    (prepared,) = spare_folders(yard.root)
    prepared.rename(yard.root / "elsewhere")
    async with yard.workers.connect(worker) as link:
        await link.start_attempt(spec)
    assert (await last_event(yard, worker, spec)).kind is EventKind.DONE


async def test_nothing_prepared_outlives_a_worker_that_is_killed(yard, until) -> None:
    fleet, spec = yard.fleet(), yard.spec("quick")
    worker = await fleet.acquire(yard.need(spec))
    await until(lambda: spares(yard.root))
    for pid in (yard.entry(worker).process.pid, yard.child(worker)):
        os.kill(pid, signal.SIGKILL)
    await until(lambda: not forked(yard.root))
    await until(lambda: not waiting_check(yard.root))
    await until(lambda: not spare_folders(yard.root))


@pytest.mark.parametrize("milliseconds", range(0, 32, 4))
def test_a_spare_whose_worker_goes_leaves_nothing_however_far_it_is(
    tmp_path: Path, milliseconds: int
) -> None:
    work = tmp_path / "work" / "w"
    work.mkdir(parents=True)
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    options = ("--socket", str(theirs.fileno()), "--work", str(work))
    with ours, theirs:
        fork_server = subprocess.Popen(
            [sys.executable, "-P", "-m", "gooseherd.worker.fork_server", *options],
            env={"PATH": os.environ["PATH"], "SYNC_DATA_DIR": str(tmp_path)},
            pass_fds=(theirs.fileno(),),
        )
        theirs.close()
        assert ours.recv(1000)
        time.sleep(milliseconds / 1000)
    fork_server.wait(30)
    deadline = time.monotonic() + 30
    while forked(tmp_path) or waiting_check(tmp_path) or sandboxes(work) or spare_folders(tmp_path):
        assert time.monotonic() < deadline, (forked(tmp_path), sandboxes(work), spare_folders(tmp_path))
        time.sleep(0.02)
