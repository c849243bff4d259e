"""Until when certificates between this process and its workers are valid: those here, and those workers show.

Each worker's is read from a handshake with it, at most once an hour while it is spoken to: what it serves
with counts, not what it was given. All are in the metrics, and in the log at the start and once a day.
"""

from __future__ import annotations

import asyncio
import logging
import math
import ssl
import tempfile
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Final

from gooseherd.blocking import in_thread
from gooseherd.certs import validity
from gooseherd.domain.alerts import ALERT_FIELD, Alert
from gooseherd.domain.errors import Misconfigured
from gooseherd.telemetry import CERTIFICATE_EXPIRY
from gooseherd.worker.tls import Certificates

_log = logging.getLogger(__name__)

API: Final = "api"
WORKER: Final = "worker"
REPORT_SECONDS: Final = 86400.0
_LOOK_SECONDS: Final = 3600.0
_FORGET_SECONDS: Final = 86400.0
"""After its last connection; tasks come and go, and what the last ones had is told until then."""
_HANDSHAKE_SECONDS: Final = 5.0
_MOST_WORKERS: Final = 1000
_NO_CHECK_TIME: Final = 0x200000
"""X509_V_FLAG_NO_CHECK_TIME of OpenSSL: one that has ended is to be read, too."""


@dataclass
class _Shown:
    """What one worker showed. `ends` is None until it did. Times are those of the clock."""

    connected: float
    looked: float
    ends: datetime | None = None


class CertificateWatch:
    """The ends of all certificates that conversations with workers depend on. For one event loop.

    `by_host`: workers have addresses that stay, and each may have a certificate of its own.
    """

    def __init__(
        self,
        certificates: Certificates,
        *,
        by_host: bool = False,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._certificates = certificates
        self._by_host = by_host
        self._clock = clock
        self._shown: dict[str, _Shown] = {}
        self._roles: frozenset[str] = frozenset()
        """Of workers, in the metrics."""
        self._looking: set[asyncio.Task[None]] = set()

    def publish(self) -> None:
        """Let each scrape of the metrics read this side's own anew: files may be replaced.

        Raises:
            Misconfigured: a certificate cannot be read.
        """
        for role in self._certificates.expiries(API):
            CERTIFICATE_EXPIRY.labels(role).set_function(partial(_ends, self._certificates, role))

    def connected(self, address: str) -> None:
        """This process speaks to the worker there; what it shows is read in the background."""
        now = self._clock()
        known = self._shown.get(address)
        if known is None:
            self._forget(now)
            if len(self._shown) >= _MOST_WORKERS:
                return
            known = self._shown[address] = _Shown(now, -math.inf)
        known.connected = now
        if now - known.looked >= _LOOK_SECONDS:
            known.looked = now
            looking = asyncio.create_task(self._look(address, known), name="certificate of a worker")
            self._looking.add(looking)
            looking.add_done_callback(self._looking.discard)

    async def settled(self) -> None:
        """Wait for looks that have begun."""
        await asyncio.gather(*self._looking, return_exceptions=True)

    async def all_ends(self) -> Mapping[str, datetime]:
        """Of each role: `api`, `ca`, `worker`, or with an address each worker."""
        own: Mapping[str, datetime] = {}
        try:
            own = await in_thread(self._certificates.expiries, API)
        except Misconfigured as error:
            _log.warning("a certificate cannot be read: %s", error)
        self._forget(self._clock())
        self._set_metrics()
        return {**own, **self._of_workers()}

    async def report(self, role: str, ends: datetime) -> None:
        """Log it; as an alert from `EXPIRY_NOTICE` before its end."""
        lasts, text = validity(f"the certificate of {role}", ends, datetime.now(UTC))
        alert = {} if lasts else {ALERT_FIELD: Alert.CERTIFICATE_ENDS}
        _log.log(logging.INFO if lasts else logging.WARNING, "%s", text, extra={"role": role, **alert})

    async def _look(self, address: str, known: _Shown) -> None:
        try:
            async with asyncio.timeout(_HANDSHAKE_SECONDS):
                known.ends = await _shown_by(address, self._certificates)
        except (OSError, TimeoutError, Misconfigured) as error:
            # That it cannot be spoken to others say; it is looked again with the next hour's connection.
            _log.info("the certificate of a worker cannot be read: %s", type(error).__name__)
            return
        before = self._roles
        self._set_metrics()
        for role in self._roles - before:
            await self.report(role, self._of_workers()[role])

    def _of_workers(self) -> dict[str, datetime]:
        """The first to end, of those with one name."""
        found: dict[str, datetime] = {}
        for address, shown in self._shown.items():
            if shown.ends is not None:
                role = f"{WORKER} {address}" if self._by_host else WORKER
                found[role] = min(found.get(role, shown.ends), shown.ends)
        return found

    def _set_metrics(self) -> None:
        found = self._of_workers()
        for role, ends in found.items():
            CERTIFICATE_EXPIRY.labels(role).set(ends.timestamp())
        for role in self._roles - found.keys():
            with suppress(KeyError):
                CERTIFICATE_EXPIRY.remove(role)
        self._roles = frozenset(found)

    def _forget(self, now: float) -> None:
        self._shown = {
            address: shown
            for address, shown in self._shown.items()
            if now - shown.connected < _FORGET_SECONDS
        }


async def _shown_by(address: str, certificates: Certificates) -> datetime:
    """When the certificate that the worker there shows ends; it is of a CA that this side trusts.

    Raises:
        OSError: the handshake failed.
        Misconfigured: the certificates of this side cannot be read.
    """
    host, _, port = address.rpartition(":")
    context = await in_thread(_context, certificates)
    _, writer = await asyncio.open_connection(host.strip("[]"), int(port), ssl=context, server_hostname="")
    try:
        shown = writer.get_extra_info("peercert") or {}
        return datetime.fromtimestamp(ssl.cert_time_to_seconds(shown["notAfter"]), UTC)
    finally:
        writer.transport.abort()  # the date is known; who is slow to say farewell is not waited for


def _context(certificates: Certificates) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False  # Who it is, each call checks; this is about a date.
    context.verify_flags |= _NO_CHECK_TIME
    context.set_alpn_protocols(["h2"])
    try:
        with tempfile.TemporaryDirectory(prefix="gh-") as folder:  # mode 0700
            files = certificates.as_files(Path(folder))
            context.load_verify_locations(files.ca)
            context.load_cert_chain(files.cert, files.key)
    except OSError as error:
        raise Misconfigured("WORKER_TLS_CERT", "cannot be read") from error
    return context


def _ends(certificates: Certificates, role: str) -> float:
    try:
        return certificates.expiries(API)[role].timestamp()
    except Misconfigured:
        return math.nan  # being replaced, or gone: a scrape must not fail for that
