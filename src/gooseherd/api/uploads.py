"""Takes in the files that clients send, piece by piece, and puts them into the catalog (docs/uploads.md)."""

from __future__ import annotations

import asyncio
import logging
import secrets
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

from gooseherd.api.catalog import Catalog
from gooseherd.api.server.refusals import BodyTooLarge
from gooseherd.blocking import in_thread
from gooseherd.control.loop import Loop
from gooseherd.control.wakeups import Wakeup
from gooseherd.domain.errors import InvalidInput, LimitReached, NotFound, StoreUnavailable
from gooseherd.domain.formats import resolve
from gooseherd.domain.job import Requester
from gooseherd.domain.local_ids import id_for
from gooseherd.domain.source import LocalId, Sidecar, SourceFile
from gooseherd.domain.upload import (
    FileUpload,
    UploadId,
    UploadStorageFull,
    WrongOffset,
    index_kind,
    wanted_upload,
)
from gooseherd.domain.visibility import EVERYTHING
from gooseherd.storage.uploads import UploadFolder

_log = logging.getLogger(__name__)

_WRITTEN_AT_ONCE: Final = 1 << 20
_LOOKED_AT_EVERY: Final = 64 << 20
"""Bytes between two looks at how much room is left: others write, too."""
_ROOM_LEFT: Final = 1 << 30
"""Bytes that stay free: work on files needs room, and so does everybody else."""
_UNFINISHED: Final = 500
_TOLD_SECONDS: Final = 3600.0
"""How long it is told which entry an upload became; an index that belongs to it may still come."""
_NAMES_TRIED: Final = 1000


@dataclass(slots=True, eq=False)
class _Progress:
    """An upload that is under way here."""

    offset: int
    turn: int = 0
    """Of the request that may write: the newest. The one before may hang in a connection that is gone."""
    digest: Any = None
    """Of the bytes before `offset`; None: they have to be read again."""
    writing: asyncio.Lock = field(default_factory=asyncio.Lock)


