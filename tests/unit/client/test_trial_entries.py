"""A trial's catalog entries are taken out again, however the trial ends."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from gooseherd.client import GooseherdClient
from gooseherd.trial.checks import CheckFailed
from gooseherd.trial.entries import Entries


@pytest.fixture
def catalog(service: Any, reply: Any) -> Any:
    service.on("POST /files", reply(200, {"imported": 1, "new": 1}))
    for name in ("a", "b"):
        service.on(f"DELETE /files/trial/{name}", reply(200, {"dcc": "trial", "local_id": name}))
    return service


def calls(service: Any) -> list[str]:
    return [f"{asked.method} {asked.path}" for asked in service.asked]


def entry(name: str) -> dict[str, str]:
    return {"dcc": "trial", "local_id": name}


def test_what_a_block_registered_is_removed_at_its_end(catalog: Any, client: GooseherdClient) -> None:
    with Entries(client, print) as entries:
        entries.register(entry("a"))
        entries.register(entry("b"))
        assert calls(catalog) == ["POST /files"] * 2
    assert calls(catalog)[2:] == ["DELETE /files/trial/a", "DELETE /files/trial/b"]
    entries.close()
    assert len(calls(catalog)) == 4


def test_an_interrupted_block_removes_as_well(catalog: Any, client: GooseherdClient) -> None:
    with pytest.raises(KeyboardInterrupt), Entries(client, print) as entries:
        entries.register(entry("a"))
        raise KeyboardInterrupt
    assert calls(catalog)[-1] == "DELETE /files/trial/a"


def test_nothing_is_registered_after_the_end(catalog: Any, client: GooseherdClient) -> None:
    with Entries(client, print) as entries:
        pass
    with pytest.raises(CheckFailed, match="interrupted"):
        entries.register(entry("a"))
    assert calls(catalog) == []


def test_a_registration_under_way_is_waited_for(service: Any, reply: Any, client: GooseherdClient) -> None:
    arrived, go = threading.Event(), threading.Event()
    answer = service.answer

    def slowly(asked: Any) -> Any:
        if asked.method == "POST":
            arrived.set()
            go.wait(20)
        return answer(asked)

    service.answer = slowly
    service.on("POST /files", reply(200, {}))
    service.on("DELETE /files/trial/a", reply(200, {}))
    entries = Entries(client, print)
    registering = threading.Thread(target=entries.register, args=(entry("a"),))
    registering.start()
    assert arrived.wait(20)
    closing = threading.Thread(target=entries.close)
    closing.start()
    go.set()
    registering.join(20)
    closing.join(20)
    assert calls(service) == ["POST /files", "DELETE /files/trial/a"]


def test_an_entry_that_cannot_be_removed_is_named_and_the_others_go(
    catalog: Any, reply: Any, client: GooseherdClient
) -> None:
    words: list[str] = []
    catalog.on("DELETE /files/trial/a", reply(401, {"title": "T", "detail": "no key"}))
    with Entries(client, words.append) as entries:
        entries.register(entry("a"))
        entries.register(entry("b"))
    assert words == ["trial/a stays in the catalog: no key"]
    assert calls(catalog)[-1] == "DELETE /files/trial/b"


def test_what_is_to_be_kept_is_kept(catalog: Any, client: GooseherdClient) -> None:
    with Entries(client, print, keep=True) as entries:
        entries.register(entry("a"))
    assert calls(catalog) == ["POST /files"]
