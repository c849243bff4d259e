"""The service of this machine is known by its state folder, however its address is spelled."""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import closing
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from gooseherd.cli import app
from gooseherd.client import AsyncGooseherdClient, GooseherdClient, NotReachable
from gooseherd.client.local_service import find_local, find_local_at
from gooseherd.processes import ProcessId
from gooseherd.statedir import StateDir


@pytest.fixture
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[StateDir]:
    for name in ("API_ADMIN_KEY", "GOOSEHERD_API_KEY", "GOOSEHERD_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("GOOSEHERD_STATE_DIR", str(tmp_path / "state"))
    with StateDir(tmp_path / "state") as folder:
        folder.remembered("admin-key", lambda: "secret")
        yield folder


class Strangers(ThreadingHTTPServer):
    """Another program of this machine, at the same port of the other loopback address."""

    address_family = socket.AF_INET6
    daemon_threads = True

    def __init__(self, port: int) -> None:
        super().__init__(("::1", port), _Respond)
        self.keys: list[str | None] = []


class _Respond(BaseHTTPRequestHandler):
    server: Strangers

    def log_message(self, *args: object) -> None:
        pass

    def do_GET(self) -> None:
        self.server.keys.append(self.headers.get("Authorization"))
        self.send_response(404)
        self.send_header("Content-Length", "0")
        self.end_headers()


@pytest.fixture
def stranger(service: Any) -> Iterator[Strangers]:
    try:
        server = Strangers(service.server_address[1])
    except OSError as error:
        pytest.skip(f"no second loopback address here: {error}")
    with server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def files_ls(url: str | None = None) -> Any:
    return CliRunner().invoke(app, ["files", "ls", *(("--url", url) if url else ())], prog_name="gooseherd")


@pytest.mark.parametrize("spelled", ["http://localhost:{}", "http://127.0.0.1:{}/", "HTTP://LocalHost:{}/"])
def test_however_the_address_is_spelled_the_key_of_its_folder_is_used(
    state: StateDir, service: Any, reply: Any, monkeypatch: pytest.MonkeyPatch, spelled: str
) -> None:
    state.announce(service.url, "embedded")
    service.on("GET /files", reply(200, {"files": [], "next": None}))
    address = spelled.format(service.server_address[1])
    monkeypatch.setenv("GOOSEHERD_URL", address)
    assert files_ls().exit_code == 0
    assert service.asked[-1].headers["Authorization"] == "Bearer secret"
    assert files_ls(address).exit_code == 0
    assert service.asked[-1].headers["Authorization"] == "Bearer secret"
    with GooseherdClient() as client:
        assert list(client.files()) == []
    assert service.asked[-1].headers["Authorization"] == "Bearer secret"
    with GooseherdClient(address) as client:  # what a program names gets what the program gives
        assert client.endpoint.api_key is None


def test_a_program_at_the_other_loopback_address_never_gets_the_key(
    state: StateDir, service: Any, reply: Any, stranger: Strangers
) -> None:
    state.announce(service.url, "embedded")
    service.on("GET /files", reply(200, {"files": [], "next": None}))
    port = service.server_address[1]
    for _ in range(3):
        assert files_ls(f"http://localhost:{port}").exit_code == 0
    assert len(service.asked) == 3
    files_ls(f"http://[::1]:{port}")
    assert (len(service.asked), set(stranger.keys)) == (3, {None})


async def test_who_listens_where_the_service_was_gets_no_key(
    state: StateDir, service: Any, reply: Any
) -> None:
    """A client may live for days; once the service has ended the port is anybody's."""
    state.announce(service.url, "embedded")
    service.on("GET /files", reply(200, {"files": [], "next": None}))
    async with AsyncGooseherdClient() as later:
        with GooseherdClient() as client:
            assert list(client.files()) == []
            assert service.asked[-1].headers["Authorization"] == "Bearer secret"
            asked = len(service.asked)
            state.withdraw()
            with pytest.raises(NotReachable, match="the service that ran here has ended"):
                list(client.files())
            with pytest.raises(NotReachable, match="the service that ran here has ended"):
                [entry async for entry in later.files()]
            assert len(service.asked) == asked
            state.announce(service.url, "embedded")  # started again
            assert list(client.files()) == []
            assert [entry async for entry in later.files()] == []
            assert service.asked[-1].headers["Authorization"] == "Bearer secret"


def test_a_key_that_is_given_goes_where_it_was_told_to(
    state: StateDir, service: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    state.announce(service.url, "embedded")
    named = f"http://localhost:{service.server_address[1]}"
    monkeypatch.setenv("GOOSEHERD_URL", named)
    monkeypatch.setenv("GOOSEHERD_API_KEY", "ghk_1")
    with GooseherdClient() as client:
        assert (client.base_url, client.endpoint.api_key) == (named, "ghk_1")


@pytest.mark.parametrize(
    ("announced", "own", "others"),
    [
        ("http://127.0.0.1:81", "localhost:81 127.0.0.1:81", "[::1]:81 127.0.0.2:81 localhost 127.0.0.1:80"),
        ("http://[::1]:81", "localhost:81 [::1]:81 [0:0:0:0:0:0:0:1]:81", "127.0.0.1:81 [::2]:81"),
        ("http://0.0.0.0:81", "localhost:81 127.0.0.1:81 0.0.0.0:81 [::ffff:127.0.0.1]:81", "[::1]:81"),
        ("http://[::]:81", "localhost:81 [::1]:81 [::]:81", "127.0.0.1:81"),
        ("http://127.0.0.1:80", "localhost 127.0.0.1 localhost:80", "localhost:8080"),
        ("http://10.1.2.3:81", "10.1.2.3:81", "localhost:81 10.1.2.4:81 10.1.2.3.example.org:81"),
    ],
)  # fmt: skip
def test_which_addresses_are_the_services(state: StateDir, announced: str, own: str, others: str) -> None:
    state.announce(announced, "embedded")
    for address in own.split():
        assert find_local_at(f"http://{address}", state.path), address
        for other in (
            f"https://{address}",
            f"http://{address}/below",
            f"http://me@{address}",
            f"ftp://{address}",
        ):
            assert not find_local_at(other, state.path), other
    for address in (*others.split(), "localhost:99999", "localhost:x", "[::1", ""):
        assert not find_local_at(f"http://{address}", state.path), address


def test_a_service_on_all_addresses_is_asked_over_loopback(state: StateDir) -> None:
    """Through a proxy of the environment it is not: that would have the key."""
    state.announce("http://0.0.0.0:81", "embedded")
    with GooseherdClient() as client:
        assert client.endpoint.options()["trust_env"] is False
        assert client.base_url == "http://127.0.0.1:81"


def test_a_pid_that_another_process_got_is_no_service(state: StateDir, service: Any) -> None:
    state.announce(service.url, "embedded")
    assert find_local(state.path) is not None
    path = state.path / "server.json"
    record = json.loads(path.read_text())
    record["process"]["started"] -= 1
    path.write_text(json.dumps(record))
    assert find_local(state.path) is None
    files_ls(service.url)
    assert "Authorization" not in service.asked[-1].headers


@pytest.mark.skipif(os.geteuid() != 0, reason="files of other users are made by root")
def test_who_else_may_write_to_the_folder_gets_no_key(state: StateDir, service: Any) -> None:
    """With a folder of a group, each of its members could announce a service of their own."""
    state.announce(service.url, "embedded")
    os.chown(state.path / "server.json", 65534, -1)
    found = find_local(state.path)
    assert found is not None
    assert found.admin_key is None
    files_ls()
    assert "Authorization" not in service.asked[-1].headers
    os.chown(state.path / "server.json", 0, -1)
    with GooseherdClient() as client:
        os.chown(state.path / "server.json", 65534, -1)
        with pytest.raises(NotReachable):
            list(client.files())
    os.chown(state.path / "admin-key", 65534, -1)
    found = find_local(state.path)
    assert found is not None
    assert found.admin_key == "secret"


def test_what_an_older_service_announced_is_found(state: StateDir) -> None:
    record = {"url": "http://127.0.0.1:81", "pid": os.getpid(), "profile": "embedded"}
    (state.path / "server.json").write_text(json.dumps(record))
    assert find_local(state.path) is not None
    with subprocess.Popen(
        [sys.executable, "-c", "import sys; sys.stdin.read()"], stdin=subprocess.PIPE
    ) as child:
        (state.path / "server.json").write_text(json.dumps({**record, "pid": child.pid}))
        assert find_local(state.path) is not None
        child.communicate()
    assert find_local(state.path) is None


def test_what_is_announced_holds_until_it_is_withdrawn(state: StateDir) -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as listener:
        state.announce(f"http://127.0.0.1:{listener.getsockname()[1]}", "embedded")
        found = find_local(state.path)
        assert found is not None
        assert (found.pid, found.admin_key, ProcessId.of(found.pid) is not None) == (
            os.getpid(),
            "secret",
            True,
        )
        state.withdraw()
        state.withdraw()
        assert find_local(state.path) is None


async def test_a_client_of_a_relative_state_folder_goes_on_when_the_program_changes_its_folder(
    state: StateDir, service: Any, reply: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    state.announce(service.url, "embedded")
    service.on("GET /files", reply(200, {"files": [], "next": None}))
    monkeypatch.chdir(state.path.parent)
    monkeypatch.setenv("GOOSEHERD_STATE_DIR", state.path.name)
    async with AsyncGooseherdClient() as later:
        with GooseherdClient() as client:
            monkeypatch.chdir("/")
            assert list(client.files()) == []
            assert [entry async for entry in later.files()] == []
    assert service.asked[-1].headers["Authorization"] == "Bearer secret"


_CAN_READ = ["--inh-caps=+dac_read_search", "--ambient-caps=+dac_read_search"]
"""Files of this test's folders, and has no further right to processes of others."""
_FIND = """
import sys, pathlib, gooseherd.client.local_service
found = gooseherd.client.local_service.find_local(pathlib.Path(sys.argv[1]))
print(found and (found.pid, found.admin_key))
"""


def _as_nobody(hidepid: int, *command: str) -> str:
    """What the command prints for another user, with a /proc of its own that hides so much from it."""
    mounted = f'mount -t proc -o hidepid={hidepid} proc /proc && exec "$@"'
    nobody = ["setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups", *_CAN_READ]
    full = ["unshare", "--mount", "sh", "-c", mounted, "sh", *nobody, *command]
    return subprocess.run(full, check=True, capture_output=True, text=True, timeout=60).stdout.strip()


@pytest.fixture(scope="module")
def hidepid() -> None:
    """Skip where processes cannot be hidden from another user."""
    # Before 5.8 the option would be that of each /proc of the machine (proc(5)).
    if tuple(map(int, re.findall(r"\d+", os.uname().release)[:2])) < (5, 8):
        pytest.skip("the kernel has one /proc for all")
    look = ("sh", "-c", f"test -e /proc/{os.getpid()} || echo hidden")
    try:
        found = [_as_nobody(number, *look) for number in (0, 2)]
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"a file system of processes cannot be mounted here: {error}")
    if found != ["", "hidden"]:
        pytest.skip("the kernel does not hide processes here")


@pytest.mark.usefixtures("hidepid")
def test_the_service_of_another_user_whose_processes_are_hidden_is_found_without_its_key(
    state: StateDir,
) -> None:
    state.announce("http://127.0.0.1:81", "embedded")
    find = [sys.executable, "-c", _FIND, str(state.path)]
    assert _as_nobody(0, *find) == str((os.getpid(), "secret"))
    for number in (1, 2):
        assert _as_nobody(number, *find) == str((os.getpid(), None))


@pytest.mark.usefixtures("hidepid")
@pytest.mark.parametrize("gone", ["ended", "before this boot"])
def test_what_has_ended_is_not_taken_for_hidden(state: StateDir, gone: str) -> None:
    state.announce("http://127.0.0.1:81", "embedded")
    path = state.path / "server.json"
    record = json.loads(path.read_text())
    if gone == "ended":
        with subprocess.Popen(["true"]) as child:
            child.wait()
        record["pid"] = record["process"]["pid"] = child.pid
    else:
        record["process"]["boot"] = "another"
    path.write_text(json.dumps(record))
    assert _as_nobody(2, sys.executable, "-c", _FIND, str(state.path)) == "None"
