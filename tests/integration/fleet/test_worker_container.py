"""A worker as a container platform starts it: its address, its health, who may call it, and its end."""

from __future__ import annotations

import asyncio
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web

from gooseherd import certs
from gooseherd.devcloud.bootstrap import HEALTH_COMMAND
from gooseherd.domain.attempt import EventKind
from gooseherd.domain.errors import Misconfigured, WorkerLost
from gooseherd.domain.failures import Reason
from gooseherd.domain.job import WorkerId
from gooseherd.domain.ports.fleet import WorkerHandle
from gooseherd.fleet.wool_workers import WoolWorkers
from gooseherd.processes import ProcessId, session_members
from gooseherd.worker.settings import build_id
from gooseherd.worker.tls import Certificates

pytestmark = pytest.mark.integration

TLS_FILES = {"WORKER_TLS_CA": "ca.pem", "WORKER_TLS_CERT": "worker.pem", "WORKER_TLS_KEY": "worker.key"}


def free_port(host: str) -> int:
    with socket.socket() as probe:
        probe.bind((host, 0))
        return int(probe.getsockname()[1])


class TaskProcess:
    """One worker, started with an environment and nothing else."""

    def __init__(self, root: Path, environment: dict[str, str], host: str) -> None:
        self.host = host
        self.port, self.health_port = free_port(host), free_port(host)
        self.environment = {
            **environment,
            "WORKER_PORT": str(self.port),
            "WORKER_HEALTH_PORT": str(self.health_port),
            "TMPDIR": str(root),
        }
        self.log = root / "worker.log"
        with self.log.open("wb") as out:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "gooseherd.worker.main"],
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                start_new_session=True,
            )
        self.identity = ProcessId.of_child(self.process.pid)

    @property
    def handle(self) -> WorkerHandle:
        return WorkerHandle(WorkerId("task"), f"{self.host}:{self.port}")

    async def health(self) -> tuple[int, dict[str, object]]:
        """Status and body; status 0 when nothing answers."""
        try:
            async with (
                aiohttp.ClientSession() as session,
                session.get(f"http://{self.host}:{self.health_port}/health") as answer,
            ):
                return answer.status, await answer.json()
        except aiohttp.ClientConnectionError:
            return 0, {}

    async def until_health(self, code: int, **expected: object) -> dict[str, object]:
        async with asyncio.timeout(60):
            while True:
                found, body = await self.health()
                if found == code and expected.items() <= body.items():
                    return body
                assert self.process.poll() is None, self.log.read_text()
                await asyncio.sleep(0.05)

    async def exit_status(self) -> int:
        async with asyncio.timeout(60):
            return await asyncio.to_thread(self.process.wait)

    def end(self) -> None:
        if self.process.poll() is None:
            self.process.terminate()
            self.process.wait(30)


@pytest.fixture
def certificates(tmp_path: Path) -> Path:
    certs.make_all(tmp_path / "certs")
    return tmp_path / "certs"


def to_call(folder: Path, **other: str) -> Certificates:
    files = {"WORKER_TLS_CA": "ca.pem", "WORKER_TLS_CERT": "api.pem", "WORKER_TLS_KEY": "api.key", **other}
    made = Certificates.from_env({name: str(folder / file) for name, file in files.items()})
    assert made is not None
    return made


@pytest.fixture
async def start(yard, tmp_path: Path, until) -> AsyncIterator[object]:
    started: list[TaskProcess] = []

    def begin(host: str = "127.0.0.1", **environment: str) -> TaskProcess:
        folder = tmp_path / f"task-{len(started)}"
        folder.mkdir()
        everything = yard.environment(BIND_HOST=host, **environment)
        worker = TaskProcess(folder, {k: v for k, v in everything.items() if v}, host)
        started.append(worker)
        return worker

    yield begin
    for worker in started:
        await asyncio.to_thread(worker.end)
        await until(lambda worker=worker: not session_members(worker.identity), "the worker's processes end")


async def run(workers: WoolWorkers, worker: TaskProcess, spec):
    async with workers.connect(worker.handle) as link:
        await link.start_attempt(spec)
        return [event async for event in link.watch_attempt(spec.attempt, 1)]


@pytest.fixture
def texts(certificates: Path) -> dict[str, str]:
    return {name: (certificates / file).read_text() for name, file in TLS_FILES.items()}


@pytest.fixture
def runtime() -> Iterator[Path]:
    """A folder whose path is short enough for sockets."""
    with tempfile.TemporaryDirectory(prefix="t-", dir="/tmp") as folder:
        yield Path(folder)


# -- mutual TLS -----------------------------------------------------------------------------------


async def test_with_the_right_pairs_an_attempt_runs(start, yard, certificates) -> None:
    worker = start(**{name: str(certificates / file) for name, file in TLS_FILES.items()})
    await worker.until_health(200)
    workers = WoolWorkers(silence_seconds=12.0, credentials=to_call(certificates).to_call())
    events = await run(workers, worker, yard.spec("quick"))
    assert events[-1].kind is EventKind.DONE


