"""The socket that requests come in by."""

import os
import socket
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from gooseherd.domain.errors import Misconfigured
from gooseherd.serving import as_bound, listen
from gooseherd.settings import Settings


@pytest.fixture
def settings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Settings:
    for name in Settings.model_fields:
        monkeypatch.delenv(name.upper(), raising=False)
    monkeypatch.setenv("GOOSEHERD_STATE_DIR", str(tmp_path))
    monkeypatch.setenv("API_PORT", "0")
    return Settings()


def test_what_is_written_to_a_client_leaves_at_once(settings: Settings) -> None:
    with listen(settings) as listener, socket.create_connection(listener.getsockname()):
        answering, _ = listener.accept()
        with answering:
            assert answering.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


GIVEN = """
    import os, socket
    from gooseherd.serving import as_bound, listen
    from gooseherd.settings import Settings
    os.environ["LISTEN_PID"] = str(os.getpid())
    try:
        listener = listen(Settings())
    except Exception as error:
        print(error)
    else:
        print(listener.getsockname()[1], listener.get_inheritable(), "LISTEN_FDS" in os.environ)
"""


def _started_with(given: socket.socket, count: str, settings: Settings) -> str:
    """What a process says that was started with this socket as file descriptor 3."""
    put = "import os, sys; os.dup2(int(sys.argv[1]), 3, inheritable=True);"
    run = "os.execv(sys.executable, [sys.executable, '-c', sys.argv[2]])"
    environment = {
        **os.environ,
        "LISTEN_FDS": count,
        "GOOSEHERD_STATE_DIR": str(settings.gooseherd_state_dir),
    }
    fd = given.fileno()
    done = subprocess.run(
        [sys.executable, "-c", put + run, str(fd), textwrap.dedent(GIVEN)],
        pass_fds=(fd,),
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.strip()


def test_a_listening_socket_that_was_given_is_used_and_not_passed_on(settings: Settings) -> None:
    with socket.create_server(("127.0.0.1", 0)) as given:
        port = given.getsockname()[1]
        assert _started_with(given, "1", settings) == f"{port} False False"


@pytest.mark.parametrize("count", ["2", "x", ""])
def test_anything_but_one_given_socket_is_refused(settings: Settings, count: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as given:
        assert "LISTEN_FDS" in _started_with(given, count, settings)


def test_a_given_socket_that_does_not_listen_is_refused(settings: Settings) -> None:
    with socket.socket() as given:
        assert "exactly one listening" in _started_with(given, "1", settings)


@pytest.mark.parametrize(("address", "local"), [("127.0.0.1", True), ("0.0.0.0", False)])
def test_rules_for_loopback_are_for_the_address_that_the_socket_has(
    settings: Settings, address: str, local: bool
) -> None:
    """A socket that systemd opened for everybody says nothing of API_HOST, whose default is loopback."""
    with socket.create_server((address, 0)) as given:
        assert as_bound(settings, given).is_local is local


READY = """
    import asyncio, gc, os, signal
    from gooseherd.serving import serve
    from gooseherd.settings import Settings

    def ready(url):
        long_ones = gc.get_objects(generation=2)
        print(gc.get_freeze_count() > 20 * len(long_ones), gc.isenabled())
        os.kill(os.getpid(), signal.SIGTERM)

    asyncio.run(serve(Settings(), on_ready=ready))
"""


def test_collections_leave_out_what_a_service_has_when_it_is_ready(
    settings: Settings, tmp_path: Path
) -> None:
    environment = {**os.environ, "GOOSEHERD_STATE_DIR": str(tmp_path / "state"), "WORKER_MAX_LOCAL": "1"}
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(READY)],
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.stdout.split() == ["True", "True"], done.stderr


def test_an_address_that_is_taken_is_told_once(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        where = f"127.0.0.1:{taken.getsockname()[1]}"
        monkeypatch.setenv("API_PORT", where.rpartition(":")[2])
        with pytest.raises(Misconfigured) as refused:
            listen(Settings())
    assert str(refused.value) == (
        f"API_PORT: cannot listen on {where} (Address already in use); choose another (--port)"
    )
