"""Where the next page of a list by age begins. No filter with `$or`, of which no index has the order."""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence
from datetime import UTC, datetime

from gooseherd.domain.errors import InvalidInput
from gooseherd.domain.foreign_json import read_json
from gooseherd.store.mongo.connect import Document


def bookmark(page: Sequence[Document], after: str | None, seen: Sequence[str]) -> str:
    """The `next` of a page: a moment, and the items of that very moment already listed."""
    moment: datetime = page[-1]["created_at"]
    listed = [document["_id"] for document in page if document["created_at"] == moment]
    if after is not None and read_bookmark(after)[0] == moment:
        listed = [*seen, *listed]
    text = json.dumps([round(moment.timestamp() * 1000), *listed], separators=(",", ":"))
    return base64.urlsafe_b64encode(text.encode()).decode()


def read_bookmark(text: str) -> tuple[datetime, list[str]]:
    """The inverse. Raises InvalidInput: `text` is not the `next` of a page."""
    try:
        milliseconds, *seen = read_json(base64.urlsafe_b64decode(text.encode()))
        moment = datetime.fromtimestamp(milliseconds / 1000, UTC)
        if not all(isinstance(job_id, str) for job_id in seen):
            raise TypeError
    except (ValueError, TypeError, OverflowError, OSError):
        raise InvalidInput("after", "must be the `next` of the page before") from None
    return moment.replace(microsecond=milliseconds % 1000 * 1000), seen