async def test_whoever_has_not_the_right_pair_is_refused(start, yard, certificates, tmp_path) -> None:
    certs.make_all(tmp_path / "foreign")
    worker = start(**{name: str(certificates / file) for name, file in TLS_FILES.items()})
    await worker.until_health(200)
    foreign_pair = {
        "WORKER_TLS_CERT": str(tmp_path / "foreign/api.pem"),
        "WORKER_TLS_KEY": str(tmp_path / "foreign/api.key"),
    }
    callers = {
        "plain": None,
        "another CA": to_call(tmp_path / "foreign").to_call(),
        "the CA, but a pair of another": to_call(certificates, **foreign_pair).to_call(),
        "a worker's pair": to_call(
            certificates, WORKER_TLS_CERT="worker.pem", WORKER_TLS_KEY="worker.key"
        ).to_call(),
    }
    spec = yard.spec("quick")
    for who, credentials in callers.items():
        with pytest.raises(WorkerLost):
            await run(
                WoolWorkers(dispatch_seconds=3.0, answer_seconds=6.0, credentials=credentials), worker, spec
            )
        assert not (yard.root / "runs").exists(), who
    # It has not suffered: the right one is served.
    good = WoolWorkers(silence_seconds=12.0, credentials=to_call(certificates).to_call())
    assert (await run(good, worker, spec))[-1].kind is EventKind.DONE


async def test_a_server_without_the_workers_name_is_not_called(start, yard, certificates, tmp_path) -> None:
    ca = certs.Pair((certificates / "ca.pem").read_bytes(), (certificates / "ca.key").read_bytes())
    other = certs.make_leaf(ca, "else.gooseherd.internal", "serve", datetime.now(UTC))
    (certificates / "worker.pem").write_bytes(other.cert)
    (certificates / "worker.key").write_bytes(other.key)
    worker = start(**{name: str(certificates / file) for name, file in TLS_FILES.items()})
    await worker.until_health(200)
    workers = WoolWorkers(
        dispatch_seconds=20.0, answer_seconds=40.0, credentials=to_call(certificates).to_call()
    )
    with pytest.raises(WorkerLost, match="not that of a worker of ours"):
        await run(workers, worker, yard.spec("quick"))


async def test_an_open_worker_is_not_called_by_who_expects_a_certificate(start, yard, certificates) -> None:
    worker = start()
    await worker.until_health(200)
    workers = WoolWorkers(
        dispatch_seconds=20.0, answer_seconds=40.0, credentials=to_call(certificates).to_call()
    )
    with pytest.raises(WorkerLost):
        await run(workers, worker, yard.spec("quick"))


async def test_certificates_that_come_as_text_are_not_left_for_attempts(
    start, yard, certificates, texts, runtime
) -> None:
    worker = start(XDG_RUNTIME_DIR=str(runtime), **texts)
    await worker.until_health(200)
    workers = WoolWorkers(silence_seconds=12.0, credentials=to_call(certificates).to_call())
    spec = yard.spec("hold")
    async with workers.connect(worker.handle) as link:
        await link.start_attempt(spec)
        assert not [pid for pid in await yard.pids() if knows(pid, texts["WORKER_TLS_KEY"])]
        assert files_below(runtime) == []
        yard.open_gate()
        assert (await _all(link.watch_attempt(spec.attempt, 1)))[-1].kind is EventKind.DONE


def knows(pid: int, key: str) -> bool:
    return key.split("\n")[1].encode() in Path(f"/proc/{pid}/environ").read_bytes()


