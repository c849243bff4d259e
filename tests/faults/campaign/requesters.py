"""Clients that ask for new files and for old ones while everything dies, and write down what they got."""

from __future__ import annotations

import hashlib
import random
import threading
import time
from collections import Counter, OrderedDict
from typing import Any, Final

import httpx
from tests.faults.campaign.deployment import ADMIN_KEY, Deployment
from tests.faults.campaign.sources import SourceServer

PARTS: Final = ("data", "index")
_WAITING: Final = 24
"""So many files are being made at a time; more are asked for when some are ready."""
_CANCELLED: Final = 0.01
"""Of all calls."""
_TIMEOUT_SECONDS: Final = 15.0
_SESSION_SECONDS: Final = (2.0, 10.0)
"""How long a session may be idle."""
_OTHERS_PAUSE_SECONDS: Final = (1.0, 8.0)
"""Between sessions and batches that are asked for."""
_BATCH_FILES: Final = (2, 8)


class Requesters:
    """Some threads, from `start` to `stop`. What they have seen is to be read afterwards."""

    def __init__(
        self,
        deployment: Deployment,
        sources: SourceServer,
        seed: int,
        *,
        threads: int = 4,
        cancelled: float = _CANCELLED,
    ) -> None:
        self._cancelled = cancelled
        self._deployment = deployment
        self._sources = sources
        self._over = threading.Event()
        self._lock = threading.Lock()
        self.entries: OrderedDict[str, dict[str, Any]] = OrderedDict()
        """Registered, by local id."""
        self.batches: set[str] = set()
        """Those that a client was told of."""
        self.sessions = 0
        """That were opened."""
        self.jobs: dict[str, str] = {}
        """The file of each job that a client was told of."""
        self.ready: set[str] = set()
        self._ended_badly: set[str] = set()
        self.digests: dict[tuple[str, str], str] = {}
        """Of the bytes of each file's parts, as they came first."""
        self.answers: Counter[str] = Counter()
        self.unexpected: list[str] = []
        self.wrong_bytes: list[str] = []
        self._threads = [
            threading.Thread(
                target=self._run, args=(random.Random(f"requester {seed} {number}"),), daemon=True
            )
            for number in range(threads)
        ]
        others = random.Random(f"sessions and batches {seed}")
        self._threads.append(threading.Thread(target=self._run_others, args=(others,), daemon=True))

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join(4 * _TIMEOUT_SECONDS)

    def _run_others(self, chance: random.Random) -> None:
        """Sessions and batches, now and then."""
        with httpx.Client(
            timeout=_TIMEOUT_SECONDS, trust_env=False, headers={"X-API-Key": ADMIN_KEY}
        ) as http:
            while not self._over.wait(chance.uniform(*_OTHERS_PAUSE_SECONDS)):
                if urls := self._deployment.urls():
                    try:
                        self._act_on_others(http, chance.choice(urls), chance)
                    except httpx.HTTPError as error:
                        self.answers[type(error).__name__] += 1

    def _act_on_others(self, http: httpx.Client, url: str, chance: random.Random) -> None:
        with self._lock:
            known = [name for name in self.entries if name in self.ready or name in self.jobs.values()]
        match chance.choice(("session", "session", "end session", "batch", "batch", "batch", "cancel batch")):
            case "session":
                # Somebody who asks for nothing, or the one who asks for all.
                owner = chance.choice(({"owner": "anne"}, {}))
                wanted = {**owner, "idle_seconds": chance.uniform(*_SESSION_SECONDS), "max_age_seconds": 60}
                response = http.post(f"{url}/sessions", json=wanted)
                self.sessions += response.status_code == 201
                self._expect(response, 200, 201, 429, 503)
            case "end session":
                response = http.get(f"{url}/sessions")
                self._expect(response, 200, 503)
                if response.status_code == 200 and (sessions := response.json()["sessions"]):
                    ended = http.delete(f"{url}/sessions/{sessions[0]['session_id']}")
                    self._expect(ended, 202, 404, 503)
            case "batch" if known:
                names = chance.sample(known, min(len(known), chance.randint(*_BATCH_FILES)))
                response = http.post(f"{url}/batches", json={"files": [f"t/{name}" for name in names]})
                self._expect(response, 202, 429, 503)
                if response.status_code == 202:
                    self.batches.add(response.json()["batch_id"])
            case "cancel batch" if self.batches and chance.random() < 0.5:
                response = http.delete(f"{url}/batches/{chance.choice(sorted(self.batches))}")
                self._expect(response, 200, 202, 503)

    def _expect(self, response: httpx.Response, *statuses: int) -> None:
        self.answers[str(response.status_code)] += 1
        if response.status_code not in statuses:
            call = f"{response.request.method} {response.request.url.path}"
            self.unexpected.append(f"{call}: {response.status_code} {response.text[:300]}")

    def _run(self, chance: random.Random) -> None:
        with httpx.Client(
            timeout=_TIMEOUT_SECONDS, trust_env=False, headers={"X-API-Key": ADMIN_KEY}
        ) as http:
            while not self._over.is_set():
                urls = self._deployment.urls()
                if not urls:
                    self._over.wait(0.2)
                    continue
                try:
                    self._act(http, chance.choice(urls), chance)
                except httpx.HTTPError as error:
                    # It was killed, stands still, or is being started.
                    self.answers[type(error).__name__] += 1
                self._over.wait(chance.uniform(0.01, 0.2))

    def _act(self, http: httpx.Client, url: str, chance: random.Random) -> None:
        with self._lock:
            waiting = [name for name in self.entries if name not in self.ready | self._ended_badly]
            known = list(self.entries)
        if len(waiting) < _WAITING:
            self._register(http, url)
        elif chance.random() < self._cancelled and self.jobs:
            http.delete(f"{url}/jobs/{chance.choice(list(self.jobs))}")
        else:
            name = chance.choice(waiting if chance.random() < 0.7 else known)
            self._ask(http, url, name, chance.choice(PARTS))

    def _register(self, http: httpx.Client, url: str) -> None:
        with self._lock:
            entry = self._sources.make(len(self.entries))
            self.entries[entry["local_id"]] = entry
        while not self._over.is_set():
            try:
                response = http.post(f"{url}/files", json=entry)
                if response.status_code in (200, 201):
                    self._ask(http, url, entry["local_id"], "data")
                    return
            except httpx.HTTPError:
                pass
            self._over.wait(0.3)
            urls = self._deployment.urls()
            url = urls[0] if urls else url
        with self._lock:
            del self.entries[entry["local_id"]]  # It may not have been registered.

    def _ask(self, http: httpx.Client, url: str, name: str, part: str) -> None:
        response = http.get(f"{url}/{part}/t/{name}")
        self.answers[str(response.status_code)] += 1
        match response.status_code:
            case 200:
                self.note_bytes(name, part, response)
                with self._lock:
                    self.ready.add(name)
            case 202:
                job_id = response.headers["location"].rpartition("/")[2].partition("?")[0]
                with self._lock:
                    self.jobs[job_id] = name
            case 503 | 429 if response.headers.get("retry-after", "").isdigit():
                time.sleep(0.1)
            case 422 if response.json()["type"].endswith("already-failed"):
                with self._lock:
                    self._ended_badly.add(name)
            case 404 if part == "index" and not _has_index(name):
                pass
            case 404 if not self._is_registered(name):
                pass
            case status:
                self.unexpected.append(f"GET /{part}/t/{name}: {status} {response.text[:300]}")

    def _is_registered(self, name: str) -> bool:
        """Whether the call that registers it has been answered: its job or its bytes are known."""
        with self._lock:
            return name in self.ready or name in self.jobs.values()

    def note_bytes(self, name: str, part: str, response: httpx.Response) -> None:
        """Bytes match their own ETag, and never change."""
        digest = hashlib.sha256(response.content).hexdigest()
        if response.headers.get("etag") != f'"{digest}"':
            self.wrong_bytes.append(f"{part} of {name}: not the bytes of its ETag")
        with self._lock:
            if self.digests.setdefault((name, part), digest) != digest:
                self.wrong_bytes.append(f"{part} of {name}: changed")


def _has_index(name: str) -> bool:
    return not name.endswith(".csv")
