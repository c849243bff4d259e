"""Clients that ask for new files and for old ones while everything dies, and write down what they got."""

from __future__ import annotations

import hashlib
import random
import threading
import time
from collections import Counter, OrderedDict
from contextlib import suppress
from typing import Any, Final

import httpx
from tests.faults.campaign.batches_and_sessions import ADMIN, BatchesAndSessions
from tests.faults.campaign.deployment import Deployment
from tests.faults.campaign.sources import SourceServer
from tests.faults.campaign.threads import thread_of

PARTS: Final = ("data", "index")
_WAITING: Final = 24
"""So many files are being made at a time; more are asked for when some are ready."""
_CANCELLED: Final = 0.01
"""Of all calls: the admin cancels a job for everybody."""
_WITHDRAWN: Final = 0.04
"""Of all calls: somebody withdraws from a job."""
TIMEOUT_SECONDS: Final = 15.0


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
        """`cancelled` is the share of calls that cancel a job; 0: nobody withdraws from one, either."""
        self._cancelled = cancelled
        self._deployment = deployment
        self._sources = sources
        self._over = threading.Event()
        self._lock = threading.Lock()
        self.entries: OrderedDict[str, dict[str, Any]] = OrderedDict()
        """Registered, by local id."""
        self._registered: set[str] = set()
        """Those of which that was answered."""
        self._unregistered = 0
        self._of_batches: set[str] = set()
        """Those of them that a batch was the first to ask for."""
        self.jobs: dict[str, str] = {}
        """The file of each job that a client was told of."""
        self.wanted: dict[str, set[str]] = {}
        """By job: the addresses that were told of it and never tried to withdraw."""
        self._withdrawn: set[tuple[str, str]] = set()
        """Job and address: a call that was not answered may still be carried out."""
        self.cancelled: set[str] = set()
        """Jobs that the admin tried to cancel for everybody."""
        self.ready: set[str] = set()
        self._ended_badly: set[str] = set()
        self.digests: dict[tuple[str, str], str] = {}
        """Of the bytes of each file's parts, as they came first."""
        self.answers: Counter[str] = Counter()
        """To who asks for bytes."""
        self.answers_to_calls: Counter[str] = Counter()
        """To all other calls: there is a limit of sessions, and of batches."""
        self.refusals: Counter[str] = Counter()
        """Of the answers 429 and 503: why."""
        self.unexpected: list[str] = []
        self.wrong_bytes: list[str] = []
        self._addresses = [f"192.0.2.{number}" for number in range(1, threads + 1)]
        self._threads = [
            thread_of(
                self.unexpected,
                f"the requester {address}",
                self._run,
                random.Random(f"requester {seed} {address}"),
                address,
            )
            for address in self._addresses
        ]
        self.others = BatchesAndSessions(
            deployment,
            self,
            random.Random(f"batches and sessions {seed}"),
            self._addresses,
            self._over,
            cancelling=cancelled > 0,
        )
        self._threads.append(thread_of(self.unexpected, "the requester of batches", self.others.run))

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join(4 * TIMEOUT_SECONDS)

    def count(self, response: httpx.Response, answers: Counter[str]) -> None:
        """Note how the call was answered."""
        answers[str(response.status_code)] += 1
        if response.status_code in (429, 503):
            with suppress(ValueError, KeyError):
                self.refusals[response.json()["type"].rpartition("/")[2]] += 1

    def expect(self, response: httpx.Response, *statuses: int) -> None:
        """Count the answer; it is a finding if it is none of these."""
        self.count(response, self.answers_to_calls)
        if response.status_code not in statuses:
            call = f"{response.request.method} {response.request.url.path}"
            self.unexpected.append(f"{call}: {response.status_code} {response.text[:300]}")

    def _run(self, chance: random.Random, address: str) -> None:
        with httpx.Client(
            timeout=TIMEOUT_SECONDS, trust_env=False, headers={"X-Forwarded-For": address}
        ) as http:
            while not self._over.is_set():
                urls = self._deployment.urls()
                if not urls:
                    self._over.wait(0.2)
                    continue
                try:
                    self._act(http, chance.choice(urls), chance, address)
                except httpx.HTTPError as error:
                    # It was killed, stands still, or is being started.
                    self.answers[type(error).__name__] += 1
                self._over.wait(chance.uniform(0.01, 0.2))

    def _act(self, http: httpx.Client, url: str, chance: random.Random, address: str) -> None:
        with self._lock:
            done = self.ready | self._ended_badly | self._of_batches
            waiting = [name for name in self.entries if name not in done]
            known = list(self.entries)
            own = [job for job, addresses in self.wanted.items() if address in addresses]
            jobs = list(self.jobs)
        if len(waiting) < _WAITING:
            if name := self.register(http, url):
                self._ask(http, url, name, "data", address)
        elif chance.random() < self._cancelled and jobs:
            job = chance.choice(jobs)
            self.cancelled.add(job)
            self.expect(http.delete(f"{url}/jobs/{job}", headers=ADMIN), 200, 409, 503)
        elif self._cancelled and chance.random() < _WITHDRAWN and own:
            job = chance.choice(own)
            with self._lock:
                self._withdrawn.add((job, address))
                self.wanted[job].discard(address)
            # Of a job that the admin has cancelled nobody is a requester any more.
            ended = (401,) if job in self.cancelled else ()
            self.expect(http.delete(f"{url}/jobs/{job}"), 200, 409, 503, *ended)
        else:
            name = chance.choice(waiting if chance.random() < 0.7 else known)
            self._ask(http, url, name, chance.choice(PARTS), address)

    def register(self, http: httpx.Client, url: str, *, for_batch: bool = False) -> str | None:
        """A new entry, in the catalog when this returns; None: time was up before that."""
        with self._lock:
            entry = self._sources.make(len(self.entries) + self._unregistered)
            name: str = entry["local_id"]
            self.entries[name] = entry
            if for_batch:
                self._of_batches.add(name)
        while not self._over.is_set():
            try:
                response = http.post(f"{url}/files", json=entry, headers=ADMIN)
                if response.status_code in (200, 201):
                    self._registered.add(name)
                    return name
            except httpx.HTTPError:
                pass
            self._over.wait(0.3)
            urls = self._deployment.urls()
            url = urls[0] if urls else url
        with self._lock:
            del self.entries[name]  # It may not have been registered.
            self._unregistered += 1
        return None

    def _ask(self, http: httpx.Client, url: str, name: str, part: str, address: str) -> None:
        registered = name in self._registered
        response = http.get(f"{url}/{part}/t/{name}")
        self.count(response, self.answers)
        match response.status_code:
            case 200:
                self.note_bytes(name, part, response)
                with self._lock:
                    self.ready.add(name)
            case 202:
                job_id = response.headers["location"].rpartition("/")[2].partition("?")[0]
                with self._lock:
                    self.jobs[job_id] = name
                    wanted = self.wanted.setdefault(job_id, set())
                    if (job_id, address) not in self._withdrawn:
                        wanted.add(address)
            case 503 | 429 if response.headers.get("retry-after", "").isdigit():
                time.sleep(0.1)
            case 422 if response.json()["type"].endswith("already-failed"):
                with self._lock:
                    self._ended_badly.add(name)
            case 404 if part == "index" and not _has_index(name):
                pass
            case 404 if not registered:
                pass
            case status:
                self.unexpected.append(f"GET /{part}/t/{name}: {status} {response.text[:300]}")

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
