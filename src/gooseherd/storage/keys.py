"""Which keys a cache accepts: one rule for every back end, so that none is laxer than another."""

from __future__ import annotations

from typing import Final

from gooseherd.domain.errors import InvalidInput, Misconfigured
from gooseherd.domain.keys import CacheKey

RESERVED: Final = ".gooseherd-"
"""No segment of a key starts with this: back ends keep what is theirs under such names."""

MAX_KEY_BYTES: Final = 1024
"""S3's limit for a key, in UTF-8."""
MAX_SEGMENT_BYTES: Final = 255
"""NAME_MAX of Linux file systems."""


def check_key(key: str) -> CacheKey:
    """The key itself, when every back end can hold it and none can be led astray by it.

    Raises:
        InvalidInput: absolute, empty, too long, with `.`, `..`, empty or reserved segments,
            backslashes or control characters.
    """
    if not key:
        raise InvalidInput("key", "must not be empty")
    _check(key.split("/"), key)
    return CacheKey(key)


def check_prefix(prefix: str) -> str:
    """The prefix itself, when a key may start with it; it need not end at a slash.

    Raises:
        InvalidInput: no key could start so.
    """
    if prefix:
        # What follows the last slash may still grow, so nothing there is as good as anything.
        _check(prefix.removesuffix("/").split("/"), prefix)
    return prefix


def normal_prefix(prefix: str) -> str:
    """Without slashes around it, and with one behind it unless it is empty. Raises Misconfigured."""
    stripped = prefix.strip().strip("/")
    if not stripped:
        return ""
    try:
        return check_key(stripped) + "/"
    except InvalidInput as error:
        raise Misconfigured("WORKFLOW_S3_PREFIX", error.problem) from None


def _check(segments: list[str], text: str) -> None:
    if not text.isprintable() or "\\" in text:
        raise InvalidInput("key", "must hold no control characters, backslashes or unassigned characters")
    for segment in segments:
        if not segment:
            raise InvalidInput("key", "must be relative, without empty segments")
        if segment in {".", ".."}:
            raise InvalidInput("key", "must not hold the segments '.' and '..'")
        if segment.startswith(RESERVED):
            raise InvalidInput("key", f"segments that start with {RESERVED!r} are reserved")
        if len(segment.encode()) > MAX_SEGMENT_BYTES:
            raise InvalidInput("key", f"segments are at most {MAX_SEGMENT_BYTES} bytes long")
    if len(text.encode()) > MAX_KEY_BYTES:
        raise InvalidInput("key", f"at most {MAX_KEY_BYTES} bytes")
