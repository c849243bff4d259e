"""A database that is elsewhere: verified by its certificate, as a stack's DATABASE_URL says."""

from __future__ import annotations

import os
import shutil
import socket
import tempfile
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from pwd import getpwnam
from typing import Any

import pytest

from gooseherd import certs
from gooseherd.devcloud.postgres import USER, PostgresServer
from gooseherd.domain.errors import Misconfigured, StoreUnavailable
from gooseherd.settings import Settings
from gooseherd.wiring.store import examine_store

pytestmark = pytest.mark.integration
NAME = "localhost"


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


@pytest.fixture(scope="module")
def ca() -> certs.Pair:
    return certs.make_ca(datetime.now(UTC))


@pytest.fixture(scope="module")
def port(ca: certs.Pair, needs: Any) -> Iterator[int]:
    folder = Path(tempfile.mkdtemp(prefix="gooseherd-tls-"))  # the server's user has to reach it
    folder.chmod(0o755)
    pair = certs.make_leaf(ca, NAME, "serve", datetime.now(UTC))
    (folder / "cert").write_bytes(pair.cert)
    certs.write_private(folder / "key", pair.key)
    if os.geteuid() == 0:
        user = next(user for user in map(_user, ("postgres", "nobody")) if user is not None)
        os.chown(folder / "key", *user)
    port = free_port()
    options = {
        "listen_addresses": "127.0.0.1",
        "port": str(port),
        "ssl": "on",
        "ssl_cert_file": f"{folder}/cert",
        "ssl_key_file": f"{folder}/key",
    }
    server = PostgresServer(durable=False, options=options)
    try:
        try:
            server.start()
        except Misconfigured as error:
            if "SSL is not supported" not in str(error):
                raise
            needs.missing("a PostgreSQL that was built with TLS (Debian's; the wheel's is not)")
        yield port
    finally:
        server.stop()
        shutil.rmtree(folder)


def _user(name: str) -> tuple[int, int] | None:
    try:
        found = getpwnam(name)
    except KeyError:
        return None
    return found.pw_uid, found.pw_gid


def settings(port: int, options: str, host: str = NAME) -> Settings:
    return Settings(database_url=f"postgresql://{USER}@{host}:{port}/postgres?{options}")


async def test_a_server_with_a_certificate_of_the_named_ca_for_its_name_is_believed(
    port: int, ca: certs.Pair, tmp_path: Path
) -> None:
    (tmp_path / "ca.pem").write_bytes(ca.cert)
    found = await examine_store(settings(port, f"sslmode=verify-full&sslrootcert={tmp_path}/ca.pem"))
    assert found.product == "PostgreSQL"
    assert not [danger for danger in found.dangers if "sslmode" in danger.what]


async def test_a_server_of_another_ca_or_of_another_name_is_not(
    port: int, ca: certs.Pair, tmp_path: Path
) -> None:
    (tmp_path / "ca.pem").write_bytes(ca.cert)
    (tmp_path / "other.pem").write_bytes(certs.make_ca(datetime.now(UTC)).cert)
    for file, host in (("other.pem", NAME), ("ca.pem", "127.0.0.1")):
        with pytest.raises((StoreUnavailable, Misconfigured)):
            await examine_store(
                settings(port, f"sslmode=verify-full&sslrootcert={tmp_path}/{file}", host=host)
            )


async def test_the_file_that_images_carry_believes_no_other_server(port: int) -> None:
    file = Path(__file__).parents[2] / "deploy" / "rds-ca.pem"
    with pytest.raises((StoreUnavailable, Misconfigured)):
        await examine_store(settings(port, f"sslmode=verify-full&sslrootcert={file}"))


async def test_what_verifies_nothing_is_reported(port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    # The one name of this machine that does not say so.
    monkeypatch.setattr("gooseherd.store.report._is_here", lambda host: host != NAME)
    found = await examine_store(settings(port, "sslmode=require"))
    assert any("sslmode=require" in danger.what for danger in found.dangers)
