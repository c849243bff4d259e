r"""The local cloud as a program: S3 and ECS on one loopback port, tasks as processes of this machine.

    python -m gooseherd.devcloud.server --port 4566 --state-dir .devcloud \
        --image gooseherd-worker:dev='python -m gooseherd.worker.main'

With AWS_ENDPOINT_URL=http://127.0.0.1:4566 boto3, obstore and the aws command line work as
against AWS. SIGTERM or SIGINT ends all tasks, then the server; whatever ends the server
otherwise ends the tasks with it. S3 keeps its objects as long as the server runs.

It takes requests that are signed by its access key, which it makes and keeps in `credentials` of its state
folder (AWS_SHARED_CREDENTIALS_FILE), and answers nobody else; see access_key.py.
"""

from __future__ import annotations

import argparse
import asyncio
import fcntl
import ipaddress
import logging
import logging.handlers
import os
import shlex
import shutil
import signal
import socket
import sys
import tempfile
import threading
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final

from werkzeug.serving import BaseWSGIServer, WSGIRequestHandler, make_server

from gooseherd.devcloud.access_key import AccessKey
from gooseherd.devcloud.addresses import AddressPool, own_network
from gooseherd.devcloud.app import CloudEndpoint
from gooseherd.devcloud.calls import CallCounter
from gooseherd.devcloud.cloud_configuration import CloudConfiguration
from gooseherd.devcloud.ecs import TaskApi
from gooseherd.devcloud.faults import FaultTable
from gooseherd.devcloud.pace import PACES
from gooseherd.devcloud.permissions import Permissions
from gooseherd.devcloud.services import ServiceTable
from gooseherd.devcloud.signers import Signers
from gooseherd.devcloud.task_definitions import TaskDefinitions
from gooseherd.devcloud.task_secrets import TaskSecrets
from gooseherd.devcloud.task_table import TaskTable

_log = logging.getLogger(__name__)

READY: Final = "devcloud ready "
"""The first line of standard output is this and the URL."""
_LOG_BYTES: Final = 4 << 20


class _QuietRequests(WSGIRequestHandler):
    """Requests are counted, not logged: discovery alone would write a line a second."""

    protocol_version = "HTTP/1.1"
    timeout = 75  # seconds an idle connection is kept

    def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
        _log.debug("%s %s", self.requestline, code)

    def log(self, type: str, message: str, *args: object) -> None:  # noqa: A002
        _log.info(message.rstrip(), *args)


def main(argv: Sequence[str] | None = None) -> int:
    """Run until told to stop; the exit status."""
    asked = _arguments(argv)
    state: Path = asked.state_dir.absolute()
    state.mkdir(parents=True, exist_ok=True, mode=0o700)
    lock = os.open(state / "devcloud.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        sys.stderr.write(f"devcloud: {state} is in use by another one\n")
        return 2
    _log_to(state / "devcloud.log")
    try:
        key = _access_key(state)
    except ValueError as error:
        sys.stderr.write(f"devcloud: {error}\n")
        return 2
    try:
        listener = _listen(asked.port)
    except OSError as error:
        sys.stderr.write(f"devcloud: port {asked.port}: {error.strerror}\n")
        return 2
    try:
        return asyncio.run(_serve(asked, state, listener, key))
    finally:
        os.close(lock)


def _access_key(state: Path) -> AccessKey:
    """The one that the environment names; else that of an earlier life, which its users have; else new."""
    given = AccessKey.from_env(os.environ)
    key = given or AccessKey.read(state) or AccessKey.made()
    key.write(state)
    return key


async def _serve(asked: argparse.Namespace, state: Path, listener: socket.socket, key: AccessKey) -> int:
    port: int = listener.getsockname()[1]
    pace = PACES[asked.pace]
    configuration = CloudConfiguration(
        state_dir=state,
        url=f"http://127.0.0.1:{port}",
        pace=pace if asked.scale is None else replace(pace, scale=asked.scale),
        images=dict(asked.image),
        pass_env=asked.pass_env,
        keep_stopped_seconds=asked.keep_stopped_seconds,
    )
    for left in (configuration.scratch, state / "objects"):  # of an earlier life
        shutil.rmtree(left, ignore_errors=True)
    for folder in (configuration.logs, configuration.scratch, state / "objects"):
        folder.mkdir(exist_ok=True, mode=0o700)
    # Where moto keeps objects that are larger than its buffer.
    tempfile.tempdir = str(state / "objects")

    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, _first_then_at_once, stop)
    if asked.until_eof:
        threading.Thread(target=_wait_for_eof, args=(loop, stop), daemon=True).start()

    faults = FaultTable()
    task_table = TaskTable(configuration)
    registry = TaskDefinitions()
    permissions = Permissions()
    addresses = AddressPool(asked.addresses or own_network(port))
    api = TaskApi(configuration, registry, task_table, faults, addresses, TaskSecrets(permissions))
    services = ServiceTable(configuration, registry, api)
    signers = Signers(key, permissions.may_assume)
    door = CloudEndpoint(
        loop, registry, api, task_table, faults, CallCounter(), signers, permissions, services
    )
    server = _http(listener, door)
    threading.Thread(target=server.serve_forever, name="http", daemon=True).start()
    _log.info("devcloud ready on %s", configuration.url)
    sys.stdout.write(f"{READY}{configuration.url}\n")
    sys.stdout.flush()
    _leave_pipes(state / "devcloud.out")
    await stop.wait()
    _log.info("stopping")
    await services.close()
    # Tasks end while the endpoint still answers: they may have something left to say or to store.
    await task_table.close(asked.grace_seconds)
    await asyncio.to_thread(server.shutdown)
    server.server_close()
    return 0


