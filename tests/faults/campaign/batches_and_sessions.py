"""A client that asks for batches of new files and for sessions, and repeats what was not answered."""

from __future__ import annotations

import random
import threading
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final, Protocol

import httpx
from tests.faults.campaign.deployment import ADMIN_KEY, Deployment

if TYPE_CHECKING:
    from collections import Counter, OrderedDict

ADMIN: Final = {"X-API-Key": ADMIN_KEY}
BATCH_ADDRESS: Final = "192.0.2.99"
"""Who asks for batches, as a proxy in front sees it; nobody else comes from there."""
_SESSION_SECONDS: Final = (2.0, 10.0)
"""How long a session may be idle."""
_PAUSE_SECONDS: Final = (0.5, 4.0)
_BATCH_FILES: Final = (2, 8)
_KNOWN_TOO: Final = 0.2
"""Of the files of a batch: others have asked for them, too."""
_OPEN_BATCHES: Final = 4
"""More are not asked for."""
_ASKED_AGAIN: Final = 0.4
"""Of the batches: once more with the same Idempotency-Key, although the answer came."""
_CALL_SECONDS: Final = 15.0


class Registering(Protocol):
    """Where files come from, and where answers are counted."""

    entries: OrderedDict[str, dict[str, Any]]
    answers_to_calls: Counter[str]
    unexpected: list[str]

    def register(self, http: httpx.Client, url: str, *, for_batch: bool = False) -> str | None: ...

    def expect(self, response: httpx.Response, *statuses: int) -> None: ...


class BatchesAndSessions:
    """What it was told is to be read afterwards."""

    def __init__(
        self,
        deployment: Deployment,
        requesters: Registering,
        chance: random.Random,
        owners: Sequence[str],
        over: threading.Event,
        *,
        cancelling: bool = True,
    ) -> None:
        """Sessions are for one of `owners`, who ask for files, or for somebody who does not."""
        self._cancelling = cancelling
        self._deployment = deployment
        self._requesters = requesters
        self._chance = chance
        self._owners = (*owners, "anne")
        self._over = over
        self.batches: dict[str, str | None] = {}
        """By Idempotency-Key; None: every answer was lost."""
        self._open: set[str] = set()
        self.cancelled: set[str] = set()
        """Batches that were to be cancelled."""
        self.repeated = 0
        """Times that a key was sent again."""
        self.sessions = 0
        """That were opened."""
        self.reasons: dict[str, str] = {}
        """Of each session that was seen with a reason to end: the first."""

    def run(self) -> None:
        """Until it is over."""
        with (
            httpx.Client(timeout=_CALL_SECONDS, trust_env=False, headers=ADMIN) as admin,
            httpx.Client(
                timeout=_CALL_SECONDS, trust_env=False, headers={"X-Forwarded-For": BATCH_ADDRESS}
            ) as http,
        ):
            while not self._over.wait(self._chance.uniform(*_PAUSE_SECONDS)):
                if urls := self._deployment.urls():
                    url = self._chance.choice(urls)
                    try:
                        if self._chance.random() < 0.5:
                            self._act_on_sessions(admin, url)
                        else:
                            self._act_on_batches(http, url)
                    except httpx.HTTPError as error:
                        self._requesters.answers_to_calls[type(error).__name__] += 1

    # -- sessions ----------------------------------------------------------------------------

    def _act_on_sessions(self, admin: httpx.Client, url: str) -> None:
        chance, expect = self._chance, self._requesters.expect
        if chance.random() < 0.6:
            wanted = {
                "owner": chance.choice(self._owners),
                "idle_seconds": chance.uniform(*_SESSION_SECONDS),
                "max_age_seconds": 60,
            }
            response = admin.post(f"{url}/sessions", json=wanted)
            self.sessions += response.status_code == 201
            expect(response, 200, 201, 429, 503)
            return
        response = admin.get(f"{url}/sessions", params={"ended": True})
        expect(response, 200, 503)
        if response.status_code != 200:
            return
        sessions = response.json()["sessions"]
        for session in sessions:
            if session["reason"] is not None:
                self.note_reason(session["session_id"], session["reason"])
        live = [session["session_id"] for session in sessions if session["state"] != "ended"]
        if live and chance.random() < 0.5:
            # Also one that is ending for another reason already.
            expect(admin.delete(f"{url}/sessions/{chance.choice(live)}"), 202, 404, 503)

    def note_reason(self, session: str, reason: str) -> None:
        """The first one stands."""
        first = self.reasons.setdefault(session, reason)
        if reason != first:
            self._requesters.unexpected.append(
                f"session {session}: it ended as {first}, and then as {reason}"
            )

    # -- batches -----------------------------------------------------------------------------

    def _act_on_batches(self, http: httpx.Client, url: str) -> None:
        chance, expect = self._chance, self._requesters.expect
        for batch in sorted(self._open):
            response = http.get(f"{url}/batches/{batch}")
            expect(response, 200, 503)
            if response.status_code == 200 and response.json()["status"] != "active":
                self._open.discard(batch)
        if self._cancelling and self._open and chance.random() < 0.2:
            batch = chance.choice(sorted(self._open))
            self.cancelled.add(batch)
            expect(http.delete(f"{url}/batches/{batch}"), 200, 503)
        elif len(self._open) < _OPEN_BATCHES:
            self._ask_for_batch(http, url)

    def _ask_for_batch(self, http: httpx.Client, url: str) -> None:
        chance, files = self._chance, []
        known = list(self._requesters.entries)
        for _ in range(chance.randint(*_BATCH_FILES)):
            if known and chance.random() < _KNOWN_TOO:
                files.append(chance.choice(known))
            elif name := self._requesters.register(http, url, for_batch=True):
                files.append(name)
        if not files or self._over.is_set():
            return
        key = f"batch {len(self.batches)}"
        self.batches[key] = None
        self._post(http, key, files)
        if self.batches[key] is not None and chance.random() < _ASKED_AGAIN:
            self.repeated += 1
            self._post(http, key, files)

    def _post(self, http: httpx.Client, key: str, files: Sequence[str]) -> None:
        """Until it is answered; who answers does not matter."""
        wanted, again = {"files": [f"t/{name}" for name in files]}, False
        while not self._over.is_set():
            if urls := self._deployment.urls():
                self.repeated += again
                again = True
                try:
                    response = http.post(
                        f"{self._chance.choice(urls)}/batches", json=wanted, headers={"Idempotency-Key": key}
                    )
                except httpx.HTTPError as error:
                    self._requesters.answers_to_calls[type(error).__name__] += 1
                else:
                    self._requesters.expect(response, 202, 429, 503)
                    if response.status_code == 202:
                        self._note_batch(key, response.json()["batch_id"])
                        return
            self._over.wait(self._chance.uniform(0.2, 1.0))

    def _note_batch(self, key: str, batch: str) -> None:
        first = self.batches[key]
        if first is None:
            self.batches[key] = batch
            self._open.add(batch)
        elif first != batch:
            self._requesters.unexpected.append(f"{key} is {first}, and when asked for again {batch}")
