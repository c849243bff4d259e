"""What is killed: API processes on one store and the local cloud, kept running by whoever watches them."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Final, TypeAlias

from tests.servers.mongod import MongoServer

from gooseherd.client.local_service import LocalService
from gooseherd.devcloud.admin_client import LocalCloudAdmin
from gooseherd.devcloud.deployment import running_local_cloud
from gooseherd.devcloud.postgres import PostgresServer
from gooseherd.trial.private_service import DidNotStart, running_service

ADMIN_KEY: Final = "the key of all"
DATABASE: Final = "campaign"
StoreServer: TypeAlias = PostgresServer | MongoServer
IDLE_SECONDS: Final = 20
MOST_RUNNING: Final = 3
"""Jobs of one requester."""
FLOOR: Final = 1
"""Idle workers kept ready."""

SETTINGS: Final = {
    "API_ADMIN_KEY": ADMIN_KEY,
    "API_TRUSTED_PROXIES": "1",
    "WORKFLOW_HEARTBEAT_SECONDS": "1",
    "WORKFLOW_STALE_SECONDS": "6",
    "WORKFLOW_FINALIZE_GRACE_SECONDS": "2",
    "WORKFLOW_TICK_SECONDS": "0.5",
    "WORKFLOW_BACKOFF_SCALE": "0.05",
    "WORKFLOW_RECONCILE_SECONDS": "5",
    "WORKFLOW_RETENTION_SECONDS": "3",
    "ARTIFACT_REMOVE_LEFTOVERS": "true",
    "WORKFLOW_MAX_RUNNING_PER_REQUESTER": str(MOST_RUNNING),
    "WORKFLOW_MAX_SESSIONS": "1",
    "WORKER_SILENCE_SECONDS": "20",
    "WORKER_IDLE_TIMEOUT_SECONDS": str(IDLE_SECONDS),
    "WORKER_ORPHAN_GRACE_SECONDS": str(2 * IDLE_SECONDS),
    "ECS_MAX_WORKERS": "5",
    "ECS_WARM_WORKERS": str(FLOOR),
    "ECS_START_TIMEOUT_SECONDS": "60",
    "ECS_WORKER_PLACEMENT": "spot_first",
    "ECS_FLEET": "campaign",
    "SOURCE_ALLOW_HTTP": "true",
    "SOURCE_ALLOW_NETWORKS": "127.0.0.1/32",
    "GOOSEHERD_LOG_LEVEL": "INFO",
}
_OURS: Final = (
    "DATABASE_URL", "DATABASE_NAME", "SYNC_DATA_DIR", "WORKFLOW_S3_BUCKET", "AWS_ENDPOINT_URL", "ECS_CLUSTER",
)  # fmt: skip


def own_environment() -> dict[str, str]:
    """This process's, without what would point a service somewhere else."""
    return {name: value for name, value in os.environ.items() if name not in _OURS}


class ApiProcess:
    """One API process, started again whenever it has ended, until `close`."""

    def __init__(self, state: Path, environment: Mapping[str, str]) -> None:
        self._state = state
        self._environment = environment
        self._service: LocalService | None = None
        self._over = threading.Event()
        self._paused = threading.Lock()
        self._chance = random.Random(str(state.name))
        self.starts = 0
        self._thread = threading.Thread(target=self._keep, name=f"keeper of {state.name}", daemon=True)
        self._thread.start()

    @property
    def url(self) -> str | None:
        """Where it answers, as far as that is known; None: it is being started."""
        service = self._service
        return service.url if service is not None else None

    def kill(self) -> bool:
        """SIGKILL; False: there is none now."""
        return self._signal(signal.SIGKILL)

    def restart(self) -> bool:
        """SIGTERM, as a deploy."""
        return self._signal(signal.SIGTERM)

    def pause(self, seconds: float) -> bool:
        """SIGSTOP, SIGCONT after that time."""
        with self._paused:
            if not self._signal(signal.SIGSTOP):
                return False
            time.sleep(seconds)
            self._signal(signal.SIGCONT)
            return True

    def close(self) -> None:
        """End it in order and start it no more."""
        self._over.set()
        self._thread.join(120)

    def _signal(self, number: signal.Signals) -> bool:
        service = self._service
        with suppress(ProcessLookupError):
            if service is not None:
                os.kill(service.pid, number)
                return True
        return False

    def _keep(self) -> None:
        while not self._over.is_set():
            try:
                with running_service(
                    state_dir=self._state, allow_roots=(), environ=self._environment
                ) as service:
                    self._service, self.starts = service, self.starts + 1
                    while not self._over.wait(0.05) and _runs(service.pid):
                        pass
                    self._service = None
            except DidNotStart:
                pass  # The store is away just now.
            finally:
                self._service = None
            self._over.wait(self._chance.uniform(0.0, 2.0))


def _runs(pid: int) -> bool:
    """False for one that has ended, also while its parent has not taken notice."""
    try:
        return Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()[0] != b"Z"
    except (OSError, IndexError):
        return False


