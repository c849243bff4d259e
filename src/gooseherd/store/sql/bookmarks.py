"""Where the next page of a list by age begins."""

from __future__ import annotations

import base64
import json
from datetime import datetime

from gooseherd.domain.errors import InvalidInput
from gooseherd.domain.foreign_json import read_json
from gooseherd.store.sql.columns import from_milliseconds, to_milliseconds


def bookmark(created_at: datetime, item_id: str) -> str:
    """The `next` of a page that ends with this item."""
    text = json.dumps([to_milliseconds(created_at), item_id], separators=(",", ":"))
    return base64.urlsafe_b64encode(text.encode()).decode()


def read_bookmark(text: str) -> tuple[datetime, str]:
    """The inverse. Raises InvalidInput: `text` is not the `next` of a page."""
    try:
        milliseconds, item_id = read_json(base64.urlsafe_b64decode(text.encode()))
        if not isinstance(milliseconds, int) or not isinstance(item_id, str):
            raise TypeError
        return from_milliseconds(milliseconds), item_id
    except (ValueError, TypeError, OverflowError):
        raise InvalidInput("after", "must be the `next` of the page before") from None