def _leave_pipes(path: Path) -> None:
    """Nobody reads them any more, and a library that prints must not block on a full one."""
    output = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    for pipe in (1, 2):
        os.dup2(output, pipe)
    os.close(output)


def _first_then_at_once(stop: asyncio.Event) -> None:
    if stop.is_set():
        os._exit(130)
    stop.set()


def _wait_for_eof(loop: asyncio.AbstractEventLoop, stop: asyncio.Event) -> None:
    while os.read(0, 4096):
        pass
    loop.call_soon_threadsafe(stop.set)


def _listen(port: int) -> socket.socket:
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind(("127.0.0.1", port))
        listener.listen(512)
    except BaseException:
        listener.close()
        raise
    return listener


def _http(listener: socket.socket, door: CloudEndpoint) -> BaseWSGIServer:
    return make_server(
        "127.0.0.1",
        listener.getsockname()[1],
        door,
        threaded=True,
        request_handler=_QuietRequests,
        fd=listener.fileno(),
    )


def _log_to(path: Path) -> None:
    handler = logging.handlers.RotatingFileHandler(path, maxBytes=_LOG_BYTES, backupCount=1, encoding="utf-8")
    logging.basicConfig(
        level=logging.INFO, handlers=[handler], format="%(asctime)s %(levelname)s %(name)s %(message)s"
    )


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m gooseherd.devcloud.server", description="A local cloud.")
    parser.add_argument("--port", type=int, default=4566, help="0: a free one")
    parser.add_argument("--state-dir", type=Path, required=True, help="logs and scratch folders")
    parser.add_argument(
        "--image",
        type=_image,
        action="append",
        default=[],
        metavar="NAME=COMMAND",
        help="what an image of a task definition runs; {address}, {env_file} and {task} are filled in",
    )
    parser.add_argument("--pace", choices=sorted(PACES), default="instant", help="how long states last")
    parser.add_argument("--scale", type=float, help="multiplies all times of tasks and health checks")
    parser.add_argument("--addresses", type=ipaddress.IPv4Network, help="loopback network of the tasks")
    parser.add_argument("--pass-env", action="append", default=[], metavar="NAME", help="for all containers")
    parser.add_argument("--keep-stopped-seconds", type=float, default=3600.0)
    parser.add_argument("--grace-seconds", type=float, default=5.0, help="for tasks, when the cloud stops")
    parser.add_argument("--until-eof", action="store_true", help="stop when standard input ends")
    return parser.parse_args(argv)


def _image(option: str) -> tuple[str, list[str]]:
    name, equals, command = option.partition("=")
    argv = shlex.split(command)
    if not (name and equals and argv):
        raise argparse.ArgumentTypeError("NAME=COMMAND")
    return name, argv


if __name__ == "__main__":
    sys.exit(main())
