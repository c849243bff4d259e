"""`gooseherd keys`, and what commands say when a key is missing or not enough."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from gooseherd.cli import app

PROBLEM = {"Content-Type": "application/problem+json"}
KEY: dict[str, Any] = {
    "key_id": "0123456789ab", "state": "active", "owner": "lab", "scopes": ["read", "submit"],
    "collections": ["4dn"], "label": "nightly", "created_at": "2026-05-06T07:08:09Z", "expires_at": None,
    "revoked_at": None, "last_used_at": None,
}  # fmt: skip
TEXT = f"ghk_0123456789ab_{'0' * 64}"


@pytest.fixture
def gooseherd(service: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GOOSEHERD_URL", service.url)
    monkeypatch.setenv("GOOSEHERD_STATE_DIR", str(tmp_path / "state"))
    for name in ("API_ADMIN_KEY", "GOOSEHERD_API_KEY"):
        monkeypatch.delenv(name, raising=False)

    def run(*arguments: str) -> Any:
        return CliRunner().invoke(app, arguments, prog_name="gooseherd")

    return run


def test_a_new_key_is_the_only_thing_on_standard_output(gooseherd: Any, service: Any, reply: Any) -> None:
    service.on("POST /keys", reply(201, {**KEY, "key": TEXT}))
    done = gooseherd(
        "keys",
        "create",
        "lab",
        "--collection",
        "4dn",
        "--label",
        "nightly",
        "--expires",
        "90d",
        "--key",
        "admin",
    )
    assert (done.exit_code, done.stdout) == (0, f"{TEXT}\n")
    assert "not shown again" in done.stderr
    assert json.loads(service.asked[-1].body) == {
        "owner": "lab",
        "scopes": ["read", "submit"],
        "collections": ["4dn"],
        "label": "nightly",
        "expires_in_seconds": 90 * 86400,
    }
    assert service.asked[-1].headers["Authorization"] == "Bearer admin"


def test_a_key_is_named_by_its_id_or_its_whole_text(gooseherd: Any, service: Any, reply: Any) -> None:
    service.on("DELETE /keys/0123456789ab", reply(200, {**KEY, "state": "revoked"}))
    for name in (TEXT, "0123456789ab"):
        assert gooseherd("keys", "revoke", name).exit_code == 0


def test_a_rotation_prints_the_new_key_and_says_for_how_long_the_old_one_works(
    gooseherd: Any, service: Any, reply: Any
) -> None:
    service.on("POST /keys/0123456789ab/rotate", reply(201, {**KEY, "key": TEXT}))
    assert gooseherd("keys", "rotate", "0123456789ab", "--overlap", "12h").stdout == f"{TEXT}\n"
    assert json.loads(service.asked[-1].body) == {"overlap_seconds": 12 * 3600}


def test_keys_that_have_ended_are_listed_when_asked_for(gooseherd: Any, service: Any, reply: Any) -> None:
    service.on("GET /keys", reply(200, {"keys": [KEY, {**KEY, "key_id": "ended", "state": "expired"}]}))
    assert [key["key_id"] for key in json.loads(gooseherd("keys", "ls", "--json").stdout)["keys"]] == [
        KEY["key_id"]
    ]
    assert "ended" in gooseherd("keys", "ls", "--all").stdout


def test_a_token_is_printed_as_the_url_that_has_it(gooseherd: Any, service: Any, reply: Any) -> None:
    url = "https://herd.example.org/files/4dn/f/reads.bam?token=ght_x"
    made = {"token": "ght_x", "expires_at": "2026-05-06T07:08:09Z", "resource": "4dn/f", "url": url}
    service.on("POST /tokens", reply(201, made))
    assert gooseherd("keys", "token", "4dn/f").stdout == f"{url}\n"
    assert json.loads(service.asked[-1].body) == {"file": "4dn/f"}
    gooseherd("keys", "token", "--collection", "4dn")
    assert json.loads(service.asked[-1].body) == {"collection": "4dn"}
    service.on("POST /tokens/revoke", reply(200, {"resource": "4dn/f"}))
    assert "revoked" in gooseherd("keys", "token", "4dn/f", "--revoke").stderr


@pytest.mark.parametrize(
    "arguments",
    [
        ("keys", "token"),
        ("keys", "token", "4dn/f", "--collection", "4dn"),
        ("keys", "create", "x", "--expires", "soon"),
    ],
    ids=" ".join,
)
def test_what_cannot_be_meant_is_refused(gooseherd: Any, arguments: tuple[str, ...]) -> None:
    assert gooseherd(*arguments).exit_code == 2


@pytest.mark.parametrize(
    ("status", "kind", "words"),
    [
        (401, "key-required", "gooseherd keys create"),
        (401, "admin-key-required", "gooseherd keys create"),
        (401, "invalid-credential", "show another key"),
        (403, "scope-required", "gooseherd keys whoami"),
    ],
)
def test_a_refusal_says_what_to_do(
    gooseherd: Any, service: Any, reply: Any, status: int, kind: str, words: str
) -> None:
    service.on(
        "GET /files", reply(status, {"type": f"/problems/{kind}", "title": "No", "status": status}, PROBLEM)
    )
    done = gooseherd("files", "ls")
    assert (done.exit_code, words in done.stderr) == (4, True)


def test_the_key_of_the_environment_is_sent(
    gooseherd: Any, service: Any, reply: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    who = {"credential": "key", "owner": "lab", "scopes": ["read"], "collections": ["4dn"]}
    service.on("GET /caller", reply(200, who))
    monkeypatch.setenv("API_ADMIN_KEY", "the admin's")
    monkeypatch.setenv("GOOSEHERD_API_KEY", "mine")
    done = gooseherd("keys", "whoami")
    assert service.asked[-1].headers["Authorization"] == "Bearer mine"
    assert "lab" in done.stdout
