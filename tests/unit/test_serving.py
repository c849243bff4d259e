"""The socket that requests come in by."""

import socket
from pathlib import Path

import pytest

from gooseherd.serving import listen
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