class Deployment:
    """API processes, a store and a local cloud with an admin client."""

    def __init__(
        self,
        environment: dict[str, str],
        cloud: LocalCloudAdmin,
        store: StoreServer | None,
        folder: Path,
        processes: int,
    ) -> None:
        self.environment = environment
        self.cloud = cloud
        self.store = store
        self.folder = folder
        self.api = [ApiProcess(folder / f"api{number}", environment) for number in range(processes)]

    @property
    def database_url(self) -> str:
        return self.environment["DATABASE_URL"]

    def urls(self) -> Sequence[str]:
        """Of the API processes that are there now."""
        return [url for process in self.api if (url := process.url) is not None]

    def running_tasks(self) -> list[str]:
        """Ids of tasks whose containers run."""
        return [task["id"] for task in self.cloud.tasks() if task["status"] == "RUNNING"]

    def worker_processes(self, of_task: str | None = None) -> list[int]:
        """The containers' processes, of one task or of all, and what they have started."""
        roots = self._containers(of_task)
        parents = dict(_parents())
        return sorted(pid for pid in parents if _is_below(pid, roots, parents))

    def below_workers(self) -> list[int]:
        """What the containers of all tasks have started."""
        return sorted(set(self.worker_processes()) - self._containers(None))

    def _containers(self, of_task: str | None) -> set[int]:
        tasks = [task for task in self.cloud.tasks() if of_task in (None, task["id"])]
        return {pid for task in tasks for pid in task.get("pids", ())}

    def end_floor(self) -> None:
        """Every API process starts anew, and keeps no idle workers ready any more."""
        self.environment["ECS_WARM_WORKERS"] = "0"
        for process in self.api:
            while not process.restart():
                time.sleep(0.1)

    def close_api(self) -> None:
        """End all API processes in order."""
        closing = [threading.Thread(target=process.close) for process in self.api]
        for thread in closing:
            thread.start()
        for thread in closing:
            thread.join()


def _parents() -> Iterator[tuple[int, int]]:
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with suppress(OSError, IndexError, ValueError):
                fields = (entry / "stat").read_bytes().rpartition(b")")[2].split()
                if fields[0] != b"Z":
                    yield int(entry.name), int(fields[1])


def _is_below(pid: int, roots: set[int], parents: Mapping[int, int]) -> bool:
    while pid in parents:
        if pid in roots:
            return True
        pid = parents[pid]
    return False


def _marks(pid: int) -> tuple[bytes, bytes]:
    """Its command line, and that with its environment and folder; empty: it has ended."""
    entry = Path(f"/proc/{pid}")
    try:
        command = (entry / "cmdline").read_bytes()
        return command, command + (entry / "environ").read_bytes() + os.fsencode((entry / "cwd").readlink())
    except OSError:
        return b"", b""


def is_of(folder: Path, pid: int) -> bool:
    """Whether that process is there, and has that folder in arguments or environment or works in it."""
    return os.fsencode(folder) in _marks(pid)[1]


def processes_of(folder: Path) -> list[str]:
    """What has that folder in arguments or environment or works in it; not the cloud, not our parents."""
    mark, found, parents = str(folder).encode(), [], dict(_parents())
    started_us, pid = set(), os.getpid()
    while pid:
        started_us.add(pid)
        pid = parents.get(pid, 0)
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit() or int(entry.name) in started_us:
            continue
        command, marks = _marks(int(entry.name))
        if mark in marks and b"gooseherd.devcloud" not in command:
            found.append(f"{entry.name} {command.replace(bytes(1), b' ').decode(errors='replace')[:100]}")
    return found


@contextmanager
def deployed(folder: Path, *, store: str, processes: int) -> Iterator[Deployment]:
    """All of it on fresh folders below `folder`; at the end nothing of it runs any more.

    `store` is postgresql or mongodb, which can be killed, or sqlite.
    """
    with ExitStack() as stack:
        server: StoreServer | None = None
        if store == "postgresql":
            server = PostgresServer(folder=None)
            stack.callback(server.stop)
            server.start()
            server.sql(f"CREATE DATABASE {DATABASE}")
            url = server.url(DATABASE)
        elif store == "mongodb":
            # Not below `folder`: whatever works there at the end was left behind.
            server = MongoServer(Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="mongod-"))))
            stack.callback(server.stop)
            server.start()
            url = server.bare_url
        else:
            url = f"sqlite:///{folder}/store.sqlite"
        cloud_environment = stack.enter_context(running_local_cloud(folder))
        cloud = stack.enter_context(LocalCloudAdmin.of(cloud_environment))
        of_store = {"DATABASE_URL": url, "DATABASE_NAME": DATABASE}
        environment = {**own_environment(), **cloud_environment, **SETTINGS, **of_store}
        deployment = Deployment(environment, cloud, server, folder, processes)
        stack.callback(deployment.close_api)
        yield deployment


def signal_process(pid: int, number: signal.Signals) -> bool:
    """False: it has ended."""
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return False
    return True


def pause_processes(pids: Sequence[int], seconds: float) -> bool:
    """SIGSTOP to all, SIGCONT after that time."""
    stopped = [pid for pid in pids if signal_process(pid, signal.SIGSTOP)]
    time.sleep(seconds)
    for pid in stopped:
        signal_process(pid, signal.SIGCONT)
    return bool(stopped)


def store_processes(store: StoreServer) -> list[int]:
    """The server and its children."""
    if store.pid is None:
        return []
    listed = subprocess.run(
        ["ps", "-o", "pid=", "--ppid", str(store.pid)], capture_output=True, text=True, check=False
    )
    return [store.pid, *map(int, listed.stdout.split())]
