"""Bearer tokens of a real OpenID Connect provider: npm's oidc-provider, on this machine."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import socket
import subprocess
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from gooseherd.settings import Settings
from gooseherd.wiring.identity import open_identity_provider

pytestmark = pytest.mark.integration

PROGRAM = Path(__file__).parents[2] / "servers" / "oidc"
AUDIENCE = "https://herd.example.org"


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory, needs: Any) -> Path:
    """The provider with its dependencies, which npm fetches."""
    needs("node", "npm")
    folder = tmp_path_factory.mktemp("oidc")
    for name in ("package.json", "package-lock.json", "provider.mjs"):
        shutil.copy(PROGRAM / name, folder)
    done = subprocess.run(
        ["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--no-progress"],
        cwd=folder, capture_output=True, text=True, check=False,
    )  # fmt: skip
    if done.returncode:
        needs.missing(f"npm's oidc-provider ({done.stderr[-200:]})")
    return folder


class Provider:
    """One that may be ended and started again at the same address, with other keys."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = free.getsockname()[1]
        self.issuer = f"http://127.0.0.1:{self.port}"
        self._process: subprocess.Popen[str] | None = None

    def start(self, alg: str = "RS256", key_id: str = "one") -> None:
        self._process = subprocess.Popen(
            ["node", "provider.mjs", str(self.port), alg, key_id],
            cwd=self._folder, stdout=subprocess.PIPE, text=True, start_new_session=True,
        )  # fmt: skip
        assert self._process.stdout is not None
        assert any(line == "ready\n" for line in self._process.stdout), "the provider did not start"

    def stop(self) -> None:
        if self._process is not None:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
            assert self._process.stdout is not None
            self._process.stdout.close()
            self._process = None

    def token(self, client: str = "curator", audience: str = AUDIENCE) -> str:
        form = {
            "grant_type": "client_credentials", "client_id": client, "client_secret": "secret",
            "resource": audience, "scope": "anything",
        }  # fmt: skip
        answer = httpx.post(f"{self.issuer}/token", data=form, trust_env=False)
        assert answer.status_code == 200, answer.text
        return str(answer.json()["access_token"])


@pytest.fixture
def provider(program: Path) -> Iterator[Provider]:
    made = Provider(program)
    yield made
    made.stop()


@pytest.fixture
async def town(build_town: Any, provider: Provider, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Any]:
    monkeypatch.setenv("OIDC_ISSUER", provider.issuer)
    monkeypatch.setenv("OIDC_AUDIENCE", AUDIENCE)
    monkeypatch.setenv("OIDC_GRANTS", "groups=4dn-lab:read+submit@4dn")
    monkeypatch.setenv("OIDC_ALLOW_NETWORKS", "127.0.0.0/8")
    opened = open_identity_provider(Settings())
    assert opened is not None
    identity_provider, close = opened
    yield await build_town(identity_provider=identity_provider)
    await close()


def bearer(text: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {text}"}


@pytest.mark.parametrize("alg", ["RS256", "ES256"])
async def test_who_signs_in_there_reads_what_its_groups_may(town: Any, provider: Provider, alg: str) -> None:
    await asyncio.to_thread(provider.start, alg)
    entry = await town.register(local_id="hidden", data_access_level="consortium")
    await town.publish(entry, b"secret bytes")
    curator, stranger = bearer(provider.token()), bearer(provider.token("stranger"))
    assert (await town.http.get("/caller", headers=curator)).json() == {
        "credential": "oidc", "owner": "oidc:curator", "scopes": ["read", "submit"], "collections": ["4dn"],
    }  # fmt: skip
    assert (await town.http.get(f"/data/{entry.name}", headers=curator)).content == b"secret bytes"
    assert (await town.http.get(f"/data/{entry.name}", headers=stranger)).status_code == 404
    for wrong in (provider.token(audience="https://another.example.org"), provider.token()[:-4] + "AAAA"):
        assert (await town.http.get(f"/data/{entry.name}", headers=bearer(wrong))).status_code == 401
    made = await town.http.post("/tokens", json={"file": entry.name}, headers=curator)
    assert (await town.http.get(made.json()["url"])).content == b"secret bytes"
    revoked = await town.http.post("/tokens/revoke", json={"file": entry.name}, headers=curator)
    assert revoked.status_code == 200
    assert (await town.http.get(made.json()["url"])).status_code == 401


async def test_a_provider_that_is_away_stops_nobody_else_and_comes_back_with_new_keys(
    town: Any, provider: Provider
) -> None:
    public = await town.register(local_id="open")
    await town.publish(public, b"bytes")
    provider.start()
    before = bearer(provider.token())
    assert (await town.http.get("/caller", headers=before)).status_code == 200
    provider.stop()
    assert (await town.http.get("/caller", headers=before)).status_code == 200, "its keys are known"
    assert (await town.http.get(f"/data/{public.name}")).content == b"bytes"
    admin = {"X-API-Key": "the-admin-key"}
    assert (await town.http.get("/caller", headers=admin)).json()["credential"] == "admin key"
    provider.start(key_id="two")
    town.dependencies.identity_provider._tried_at -= 60
    assert (await town.http.get("/caller", headers=bearer(provider.token()))).status_code == 200
    assert (await town.http.get("/caller", headers=before)).status_code == 401, (
        "signed by a key it has no more"
    )


async def test_without_its_keys_its_callers_are_told_to_try_again(town: Any, provider: Provider) -> None:
    header = json.dumps({"alg": "RS256", "kid": "one"})
    text = ".".join(httpx.QueryParams({"x": header})["x"].encode().hex() for _ in range(3))
    answer = await town.http.get("/caller", headers=bearer(text))
    assert answer.status_code == 503
    assert answer.headers["retry-after"]
    assert (await town.http.get("/caller")).status_code == 200