class Uploads:
    """All uploads of this machine. One process at a time has the folder."""

    def __init__(
        self,
        folder: UploadFolder,
        catalog: Catalog,
        *,
        most_bytes: int,
        expires_seconds: float,
        without_key: bool,
        tick_seconds: float = 600.0,
    ) -> None:
        """`without_key`: whoever reaches the service may upload, from no page but its own."""
        self.most_bytes = most_bytes
        self.expires_seconds = expires_seconds
        self.without_key = without_key
        self._folder = folder
        self._catalog = catalog
        self._open: dict[UploadId, _Progress] = {}
        self._registering = asyncio.Lock()
        self.loop: Loop[Sequence[FileUpload], FileUpload] = Loop(
            "uploads",
            observe=self._expired,
            plan=lambda expired: expired,
            act=self._forget,
            wakeup=Wakeup(),
            tick_seconds=tick_seconds,
        )

    async def create(self, owner: Requester, length: int, metadata: dict[str, str]) -> FileUpload:
        """Begin one.

        Raises:
            InvalidInput: naming what cannot be used.
            BodyTooLarge: it is longer than uploads may be.
            UploadStorageFull: there is no room for it beside those that are under way.
            LimitReached: too many are under way.
        """
        if length > self.most_bytes:
            raise BodyTooLarge(self.most_bytes)
        upload = wanted_upload(UploadId(secrets.token_hex(16)), owner, length, metadata, time.time())
        if upload.index_of is not None:
            data, _ = await self.read(upload.index_of, owner)
            upload = replace(upload, dcc=data.dcc, access_level=data.access_level)
        under_way = [one for one in await in_thread(list, self._folder.all()) if not one[0].complete]
        if len(under_way) >= _UNFINISHED:
            raise LimitReached("unfinished uploads", _UNFINISHED, len(under_way))
        missing = sum(one.length - there for one, there, _ in under_way)
        await self._check_room(length + missing)
        await self._on_disk(self._folder.create, upload)
        if not length:
            await self._finish(upload, _Progress(0))
        return upload

    async def read(self, upload_id: str, owner: Requester | None) -> tuple[FileUpload, int]:
        """The upload and how many bytes of it are here. None: the admin asks.

        Raises:
            NotFound: none of this owner's.
        """
        upload, offset, _ = await in_thread(self._folder.read, upload_id)
        if owner is not None and upload.owner != owner:
            raise NotFound("upload", upload_id)
        progress = self._open.get(upload.upload_id)
        return upload, progress.offset if progress is not None and not upload.complete else offset

    async def append(
        self, upload_id: str, owner: Requester | None, offset: int, body: AsyncIterator[bytes]
    ) -> tuple[FileUpload, int]:
        """Take more bytes; as `read` after that. What has arrived when the connection breaks is kept.

        Raises:
            WrongOffset: they do not begin where the upload is.
            BodyTooLarge: they go beyond its length.
            UploadStorageFull: the disk is full; what is here stays.
            InvalidInput: it is whole, and not what its md5 says.
        """
        upload, there = await self.read(upload_id, owner)
        if offset != there:
            raise WrongOffset(there)
        if upload.complete:
            return upload, there
        progress = self._open.setdefault(upload.upload_id, _Progress(there))
        progress.turn += 1
        turn, held, looked_at = progress.turn, bytearray(), 0
        try:
            async for chunk in body:
                if progress.offset + len(held) + len(chunk) > upload.length:
                    raise BodyTooLarge(upload.length)
                held += chunk
                if len(held) >= _WRITTEN_AT_ONCE:
                    await self._write(upload, progress, turn, bytes(held))
                    looked_at += len(held)
                    held.clear()
                if looked_at >= _LOOKED_AT_EVERY:
                    looked_at = 0
                    await self._check_room(upload.length - progress.offset)
        finally:
            if held:
                await asyncio.shield(self._write(upload, progress, turn, bytes(held)))
        await self._on_disk(self._folder.flush, upload.upload_id)
        if progress.offset == upload.length:
            upload = await self._finish(upload, progress)
        return upload, progress.offset

    async def of_owner(self, owner: Requester) -> list[tuple[FileUpload, int]]:
        """All of theirs, the oldest first."""
        found = [
            upload for upload, _, _ in await in_thread(list, self._folder.all()) if upload.owner == owner
        ]
        found.sort(key=lambda upload: upload.created_at)
        return [await self.read(upload.upload_id, owner) for upload in found]

    async def end(self, upload_id: str, owner: Requester | None) -> None:
        """Give it up. What has become a catalog entry stays. Raises NotFound."""
        upload, _ = await self.read(upload_id, owner)
        await self._forget(upload)

    async def remove_files(self, entry: SourceFile) -> None:
        """The entry was taken out: so are the files that were uploaded for it, unless another names them.

        Trouble is logged: the entry is gone.
        """
        urls = {entry.access_url, *(sidecar.access_url for sidecar in entry.sidecars)}
        try:
            for other in await self._catalog.of_the_same_content(entry, 1000):
                urls -= {other.access_url, *(sidecar.access_url for sidecar in other.sidecars)}
            for url in urls:
                if await in_thread(self._folder.remove, url):
                    _log.info("an uploaded file was removed", extra={"file": entry.name})
        except (OSError, StoreUnavailable):
            _log.warning("an uploaded file was not removed", extra={"file": entry.name}, exc_info=True)

    # -- writing -----------------------------------------------------------------------------

    async def _write(self, upload: FileUpload, progress: _Progress, turn: int, chunk: bytes) -> None:
        async with progress.writing:
            if progress.turn != turn:
                raise WrongOffset(progress.offset)
            if progress.digest is None and progress.offset == 0:
                progress.digest = await in_thread(self._folder.md5, upload.upload_id)
            await self._on_disk(self._folder.append, upload.upload_id, progress.offset, chunk)
            if progress.digest is not None:
                await in_thread(progress.digest.update, chunk)
            progress.offset += len(chunk)

    async def _finish(self, upload: FileUpload, progress: _Progress) -> FileUpload:
        """All of it is here: into its place, and into the catalog."""
        async with progress.writing, self._registering:
            # Another request may have been quicker.
            upload, _, _ = await in_thread(self._folder.read, upload.upload_id)
            if not upload.complete:
                digest = progress.digest or await in_thread(self._folder.md5, upload.upload_id)
                md5 = digest.hexdigest()
                if upload.md5 not in (None, md5):
                    await self._forget(upload)
                    raise InvalidInput("md5", f"the file that arrived has {md5}")
                await self._on_disk(self._folder.keep, upload, md5)
                upload = replace(upload, digest=md5)
                await self._on_disk(self._folder.save, upload)
            upload = await self._register(upload)
            self._open.pop(upload.upload_id, None)
            return upload

    async def _register(self, upload: FileUpload) -> FileUpload:
        if upload.index_of is not None:
            try:
                data, _, _ = await in_thread(self._folder.read, upload.index_of)
            except NotFound:
                return upload
            if data.complete and (data.file is None or await self._is_there(data.file)):
                data = await self._register(data)
                upload = replace(upload, file=data.file)
                await self._on_disk(self._folder.save, upload)
            return upload
        indexes = [
            one
            for one, _, _ in await in_thread(list, self._folder.all())
            if one.index_of == upload.upload_id and one.complete
        ]
        sidecars = []
        for one in indexes:
            kind = index_kind(one.filename)
            assert kind is not None  # or it would not have been taken
            sidecars.append(Sidecar(kind, self._folder.path_of(one).as_uri(), one.length))
        path = self._folder.path_of(upload)
        file_format = resolve(upload.file_format)
        if file_format is None:
            raise InvalidInput("format", f"{upload.file_format!r} is no longer known")
        entry = SourceFile(
            dcc=upload.dcc,
            local_id=await self._local_id(upload, path.as_uri()),
            filename=upload.filename,
            file_format=file_format,
            access_url=path.as_uri(),
            md5=upload.digest,
            size_in_bytes=upload.length,
            access_level=upload.access_level,
            sidecars=tuple(sidecars),
        )
        await self._catalog.put([entry])
        upload = replace(upload, file=entry.name)
        await self._on_disk(self._folder.save, upload)
        _log.info("a file was uploaded", extra={"file": entry.name, "bytes": upload.length})
        return upload

    async def _is_there(self, name: str) -> bool:
        """Whether nobody has taken the entry out since."""
        dcc, _, local_id = name.partition("/")
        try:
            await self._catalog.entry(dcc, local_id, EVERYTHING)
        except NotFound:
            return False
        return True

    async def _local_id(self, upload: FileUpload, url: str) -> LocalId:
        """An id that is free, or is this very file's."""
        first = id_for(upload.filename)
        for number in range(1, _NAMES_TRIED):
            tail = f"-{number}" if number > 1 else ""
            candidate = first[: 255 - len(tail)] + tail
            try:
                known = await self._catalog.entry(upload.dcc, candidate, EVERYTHING)
            except NotFound:
                return LocalId(candidate)
            if known.access_url == url and known.access_level is upload.access_level:
                return LocalId(candidate)
        raise InvalidInput("filename", f"too many files are called {upload.filename}")

    # -- room and time -----------------------------------------------------------------------

    async def _check_room(self, wanted: int) -> None:
        if wanted + _ROOM_LEFT > await in_thread(self._folder.free_bytes):
            raise UploadStorageFull

    async def _on_disk(self, call: Any, *arguments: Any) -> Any:
        try:
            return await in_thread(call, *arguments)
        except FileNotFoundError:
            raise NotFound("upload", "that was given up meanwhile") from None
        except OSError as error:
            _log.warning("an upload cannot be stored", extra={"error": error.strerror or str(error)})
            raise UploadStorageFull from error

    async def _expired(self) -> Sequence[FileUpload]:
        """Also registers what a process that ended in that moment has stored, and not registered."""
        now, expired = time.time(), []
        for upload, _, changed in await in_thread(list, self._folder.all()):
            if upload.complete and upload.file is None and upload.index_of is None:
                await self._finish(upload, _Progress(upload.length))
            elif now - changed > (_TOLD_SECONDS if upload.file else self.expires_seconds):
                expired.append(upload)
        return expired

    async def _forget(self, upload: FileUpload) -> None:
        self._open.pop(upload.upload_id, None)
        if upload.complete and upload.file is None:  # an index without its file
            await in_thread(self._folder.remove, self._folder.path_of(upload).as_uri())
        await in_thread(self._folder.forget, upload.upload_id)
