"""Errors of the addresses below /htsget, as htsget has them: an error's name and a message."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Final

from gooseherd.api.htsget.ticket_request import HtsgetRefusal
from gooseherd.api.problems import Problem
from gooseherd.domain import errors

MEDIA_TYPE: Final = "application/vnd.ga4gh.htsget.v1.3.0+json; charset=utf-8"
PREFIX: Final = "/htsget/"

_NAMES: Final = {
    400: "InvalidInput",
    401: "InvalidAuthentication",
    403: "PermissionDenied",
    404: "NotFound",
    413: "PayloadTooLarge",
}
"""The statuses of htsget's table; others keep theirs, under the problem's title."""
_STATUS: Final = {410: 404, 422: 400}


def as_htsget(rendered: Problem, error: BaseException | None) -> Problem:
    """The refusal in htsget's words. Its headers, such as Retry-After, stay."""
    status = _STATUS.get(rendered.status, rendered.status)
    if isinstance(error, errors.AlreadyFailed):
        # Clients give up at 404, and ask again at 503: what fails for good is as if it were not there.
        status = 503 if rendered.retryable else 404
    name: str
    match error:
        case HtsgetRefusal():
            name, detail = error.error, error.message
        case errors.UnsupportedFormat():
            name, detail = "UnsupportedFormat", rendered.detail
        case _:
            name, detail = _NAMES.get(status) or rendered.title, rendered.detail
    body = json.dumps({"htsget": {"error": name, "message": detail}}, ensure_ascii=False).encode(
        "utf-8", "backslashreplace"
    )
    changed = {b"content-type": MEDIA_TYPE.encode(), b"content-length": b"%d" % len(body)}
    headers = [(field, changed.get(field, value)) for field, value in rendered.headers]
    return replace(rendered, status=status, headers=headers, body=body)
