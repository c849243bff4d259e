"""Whether a request was signed by a key of the local cloud: AWS's Signature Version 4, as a server checks it.

Both forms: in the Authorization header, and in the query of a presigned URL. The body of an S3 request is
taken to be what its header says, for on loopback nobody changes it. All else that is signed is checked.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Any, Final
from urllib.parse import quote

from gooseherd.devcloud.run_task import ApiError
from gooseherd.devcloud.wsgi import query_of, read_body

ALGORITHM: Final = "AWS4-HMAC-SHA256"
_SKEW: Final = timedelta(minutes=15)
"""Between the clocks of both sides, as AWS allows."""
_LONGEST: Final = timedelta(days=7)
"""Of a presigned URL."""
_AUTHORIZATION: Final = re.compile(
    rf"{ALGORITHM} +Credential=([^/,\s]+)/(\d{{8}})/([a-z0-9-]+)/([a-z0-9-]+)/aws4_request, *"
    r"SignedHeaders=([a-z0-9;-]+), *Signature=([0-9a-f]{64})"
)
_UNSIGNED: Final = "UNSIGNED-PAYLOAD"


class Unsigned(Exception):
    """The request bears no signature."""


@dataclass(frozen=True, slots=True)
class Signature:
    """What a request says of its signer."""

    key_id: str
    date: str
    region: str
    service: str
    headers: tuple[str, ...]
    value: str
    at: datetime
    presigned: bool
    lasts: timedelta = _SKEW
    token: str = ""


def signature_of(environ: Mapping[str, Any]) -> Signature:
    """Read it off; it is not verified yet.

    Raises:
        Unsigned: there is none.
        ApiError: it cannot be read.
    """
    if authorization := environ.get("HTTP_AUTHORIZATION"):
        match = _AUTHORIZATION.fullmatch(authorization.strip())
        if match is None:
            raise ApiError("IncompleteSignature", "the Authorization header cannot be read", 400)
        return Signature(
            key_id=match[1],
            date=match[2],
            region=match[3],
            service=match[4],
            headers=tuple(match[5].split(";")),
            value=match[6],
            at=_time(environ.get("HTTP_X_AMZ_DATE", "")),
            presigned=False,
            token=environ.get("HTTP_X_AMZ_SECURITY_TOKEN", ""),
        )
    query = dict(query_of(environ))
    if "X-Amz-Signature" not in query:
        raise Unsigned
    try:
        key_id, date, region, service, _ = query["X-Amz-Credential"].split("/")
        lasts = timedelta(seconds=int(query["X-Amz-Expires"]))
        headers, value = query["X-Amz-SignedHeaders"], query["X-Amz-Signature"]
    except (KeyError, ValueError):
        raise ApiError("AuthorizationQueryParametersError", "the signature is incomplete", 400) from None
    if query.get("X-Amz-Algorithm") != ALGORITHM or not timedelta(0) < lasts <= _LONGEST:
        raise ApiError("AuthorizationQueryParametersError", "another algorithm, or another time", 400)
    return Signature(
        key_id=key_id,
        date=date,
        region=region,
        service=service,
        headers=tuple(headers.split(";")),
        value=value,
        at=_time(query.get("X-Amz-Date", "")),
        presigned=True,
        lasts=lasts,
        token=query.get("X-Amz-Security-Token", ""),
    )


def verify(
    environ: dict[str, Any],
    signature: Signature,
    secret: str,
    now: Callable[[], datetime] = lambda: datetime.now(UTC),
) -> None:
    """See that it is the signature of this request by that secret, made lately.

    Raises:
        ApiError: SignatureDoesNotMatch, RequestTimeTooSkewed or AccessDenied.
    """
    age = now() - signature.at
    if signature.presigned and age > signature.lasts:
        raise ApiError("AccessDenied", "Request has expired", 403)
    if age < -_SKEW or (not signature.presigned and age > _SKEW):
        raise ApiError("RequestTimeTooSkewed", "the request's time and the server's differ too much", 403)
    if "host" not in signature.headers:
        raise ApiError("SignatureDoesNotMatch", "the Host header must be signed", 403)
    expected = _sign(signature, secret, _canonical_request(environ, signature))
    if not hmac.compare_digest(expected, signature.value):
        message = "the request signature we calculated does not match the signature you provided"
        raise ApiError("SignatureDoesNotMatch", message, 403)


def _sign(signature: Signature, secret: str, canonical_request: bytes) -> str:
    scope = f"{signature.date}/{signature.region}/{signature.service}/aws4_request"
    text = "\n".join(
        (ALGORITHM, f"{signature.at:%Y%m%dT%H%M%SZ}", scope, hashlib.sha256(canonical_request).hexdigest())
    )
    key = _signing_key(secret, signature.date, signature.region, signature.service)
    return hmac.new(key, text.encode(), hashlib.sha256).hexdigest()


@lru_cache(maxsize=256)
def _signing_key(secret: str, *scope: str) -> bytes:
    key = f"AWS4{secret}".encode()
    for word in (*scope, "aws4_request"):
        key = hmac.new(key, word.encode(), hashlib.sha256).digest()
    return key


def _canonical_request(environ: dict[str, Any], signature: Signature) -> bytes:
    sent: str = environ.get("REQUEST_URI") or environ["PATH_INFO"]
    pairs = sorted(
        f"{quote(name, safe='-_.~')}={quote(value, safe='-_.~')}"
        for name, value in query_of(environ)
        if name != "X-Amz-Signature"
    )
    lines = [environ["REQUEST_METHOD"], sent.partition("?")[0], "&".join(pairs)]
    lines += [f"{name}:{' '.join(_header(environ, name).split())}" for name in signature.headers]
    lines += ["", ";".join(signature.headers), _payload(environ, signature)]
    # WSGI hands over bytes of the wire as Latin-1.
    return "\n".join(lines).encode("latin-1")


def _payload(environ: dict[str, Any], signature: Signature) -> str:
    if signature.service == "s3":
        return str(environ.get("HTTP_X_AMZ_CONTENT_SHA256") or _UNSIGNED)
    return hashlib.sha256(read_body(environ)).hexdigest()


def _header(environ: Mapping[str, Any], name: str) -> str:
    if name in {"content-type", "content-length"}:
        return str(environ.get(name.replace("-", "_").upper(), ""))
    return str(environ.get(f"HTTP_{name.replace('-', '_').upper()}", ""))


def _time(text: str) -> datetime:
    try:
        return datetime.strptime(text, "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
    except ValueError:
        raise ApiError("AccessDenied", "the request says no time at which it was signed", 403) from None