def files_below(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


@pytest.mark.parametrize("environment", [{}, {"WORKER_TLS_CA": "/nowhere/ca.pem"}])
async def test_an_address_others_reach_is_not_bound_without_certificates(start, environment) -> None:
    worker = start(host="0.0.0.0", **environment)
    assert await worker.exit_status() == 78
    assert "WORKER_TLS_" in worker.log.read_text()


async def test_another_build_is_refused_with_its_reason(start, yard, certificates) -> None:
    worker = start(**{name: str(certificates / file) for name, file in TLS_FILES.items()})
    await worker.until_health(200)
    workers = WoolWorkers(silence_seconds=12.0, credentials=to_call(certificates).to_call())
    async with workers.connect(worker.handle) as link:
        with pytest.raises(Misconfigured, match="build: the worker is"):
            await link.start_attempt(yard.spec("quick", build="another"))


# -- health, address and end ----------------------------------------------------------------------


async def test_health_tells_build_and_attempt_and_that_it_drains(start, yard, until) -> None:
    worker = start()
    body = await worker.until_health(200)
    assert body["build"] == build_id()
    assert body["attempt"] is None
    workers = WoolWorkers(silence_seconds=12.0)
    spec = yard.spec("hold")
    async with workers.connect(worker.handle) as link:
        await link.start_attempt(spec)
        await yard.pids()
        assert (await worker.until_health(200))["attempt"] == str(spec.attempt)
        watching = asyncio.create_task(_all(link.watch_attempt(spec.attempt, 1)))
        await until(lambda: watching.done() or (yard.root / "runs").exists())
        worker.process.send_signal(signal.SIGTERM)
        last = (await watching)[-1]
        assert last.reason is Reason.WORKER_DRAINED
    assert await worker.exit_status() == 0
    assert list(worker.log.parent.glob("gooseherd-*")) == []


@pytest.mark.slow
async def test_a_worker_past_its_lifetime_is_unhealthy_while_its_attempt_ends(start, yard) -> None:
    worker = start(WORKER_MAX_LIFETIME_SECONDS="6")
    await worker.until_health(200)
    workers = WoolWorkers(silence_seconds=12.0)
    spec = yard.spec("hold")
    async with workers.connect(worker.handle) as link:
        await link.start_attempt(spec)
        await worker.until_health(503, status="draining", attempt=str(spec.attempt))
        yard.open_gate()
        assert (await _all(link.watch_attempt(spec.attempt, 1)))[-1].kind is EventKind.DONE
    assert await worker.exit_status() == 0


@pytest.mark.slow
async def test_a_worker_whose_tools_are_missing_says_so_takes_nothing_and_ends(start, yard, tmp_path) -> None:
    few = tmp_path / "few"
    few.mkdir()
    for name in ("samtools", "tabix", "bgzip", "sort", "wc", "gzip"):
        (few / name).write_text("#!/bin/sh\nexit 0\n")
        (few / name).chmod(0o755)
    worker = start(PATH=str(few), WORKER_IDLE_TIMEOUT_SECONDS="6")
    body = await worker.until_health(503, status="broken")
    assert body["problem"] == "tools are missing: bcftools"
    with pytest.raises(WorkerLost, match=r"stopping|nothing listens"):
        await run(WoolWorkers(silence_seconds=12.0), worker, yard.spec("quick"))
    assert await worker.exit_status() == 78


async def test_a_work_folder_with_other_things_in_it_is_refused_and_left_alone(start, tmp_path) -> None:
    (tmp_path / "shared").mkdir()
    (tmp_path / "shared/results.txt").write_text("somebody's work")
    worker = start(WORKER_WORK_DIR=str(tmp_path / "shared"))
    assert await worker.exit_status() == 78
    assert "WORKER_WORK_DIR" in worker.log.read_text()
    assert (tmp_path / "shared/results.txt").read_text() == "somebody's work"


async def test_a_work_folder_that_is_there_already_and_empty_will_do(start, tmp_path) -> None:
    (tmp_path / "volume").mkdir()
    worker = start(WORKER_WORK_DIR=str(tmp_path / "volume"))
    await worker.until_health(200)


async def test_a_worker_whose_work_folder_was_taken_away_still_ends_in_order(start, tmp_path) -> None:
    worker = start(WORKER_WORK_DIR=str(tmp_path / "volume"))
    await worker.until_health(200)
    (tmp_path / "volume").rename(tmp_path / "away")  # at once: it makes folders in there all the time
    shutil.rmtree(tmp_path / "away", ignore_errors=True)
    worker.process.send_signal(signal.SIGTERM)
    assert await worker.exit_status() == 0


async def test_a_worker_that_is_told_to_stop_while_it_starts_does_not_finish_starting(
    start, tmp_path
) -> None:
    slow = "import sys, time\nif '--multiprocessing-fork' in sys.orig_argv:\n    time.sleep(600)\n"
    (tmp_path / "slow").mkdir()
    (tmp_path / "slow/sitecustomize.py").write_text(slow)
    worker = start(PYTHONPATH=str(tmp_path / "slow"))
    await worker.until_health(503, status="starting")
    worker.process.send_signal(signal.SIGTERM)
    assert await worker.exit_status() == 0


async def test_the_health_command_follows_the_port(start) -> None:
    def command(worker: TaskProcess) -> int:
        return subprocess.run(
            HEALTH_COMMAND[1:], env=worker.environment, check=False, stderr=subprocess.DEVNULL
        ).returncode

    worker = start()
    await worker.until_health(200)
    assert command(worker) == 0
    worker.process.terminate()
    await worker.exit_status()
    assert command(worker) != 0


@pytest.fixture
async def metadata() -> AsyncIterator[str]:
    """A task metadata endpoint that fails at first, as one that comes up after the task."""
    asked = 0

    async def answer(_: web.Request) -> web.Response:
        nonlocal asked
        asked += 1
        if asked == 1:
            return web.Response(status=500)
        return web.json_response(
            {"Networks": [{"NetworkMode": "awsvpc", "IPv4Addresses": ["127.0.9.7"]}], "Name": "worker"}
        )

    app = web.Application()
    app.router.add_get("/v4/token", answer)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    yield f"http://127.0.0.1:{runner.addresses[0][1]}/v4/token"
    await runner.cleanup()


async def test_without_a_named_address_the_task_binds_its_own(start, metadata) -> None:
    worker = start(host="", ECS_CONTAINER_METADATA_URI_V4=metadata)
    worker.host = "127.0.9.7"
    await worker.until_health(200)
    _, writer = await asyncio.open_connection("127.0.9.7", worker.port)
    writer.close()
    with pytest.raises(OSError):  # And no other.
        await asyncio.open_connection("127.0.0.1", worker.port)


async def _all(stream):
    return [event async for event in stream]
