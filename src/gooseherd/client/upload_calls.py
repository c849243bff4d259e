"""The calls that send files to the service, by tus (1.0.0): what broke off goes on where it was."""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final
from urllib.parse import quote, urlsplit

import httpx

from gooseherd.client.calls import Calls, Outage, given
from gooseherd.client.errors import Busy, NotReachable, Refused, UnexpectedResponse
from gooseherd.client.models import Upload, Uploads

_TUS: Final = {"Tus-Resumable": "1.0.0"}
_BODY_BYTES: Final = 4 << 20
"""Of one request: below API_MAX_BODY_BYTES, and as much as a broken connection loses at most."""
_BLOCK_BYTES: Final = 256 << 10
_FINISH_SECONDS: Final = 600.0
"""After a restart the service reads the whole file for its digest before it registers it."""


class UploadCalls(Calls):
    """Files that the service keeps itself, where it takes any."""

    async def upload(
        self,
        path: Path,
        *,
        filename: str | None = None,
        collection: str | None = None,
        file_format: str | None = None,
        access: str | None = None,
        index_of: str | None = None,
        on_begun: Callable[[str], None] | None = None,
        on_bytes: Callable[[int, int], None] | None = None,
    ) -> Upload:
        """Send a file, which becomes a catalog entry (`file` of what is returned).

        `access` is its `data_access_level`; `index_of` the id of the upload whose file this is an index of.
        Broken connections and restarts of the service are survived, each for a minute. Whoever wants to
        `resume_upload` in another process keeps the id that `on_begun` is called with: without a key it is
        found nowhere else.

        Raises:
            Denied: this service takes no uploads, or none of ours.
            UnexpectedResponse: the file became shorter while it was sent.
        """
        size = await self.transport.work(lambda _: path.stat().st_size)
        about = {
            "filename": filename or path.name,
            "collection": collection,
            "format": file_format,
            "access": access,
            "index_of": index_of,
        }
        metadata = ",".join(f"{name} {_base64(value)}" for name, value in given(about).items())
        headers = {**_TUS, "Upload-Length": str(size), "Upload-Metadata": metadata}
        response = await self._send("POST", "/uploads", headers=headers)
        upload_id = urlsplit(response.headers.get("location", "")).path.rstrip("/").rsplit("/", 1)[-1]
        if not upload_id:
            raise UnexpectedResponse(self.endpoint.url("/uploads"), "no Location of the upload")
        if on_begun:
            on_begun(upload_id)
        return await self.resume_upload(upload_id, path, on_bytes=on_bytes)

    async def resume_upload(
        self, upload_id: str, path: Path, *, on_bytes: Callable[[int, int], None] | None = None
    ) -> Upload:
        """Go on with an upload where it was left; as `upload`."""
        outage, furthest = Outage(), -1

        def arrived(offset: int, length: int) -> None:
            nonlocal furthest
            if offset > furthest:
                furthest = offset
                outage.is_over()
            if on_bytes:
                on_bytes(offset, length)

        while True:
            failure: NotReachable | Busy
            try:
                record = await self.upload_state(upload_id)
                arrived(record.offset, record.length)
                offset = record.offset
                while not record.complete and offset < record.length:
                    stop = min(offset + _BODY_BYTES, record.length)
                    await self._send_bytes(upload_id, path, offset, stop)
                    offset = stop
                    arrived(offset, record.length)
                if not _is_registered(record):
                    record = await self.upload_state(upload_id)
                if not _is_registered(record) and record.offset == record.length:
                    # The service was stopped between the last byte and the entry.
                    await self._send_bytes(upload_id, path, record.length, record.length)
                    record = await self.upload_state(upload_id)
                if _is_registered(record):
                    return record
                url = self.endpoint.url(_upload(upload_id))
                failure = NotReachable(url, "all bytes have arrived, but the file was not registered")
            except (NotReachable, Busy) as error:
                failure = error
            except Refused as error:
                # Another request of ours got further than its answer.
                if error.status != 409:
                    raise
                failure = NotReachable(self.endpoint.url(_upload(upload_id)), str(error))
            await self.transport.sleep(outage.pause(failure))

    async def uploads(self) -> Uploads:
        """Whether this caller may upload, up to which size, and their `uploads`; none without a key."""
        return await self._record(Uploads, "GET", "/uploads")

    async def upload_state(self, upload_id: str) -> Upload:
        """How far an upload is, and the catalog entry it has become. Raises Missing."""
        return await self._record(Upload, "GET", _upload(upload_id))

    async def abandon_upload(self, upload_id: str) -> None:
        """Give it up; what was sent goes. Raises Missing."""
        await self._send("DELETE", _upload(upload_id), headers=_TUS)

    async def _send_bytes(self, upload_id: str, path: Path, start: int, stop: int) -> None:
        headers = {
            **_TUS,
            "Upload-Offset": str(start),
            "Content-Type": "application/offset+octet-stream",
            "Content-Length": str(stop - start),
        }
        content = self.transport.body(_slice(path, start, stop))
        seconds = self.endpoint.timeout_seconds
        timeout = httpx.Timeout(seconds, read=seconds if start < stop else _FINISH_SECONDS)
        await self._send("PATCH", _upload(upload_id), headers=headers, content=content, timeout=timeout)


def _slice(path: Path, start: int, stop: int) -> Iterator[bytes]:
    with path.open("rb") as file:
        file.seek(start)
        while start < stop:
            block = file.read(min(_BLOCK_BYTES, stop - start))
            if not block:
                raise UnexpectedResponse(path.name, "the file became shorter while it was sent")
            start += len(block)
            yield block


def _is_registered(record: Upload) -> bool:
    """An index may come before its file, which it is registered with then."""
    return record.complete and (record.file is not None or record.index_of is not None)


def _upload(upload_id: str) -> str:
    return f"/uploads/{quote(upload_id, safe='')}"


def _base64(text: str) -> str:
    return base64.b64encode(text.encode()).decode()
