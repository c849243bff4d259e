"""Batches as Python calls: prepare many files at once and follow them as one thing."""

from __future__ import annotations

import secrets
import time
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final
from urllib.parse import quote

from gooseherd.client.calls import HttpCalls, Record
from gooseherd.client.deadline import Deadline
from gooseherd.client.errors import NotReachable

TRIES: Final = 3
"""Of storing a batch, all with one idempotency key: an answer that was lost makes no second batch."""
PAUSE_SECONDS: Final = 1.0


def batch_body(
    files: Iterable[str] | None,
    *,
    text: str | None,
    dcc: str | None,
    file_format: str | None,
    retry: bool,
) -> dict[str, Any]:
    """The body of POST /batches: `files`, or a query of the catalog."""
    if files is not None:
        return {"files": list(files), "retry": retry}
    query = {"q": text, "dcc": dcc, "format": file_format}
    return {"query": {name: value for name, value in query.items() if value is not None}, "retry": retry}


def batch_path(batch_id: str) -> str:
    """Where a batch is."""
    return f"/batches/{quote(batch_id, safe='')}"


def batch_ended(batch: Mapping[str, Any]) -> bool:
    """All its files have ended."""
    return batch.get("status") != "active"


class BatchCalls(HttpCalls):
    """The calls under /batches. A batch is a record: `batch_id`, `status`, `total`, `counts`, `percent`, …"""

    def create_batch(
        self,
        files: Iterable[str] | None = None,
        *,
        text: str | None = None,
        dcc: str | None = None,
        file_format: str | None = None,
        retry: bool = False,
        idempotency_key: str | None = None,
    ) -> Record:
        """Prepare many files: `files` (DCC/ID each), or what the catalog has by the other arguments.

        More than 50 need the admin key, more than 10,000 are refused. `retry` asks for new jobs where
        the last one failed a moment ago. With an idempotency key the same call again finds the batch.
        """
        body = batch_body(files, text=text, dcc=dcc, file_format=file_format, retry=retry)
        headers = {"Idempotency-Key": idempotency_key or secrets.token_hex(16)}
        for again in range(TRIES):
            try:
                return self._json("POST", "/batches", json=body, headers=headers)
            except NotReachable:
                if again == TRIES - 1:
                    raise
                time.sleep(PAUSE_SECONDS)
        raise AssertionError("unreachable")

    def batch(self, batch_id: str) -> Record:
        """The batch as it stands. Raises Missing."""
        return self._json("GET", batch_path(batch_id))

    def batches(self, *, mine: bool = False, limit: int | None = None) -> Iterator[Record]:
        """Batches, newest first, at most `limit`."""
        return self._pages("/batches", "batches", {"requester": "me" if mine else None}, limit)

    def batch_files(
        self, batch_id: str, *, state: str | None = None, limit: int | None = None
    ) -> Iterator[Record]:
        """What became of each file, in the order of asking: `state`, `reason`, `detail`, `job_id`, …"""
        return self._pages(f"{batch_path(batch_id)}/files", "files", {"state": state}, limit)

    def follow_batch(self, batch_id: str, *, timeout_seconds: float | None = None) -> Iterator[Record]:
        """The batch now and after each change, until all its files have ended.

        Raises:
            TookTooLong: not at its end in time. The batch goes on.
        """
        deadline = Deadline(timeout_seconds, batch_id, what="batch")
        yield from self._follow(
            batch_path(batch_id), id_name="batch_id", ended=batch_ended, deadline=deadline
        )

    def cancel_batch(self, batch_id: str) -> Record:
        """Cancel what has not ended, but for jobs that somebody else wants. What is ready stays."""
        return self._json("DELETE", batch_path(batch_id))
