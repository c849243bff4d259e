"""Outputs of notebooks that the kernel updates while work goes on; no browser has to reach the service."""

from __future__ import annotations

import logging
import threading
from typing import Any, Final

from gooseherd.client.errors import NotReachable, Refused, UnexpectedResponse
from gooseherd.client.http_client import GooseherdClient
from gooseherd.client.libraries import library
from gooseherd.client.models import Batch, Job
from gooseherd.client.models.display import Live
from gooseherd.client.notebook.snapshot import html_of

_log: Final = logging.getLogger("gooseherd.client")
_LIVE_AT_MOST: Final = 32
"""Threads that follow what is shown. Of more outputs each shows how its record stood."""
_following = threading.BoundedSemaphore(_LIVE_AT_MOST)


def display_live(record: Live) -> None:
    """Show the record. In a notebook the output then shows how it stands, until it has ended."""
    handle = library("IPython.display").display(_shown(record), raw=True, display_id=True)
    in_notebook = getattr(library("IPython").get_ipython(), "kernel", None) is not None
    if record.ended or record.endpoint is None or handle is None or not in_notebook:
        return
    if _following.acquire(blocking=False):
        threading.Thread(target=_follow, args=(record, handle), name="gooseherd display", daemon=True).start()


def _follow(record: Live, handle: Any) -> None:
    assert record.endpoint is not None
    try:
        with GooseherdClient.to(record.endpoint) as client:
            if isinstance(record, Job):
                for job in client.follow(record.job_id):
                    handle.update(_shown(job), raw=True)
            elif isinstance(record, Batch):
                for batch in client.follow_batch(record.batch_id):
                    handle.update(_shown(batch), raw=True)
    except (NotReachable, Refused, UnexpectedResponse) as error:
        # The output stays as it was seen last.
        _log.info("a display is not updated any more: %s", error)
    finally:
        _following.release()


def _shown(record: Live) -> dict[str, str]:
    return {"text/plain": repr(record), "text/html": html_of(record)}
