"""Small steps of WSGI: reading bodies, making responses, breaking connections."""

from __future__ import annotations

import contextlib
import io
import ipaddress
import json
import socket
import struct
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final
from urllib.parse import unquote_plus
from xml.sax.saxutils import escape

from werkzeug.wrappers import Response

from gooseherd.devcloud.faults import Fault, Kind
from gooseherd.devcloud.objects import path_of
from gooseherd.devcloud.run_task import ApiError

AMZ_JSON: Final = "application/x-amz-json-1.1"
_PART: Final = 1 << 20


def read_body(environ: dict[str, Any]) -> bytes:
    """The request's body; may be asked again, and still be read by others."""
    if "devcloud.body" not in environ:
        length = int(environ.get("CONTENT_LENGTH") or 0)
        environ["devcloud.body"] = environ["wsgi.input"].read(length) if length else b""
        environ["wsgi.input"] = io.BytesIO(environ["devcloud.body"])
    body: bytes = environ["devcloud.body"]
    return body


def drain(environ: dict[str, Any]) -> None:
    """Take the request's body off the connection, so that the next request is found behind it."""
    body = environ["wsgi.input"]
    if environ.get("wsgi.input_terminated"):  # chunked
        while body.read(_PART):
            pass
        return
    left = int(environ.get("CONTENT_LENGTH") or 0)
    while left and (data := body.read(min(left, _PART))):
        left -= len(data)


def as_json(value: object, status: int = 200) -> Response:
    """Plain JSON."""
    return Response(json.dumps(value), status, content_type="application/json")


def refusal(error: ApiError) -> Response:
    """An error as the ECS API words it (AWS JSON 1.1)."""
    body = {"__type": error.code, "message": error.message, **error.more}
    return Response(json.dumps(body), error.status, {"x-amzn-ErrorType": error.code}, content_type=AMZ_JSON)


def s3_error(code: str, message: str, status: int) -> Response:
    """An error as S3 words it."""
    body = (
        '<?xml version="1.0" encoding="UTF-8"?>\n'
        f"<Error><Code>{code}</Code><Message>{escape(message)}</Message></Error>"
    )
    return Response(body, status, content_type="application/xml")


def fault_on_s3(fault: Fault) -> Response:
    """The error that was asked for."""
    status = fault.status or (503 if fault.kind is Kind.THROTTLE else 500)
    code = fault.code or ("SlowDown" if status == 503 else "InternalError")
    return s3_error(code, fault.message or "Please try again.", status)


def security_token_error(error: ApiError) -> Response:
    """An error as STS words it."""
    body = (
        '<ErrorResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><Error><Type>Sender</Type>'
        f"<Code>{error.code}</Code><Message>{escape(error.message)}</Message></Error></ErrorResponse>"
    )
    return Response(body, error.status, content_type="text/xml")


def break_connection(environ: dict[str, Any]) -> None:
    """Break it without a further word. Raises ConnectionResetError, which the server expects."""
    connection: socket.socket = environ["werkzeug.socket"]
    with contextlib.suppress(OSError):
        # Lingering for no time makes closing a reset (socket(7)).
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        connection.shutdown(socket.SHUT_RDWR)
    raise ConnectionResetError("an injected fault")


def cut(body: Iterable[bytes], after: int, environ: dict[str, Any]) -> Iterator[bytes]:
    """The body's first `after` bytes, then the connection breaks."""
    try:
        for chunk in body:
            yield chunk[:after]
            after -= len(chunk)
            if after <= 0:
                break_connection(environ)
    finally:
        close = getattr(body, "close", None)
        if close is not None:
            close()


def is_foreign(environ: dict[str, Any]) -> bool:
    """Whether a web page may be behind the request; it must not start processes here.

    A browser sends Origin with what is not its own, and a name that was made to point at
    this machine arrives in Host.
    """
    host: str = environ.get("HTTP_HOST", "")
    name = host.rpartition(":")[0] or host
    if name == "localhost":
        return "HTTP_ORIGIN" in environ
    try:
        return "HTTP_ORIGIN" in environ or not ipaddress.ip_address(name.strip("[]")).is_loopback
    except ValueError:
        return True


def query_of(environ: Mapping[str, Any]) -> list[tuple[str, str]]:
    """The parameters of the request, decoded."""
    pairs = (part.partition("=") for part in environ.get("QUERY_STRING", "").split("&") if part)
    return [(unquote_plus(name), unquote_plus(value)) for name, _, value in pairs]


def s3_operation(environ: dict[str, Any]) -> str:
    """The S3 API's name for the request."""
    method: str = environ["REQUEST_METHOD"]
    named = {part.partition("=")[0] for part in environ["QUERY_STRING"].split("&")}
    _, _, key = path_of(environ).lstrip("/").partition("/")
    if not key:
        listing = "ListMultipartUploads" if "uploads" in named else "ListObjectsV2"
        other = "DeleteObjects" if "delete" in named else "DeleteBucket"
        return {"GET": listing, "PUT": "CreateBucket", "HEAD": "HeadBucket"}.get(method, other)
    if "uploads" in named:
        return "CreateMultipartUpload"
    if "uploadId" in named:
        steps = {"PUT": "UploadPart", "POST": "CompleteMultipartUpload", "DELETE": "AbortMultipartUpload"}
        return steps.get(method, "ListParts")
    if method == "PUT" and "HTTP_X_AMZ_COPY_SOURCE" in environ:
        return "CopyObject"
    names = {"GET": "GetObject", "PUT": "PutObject", "HEAD": "HeadObject", "DELETE": "DeleteObject"}
    return names.get(method, "PostObject")
