"""Reads responses of the service: errors become exceptions, headers become values."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from datetime import UTC, datetime
from email.message import Message
from email.utils import parsedate_to_datetime
from typing import Any

import httpx

from gooseherd.client.errors import Busy, Denied, Missing, NotReachable, Refused, UnexpectedResponse

_SHA256_ETAG = re.compile(r'"([0-9a-f]{64})"$')


@contextlib.contextmanager
def reaching(url: str) -> Iterator[None]:
    """Turn the transport's errors into NotReachable."""
    try:
        yield
    except httpx.TransportError as error:
        raise NotReachable(url, str(error) or type(error).__name__) from error
    except (httpx.InvalidURL, httpx.DecodingError) as error:
        raise UnexpectedResponse(url, str(error)) from error


def check(response: httpx.Response) -> httpx.Response:
    """`response`, when it is no error; its body is read only when it is one.

    Raises:
        Missing, Denied, Busy, Refused: by status.
    """
    if response.status_code < 400:
        return response
    with reaching(str(response.url)):
        response.read()
    problem = _problem(response)
    kinds = {401: Denied, 403: Denied, 404: Missing, 410: Missing, 429: Busy, 503: Busy}
    raise kinds.get(response.status_code, Refused)(
        status=response.status_code,
        title=str(problem.pop("title", "") or response.reason_phrase),
        detail=str(problem.pop("detail", "") or ""),
        type=str(problem.pop("type", "") or ""),
        retry_after_seconds=retry_after(response),
        fields=problem,
    )


def json_object(response: httpx.Response) -> dict[str, Any]:
    """The body as a JSON object.

    Raises:
        UnexpectedResponse: it is something else; probably another program listens there.
    """
    with reaching(str(response.url)):
        response.read()
    try:
        data = response.json()
    except ValueError:
        raise UnexpectedResponse(str(response.url), "the response is not JSON") from None
    if not isinstance(data, dict):
        raise UnexpectedResponse(str(response.url), "the response is not a JSON object")
    return data


def retry_after(response: httpx.Response) -> float | None:
    """Retry-After in seconds, from now if it is a date (as proxies send it); None when absent."""
    text = response.headers.get("retry-after", "")
    if text.isdigit():
        return float(text)
    try:
        at = parsedate_to_datetime(text)
    except ValueError:
        return None
    return max((at - datetime.now(UTC)).total_seconds(), 0.0) if at.tzinfo else None


def filename(response: httpx.Response) -> str | None:
    """The plain name in Content-Disposition; never with a folder in it."""
    header = response.headers.get("content-disposition")
    if not header:
        return None
    message = Message()
    message["content-disposition"] = header
    name = (message.get_filename() or "").replace("\\", "/").rsplit("/", 1)[-1]
    return name if name not in {"", ".", ".."} and name.isprintable() else None


def sha256_of(etag: str | None) -> str | None:
    """The digest a strong ETag of this service states; None for anybody else's."""
    match = _SHA256_ETAG.match(etag or "")
    return match[1] if match else None


def content_length(response: httpx.Response) -> int | None:
    """Content-Length, if the response has one."""
    text = response.headers.get("content-length", "")
    return int(text) if text.isdigit() else None


def _problem(response: httpx.Response) -> dict[str, Any]:
    try:
        problem = response.json()
    except ValueError:
        return {}
    return dict(problem) if isinstance(problem, dict) else {}
