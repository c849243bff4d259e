"""Downloads that survive broken connections and end with the promised bytes or none."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import re
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import httpx

from gooseherd.client.destination import Stream, destination, naming, take_place
from gooseherd.client.errors import Changed, Damaged, DownloadInProgress, NotReachable, UnexpectedResponse
from gooseherd.client.responses import check, content_length, reaching, sha256_of
from gooseherd.domain.byterange import ByteRange

OnBytes = Callable[[int, int | None], None]
"""Called with (bytes there, size of the whole or None)."""

_CHUNK_BYTES = 1 << 20
_FRUITLESS_TRIES = 5
"""Connections in a row that may break without a single new byte."""
_CONTENT_RANGE = re.compile(r"bytes (\d+)-(\d+)/(\d+)$")
_AS_STORED = {"Accept-Encoding": "identity"}
"""A content coding would make byte positions and the digest mean something else."""


@dataclass(frozen=True, slots=True)
class Received:
    """A finished download; sizes in bytes. `verified`: an ETag confirmed the content."""

    size: int
    sha256: str
    verified: bool
    resumed_from: int = 0


@dataclass(frozen=True, slots=True)
class Remote:
    """One version of an object, as the service describes it."""

    size: int | None
    etag: str | None

    @property
    def sha256(self) -> str | None:
        return sha256_of(self.etag)


def download(http: httpx.Client, url: str, target: Path, *, on_bytes: OnBytes | None = None) -> Received:
    """Bring the object at `url` to `target`, whole and verified, or leave `target` as it was.

    Symlinks are followed. Bytes are collected in a `.part` file beside the target that carries
    the object's digest in its name; it stays when the download is cut short, and the next one
    goes on from it. A device, a FIFO or `/dev/fd/N` takes the bytes as they come (see `copy_to`).

    Raises:
        Damaged: the digest is not the promised one; the partial file is gone.
        DownloadInProgress: somebody else writes the same partial file.
        NotReachable: the connection kept breaking; the partial file stays.
        Refused: the service responded with an error.
        OSError: the target cannot be written; a partial file stays.
    """
    end = destination(target)
    if isinstance(end, Stream):
        with naming(target), end.open() as sink:
            return copy_to(http, url, sink, on_bytes=on_bytes)
    remote = look(http, url)
    mark = f".{remote.sha256[:12]}" if remote.sha256 else ""
    part = end.with_name(f"{end.name}{mark}.part")
    with naming(part), part.open("ab+") as file, _sole_writer(file, part):
        if not mark:
            file.truncate(0)
        received = _collect(http, url, remote, file, on_bytes)
        if remote.sha256 not in {None, received.sha256}:
            part.unlink(missing_ok=True)
            raise Damaged(target.name, remote.sha256 or "", received.sha256)
        take_place(part, end)
    return received


def copy_to(http: httpx.Client, url: str, sink: BinaryIO, *, on_bytes: OnBytes | None = None) -> Received:
    """Write the object at `url` to `sink`, through broken connections as long as its ETag stays.

    Raises:
        Damaged: what was written is not what was promised.
    """
    remote = look(http, url)
    digest, written = hashlib.sha256(), 0
    for offset, chunk in _body(http, url, remote, 0):
        if offset < written:
            raise NotReachable(url, "the connection broke and the rest cannot be asked for")
        sink.write(chunk)
        digest.update(chunk)
        written += len(chunk)
        if on_bytes:
            on_bytes(written, remote.size)
    if remote.sha256 not in {None, digest.hexdigest()}:
        raise Damaged(url, remote.sha256 or "", digest.hexdigest())
    return Received(written, digest.hexdigest(), remote.sha256 is not None)


def byte_range(http: httpx.Client, url: str, remote: Remote, span: ByteRange) -> Iterator[bytes]:
    """The bytes of `span`, in order, through broken connections, all of the version that `remote` names.

    Raises:
        Changed: the service has another version by now, or none.
        NotReachable: the connection kept breaking.
        Refused: the service responded with an error.
    """
    for _, chunk in _body(http, url, remote, span.start, span.stop):
        yield chunk


def look(http: httpx.Client, url: str) -> Remote:
    """What is at `url` now."""
    with reaching(url):
        response = check(http.head(url, headers=_AS_STORED))
    if response.status_code != 200:
        raise UnexpectedResponse(url, f"HEAD got status {response.status_code}")
    return Remote(content_length(response), response.headers.get("etag"))


@contextlib.contextmanager
def _sole_writer(file: BinaryIO, path: Path) -> Iterator[None]:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        raise DownloadInProgress(str(path)) from None
    yield  # the lock goes with the open file


def _collect(
    http: httpx.Client, url: str, remote: Remote, file: BinaryIO, on_bytes: OnBytes | None
) -> Received:
    file.seek(0)
    digest = hashlib.sha256()
    while chunk := file.read(_CHUNK_BYTES):
        digest.update(chunk)
    there = resumed_from = file.tell()
    if remote.size is not None and there > remote.size:
        file.truncate(0)
        digest, there, resumed_from = hashlib.sha256(), 0, 0
    if on_bytes:
        on_bytes(there, remote.size)
    for offset, chunk in _body(http, url, remote, there):
        if offset != there:
            file.truncate(offset)
            digest, there, resumed_from = hashlib.sha256(), 0, 0
        file.write(chunk)
        digest.update(chunk)
        there += len(chunk)
        if on_bytes:
            on_bytes(there, remote.size)
    file.flush()
    return Received(there, digest.hexdigest(), remote.sha256 is not None, resumed_from)


def _body(
    http: httpx.Client, url: str, remote: Remote, start: int, stop: int | None = None
) -> Iterator[tuple[int, bytes]]:
    """(offset, bytes) from `start` to the end; an offset of 0 after a later one means: from the top again.

    With `stop` only up to there, and never from the top again.
    """
    offset, fruitless = start, 0
    end = remote.size if stop is None else stop
    while end is None or offset < end:
        before = offset
        try:
            for at, chunk in _one_connection(http, url, remote, offset, stop):
                yield at, chunk
                offset = at + len(chunk)
            if end is None or offset >= end:
                return
            problem = "the connection closed early"
        except httpx.TransportError as error:
            problem = str(error) or type(error).__name__
        fruitless = 0 if offset != before else fruitless + 1
        if fruitless >= _FRUITLESS_TRIES:
            raise NotReachable(url, problem)
        time.sleep(min(0.1 * 2**fruitless, 5.0))


def _one_connection(
    http: httpx.Client, url: str, remote: Remote, offset: int, stop: int | None
) -> Iterator[tuple[int, bytes]]:
    headers = dict(_AS_STORED)
    if offset or stop is not None:
        headers["Range"] = f"bytes={offset}-{'' if stop is None else stop - 1}"
        if remote.etag and not remote.etag.startswith("W/"):
            headers["If-Range"] = remote.etag
    with _opened(http, url, headers) as (response, elsewhere):
        if elsewhere:
            _must_be_as_long(response, url, remote)
        elif stop is not None:
            _must_be_the_same(response, url, remote)
        check(response)
        if response.status_code == 200 and stop is None:
            offset = 0
        elif response.status_code != 206 or not _continues(response, offset):
            raise UnexpectedResponse(url, f"GET got status {response.status_code} to a request for its bytes")
        for chunk in response.iter_raw():
            if http.is_closed:  # cancelled; the connection to another host is not one of this client's
                raise NotReachable(url, "the client was closed")
            if stop is not None and offset + len(chunk) > stop:
                raise UnexpectedResponse(url, "more bytes than were asked for")
            yield offset, chunk
            offset += len(chunk)
    if elsewhere and stop is not None and look(http, url).etag != remote.etag:
        raise Changed(url)


@contextlib.contextmanager
def _opened(http: httpx.Client, url: str, headers: dict[str, str]) -> Iterator[tuple[httpx.Response, bool]]:
    """The response to a GET, or what it was redirected to; True: that is another host's (a bucket's).

    Another host is not told the key, nor asked by our ETag: it has tags of its own.
    """
    with http.stream("GET", url, headers=headers) as response:
        if response.status_code != 307:
            yield response, False
            return
        target = response.url.join(response.headers.get("location", ""))
        same_host = target.netloc == response.url.netloc and target.scheme == response.url.scheme
    if same_host:
        with http.stream("GET", target, headers=headers) as response:
            yield response, False
        return
    plain = {name: value for name, value in headers.items() if name != "If-Range"}
    with httpx.Client(timeout=http.timeout) as other, other.stream("GET", target, headers=plain) as response:
        yield response, True


def _must_be_as_long(response: httpx.Response, url: str, remote: Remote) -> None:
    match = _CONTENT_RANGE.match(response.headers.get("content-range", ""))
    size = int(match[3]) if match else content_length(response)
    if response.status_code in {200, 206} and remote.size is not None and size != remote.size:
        raise Changed(url)


def _must_be_the_same(response: httpx.Response, url: str, remote: Remote) -> None:
    """200 to If-Range: another version; 202: it is being made anew; 416: it is shorter by now."""
    etag = response.headers.get("etag", remote.etag)
    if response.status_code in {202, 416} or (response.status_code in {200, 206} and etag != remote.etag):
        raise Changed(url)


def _continues(response: httpx.Response, offset: int) -> bool:
    match = _CONTENT_RANGE.match(response.headers.get("content-range", ""))
    return match is not None and int(match[1]) == offset
