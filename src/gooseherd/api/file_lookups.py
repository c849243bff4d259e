"""What nginx in front learns of a file, which it may then send for a moment without asking.

By deploy/nginx.conf it asks by a subrequest (auth_request) for the address that a client asked for, without
the client's credentials, and keeps the response for a moment. It only learns of what everybody may read.
"""

from __future__ import annotations

from typing import Final

from starlette.types import Scope

from gooseherd.api.coded_parts import may_be_coded
from gooseherd.api.conditional import fixed_headers
from gooseherd.domain.artifact import Part

_HEADER: Final = b"x-sendfile-type"
_LOOKUP: Final = b"lookup"
_MEDIA_TYPE: Final = "application/octet-stream"
"""The only one that deploy/nginx.conf has for these files."""
KEPT: Final = 204
"""The status of what nginx keeps."""
NOT_KEPT: Final = 200
EMPTY: Final = b"content-length: 0\r\n"
"""Beside NOT_KEPT."""
NO_FILE: Final = b"x-artifact-file: -\r\n"
"""nginx has none of that name, and asks in the usual way."""
FOR_A_MOMENT: Final = b"cache-control: max-age=1, stale-while-revalidate=1\r\n"
"""Beside KEPT. nginx counts whole seconds: after one to two it asks again, in the background, and after two
to three it uses the answer no longer. It keeps none that says anything else (deploy/nginx.conf)."""
_NAMES: Final = {
    b"etag": b"etag",
    b"cache-control": b"x-artifact-cache-control",
    b"content-disposition": b"content-disposition",
}
"""Of the header lines of the file's responses, as nginx is told."""


def is_lookup(scope: Scope) -> bool:
    """Whether nginx asks, and not a client."""
    return any(name == _HEADER and value == _LOOKUP for name, value in scope["headers"])


def lookup_lines(part: Part, cache_control: bytes) -> bytes:
    """Header lines that name the file and what its responses have; no file where this process has to answer.

    It has to where the media type is another, and where what is sent depends on Accept-Encoding.
    """
    path = part.key
    if part.media_type != _MEDIA_TYPE or may_be_coded(part) or not (path.isascii() and path.isprintable()):
        return NO_FILE + FOR_A_MOMENT
    headers = [
        b"%b: %b\r\n" % (_NAMES[name], value)
        for name, value in fixed_headers(part, cache_control)
        if name in _NAMES
    ]
    return b"".join([b"x-artifact-file: %b\r\n" % path.encode(), *headers, FOR_A_MOMENT])
