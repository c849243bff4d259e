"""Catalog entries of a trial: registered for it, and taken out again however it ends."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Callable, Iterator, Mapping
from types import TracebackType
from typing import Any, Self

from gooseherd.client import GooseherdClient, Missing, NotReachable
from gooseherd.domain.errors import GooseherdError
from gooseherd.trial.checks import CheckFailed

_IN_FLIGHT_SECONDS = 30.0
"""How long a registration that is under way is waited for: the client's own timeout."""


class Entries:
    """Registers entries for the length of a block. Safe to use from several threads.

    Removing an entry cancels the job on its content, so threads that wait for one end soon
    after `close`.
    """

    def __init__(
        self, client: GooseherdClient, print_status: Callable[[str], None], *, keep: bool = False
    ) -> None:
        self._client, self._print_status, self._keep = client, print_status, keep
        self._names: list[tuple[str, str]] = []
        self._in_flight = 0
        self._closed = False
        self._changed = threading.Condition()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def register(self, entry: Mapping[str, Any]) -> None:
        """Insert or replace the entry; its name is taken out at the end.

        Raises:
            CheckFailed: the trial has ended already.
        """
        with self._changed:
            if self._closed:
                raise CheckFailed("interrupted")
            self._names.append((entry["dcc"], entry["local_id"]))
            self._in_flight += 1
        try:
            self._client.register(entry)
        finally:
            with self._changed:
                self._in_flight -= 1
                self._changed.notify_all()

    def close(self) -> None:
        """Take out what was registered, and let nothing more be registered; idempotent.

        Raises nothing for an entry that cannot be taken out, but says that it stays.
        """
        with self._changed:
            self._closed = True
            # One that arrives after its removal would stay.
            self._changed.wait_for(lambda: not self._in_flight, _IN_FLIGHT_SECONDS)
            names, self._names = self._names, []
        if self._keep:
            return
        for number, (dcc, local_id) in enumerate(names):
            try:
                self._client.remove(dcc, local_id)
            except Missing:
                continue
            except NotReachable as error:
                self._print_status(f"{len(names) - number} entries stay in the catalog: {error}")
                return
            except GooseherdError as error:
                self._print_status(f"{dcc}/{local_id} stays in the catalog: {error}")


@contextlib.contextmanager
def termination_interrupts() -> Iterator[None]:
    """SIGTERM and SIGHUP end the block as Ctrl-C does, so that what it has begun is put away."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    signals = (signal.SIGTERM, signal.SIGHUP)
    before = {number: signal.signal(number, signal.default_int_handler) for number in signals}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
