"""Guessing the key: an address may be wrong some times a minute, and the admin is never locked out."""

from __future__ import annotations

import logging
from typing import Any

import pytest

from gooseherd.api.wrong_keys import ALLOWED, WINDOW_SECONDS, WrongKeys
from gooseherd.domain.errors import LimitReached

pytestmark = pytest.mark.integration
ADMIN = {"X-API-Key": "the-admin-key"}


async def test_many_wrong_keys_are_refused_and_the_right_one_is_not(town: Any, caplog: Any) -> None:
    caplog.set_level(logging.INFO, "gooseherd.audit")
    seen = [
        (await town.http.post("/files", json={}, headers={"X-API-Key": f"guess{number}"})).status_code
        for number in range(ALLOWED + 3)
    ]
    assert seen == [401] * ALLOWED + [429] * 3
    refused = await town.http.get("/files", headers={"X-API-Key": "guess"})
    assert refused.status_code == 429
    assert 0 < int(refused.headers["retry-after"]) <= WINDOW_SECONDS
    assert (await town.http.get("/files", headers=ADMIN)).status_code == 200
    assert (await town.http.get("/files")).status_code == 200
    refusals = [record.getMessage() for record in caplog.records if record.getMessage() != "read"]
    assert refusals == ["a key that is none"] * 2
    assert "guess" not in caplog.text


async def test_what_is_done_with_the_admin_key_is_logged(town: Any, caplog: Any) -> None:
    caplog.set_level(logging.INFO, "gooseherd.audit")
    await town.http.delete("/files/hubmap/id1", headers=ADMIN)
    (record,) = caplog.records
    assert (record.method, record.path, record.status) == ("DELETE", "/files/hubmap/id1", 404)
    assert record.address == "127.0.0.1"
    assert ADMIN["X-API-Key"] not in caplog.text


def test_a_minute_later_an_address_begins_anew_and_others_never_noticed() -> None:
    now = 0.0
    keys = WrongKeys(clock=lambda: now)
    for _ in range(ALLOWED):
        keys.note("192.0.2.1")
    with pytest.raises(LimitReached):
        keys.note("192.0.2.1")
    keys.note("192.0.2.2")
    now = WINDOW_SECONDS
    keys.note("192.0.2.1")


def test_addresses_beyond_number_are_forgotten_oldest_first() -> None:
    keys = WrongKeys(clock=lambda: 0.0)
    for _ in range(ALLOWED):
        keys.note("first")
    for number in range(10_000):
        keys.note(f"n{number}")
    keys.note("first")
