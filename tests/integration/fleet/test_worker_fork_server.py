"""Attempts are forked from a fork server; they must not depend on it afterwards."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from gooseherd.domain.attempt import EventKind
from gooseherd.processes import ProcessId

pytestmark = pytest.mark.integration


def templates(root: Path) -> list[int]:
    """Live templates of workers below `root`; an attempt has the same command line, but a name of its own."""
    found = []
    for path in Path("/proc").iterdir():
        if not path.name.isdigit():
            continue
        try:
            content = (path / "cmdline").read_bytes().split(b"\0")
            named = (path / "comm").read_text().strip()
        except OSError:
            continue
        ours = any(word.startswith(str(root).encode()) for word in content)
        if ours and b"gooseherd.worker.fork_server" in content and named != "attempt":
            found.append(int(path.name))
    return [pid for pid in found if ProcessId.of(pid)]


async def last_event(yard, worker, spec):
    async with yard.workers.connect(worker) as link:
        return [event async for event in link.watch_attempt(spec.attempt, 1)][-1]


async def test_an_attempt_outlives_its_template_and_the_next_one_gets_another(yard, until) -> None:
    fleet, spec = yard.fleet(), yard.spec("hold")
    worker = await fleet.acquire(yard.need(spec))
    async with yard.workers.connect(worker) as link:
        await link.start_attempt(spec)
    await yard.pids()
    (template,) = templates(yard.root)
    os.kill(template, signal.SIGKILL)
    await until(lambda: not templates(yard.root))
    yard.open_gate()
    assert (await last_event(yard, worker, spec)).kind is EventKind.DONE
    after = yard.spec("quick")
    async with yard.workers.connect(worker) as link:
        await link.start_attempt(after)
    assert (await last_event(yard, worker, after)).kind is EventKind.DONE


async def test_a_worker_without_work_keeps_one_template_and_takes_it_along(yard, until) -> None:
    fleet, spec = yard.fleet(), yard.spec("quick")
    worker = await fleet.acquire(yard.need(spec))
    assert len(templates(yard.root)) == 1
    await fleet.release(worker.worker_id, reusable=False)
    await until(lambda: not templates(yard.root))
