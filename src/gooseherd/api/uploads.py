"""Takes in the files that clients send, piece by piece, and puts them into the catalog (docs/http-api.md)."""

from __future__ import annotations

import asyncio
import hashlib
import logging
import secrets
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any, Final

from gooseherd.api.catalog import Catalog
from gooseherd.api.server.refusals import BodyTooLarge
from gooseherd.blocking import in_thread
from gooseherd.control.loop import Loop
from gooseherd.control.wakeups import Wakeup
from gooseherd.domain.errors import GooseherdError, InvalidInput, LimitReached, NotFound
from gooseherd.domain.formats import resolve
from gooseherd.domain.job import Requester
from gooseherd.domain.local_ids import id_for
from gooseherd.domain.ports.store import STORE_AWAY
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
_SHARE_OF_ROOM: Final = 0.75
"""What one owner's unfinished uploads may reserve of it: the others want to begin some, too."""
_UNFINISHED: Final = 500
_UNFINISHED_OF_OWNER: Final = 100
_RECORDS: Final = 10_000
_RECORDS_OF_OWNER: Final = 5_000
"""Unfinished or told about: of empty files none is ever unfinished."""
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
        self._creating = asyncio.Lock()
        self.loop: Loop[Sequence[FileUpload], FileUpload] = Loop(
            "uploads",
            observe=self._expired,
            plan=lambda expired: expired,
            act=self._forget_expired,
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
        async with self._creating:
            await self._check_limits(upload)
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
                if offset + len(held) + len(chunk) > upload.length:
                    raise BodyTooLarge(upload.length)
                held += chunk
                if len(held) >= _WRITTEN_AT_ONCE:
                    block = bytes(held)
                    held.clear()
                    offset = await self._write(upload, progress, turn, offset, block)
                    looked_at += len(block)
                if looked_at >= _LOOKED_AT_EVERY:
                    looked_at = 0
                    await self._check_room(upload.length - offset)
        finally:
            if held:
                await self._write(upload, progress, turn, offset, bytes(held))
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
        async with self._registering:
            upload, _ = await self.read(upload_id, owner)
            await self._discard(upload)

    async def remove_files(self, entry: SourceFile) -> None:
        """The entry was taken out: so are the files that were uploaded for it, unless another names them.

        Trouble is logged: the entry is gone.
        """
        urls = set(entry.addresses)
        try:
            async with self._registering:
                for other in await self._catalog.of_the_same_content(entry, 1000):
                    urls.difference_update(other.addresses)
                for url in urls:
                    if await in_thread(self._folder.remove, url):
                        _log.info("an uploaded file was removed", extra={"file": entry.name})
        except (OSError, *STORE_AWAY):
            _log.warning("an uploaded file was not removed", extra={"file": entry.name}, exc_info=True)

    # -- writing -----------------------------------------------------------------------------

    async def _write(
        self, upload: FileUpload, progress: _Progress, turn: int, offset: int, chunk: bytes
    ) -> int:
        """Where the next bytes go. A request that ends meanwhile leaves none half counted."""
        return await asyncio.shield(self._write_in_turn(upload, progress, turn, offset, chunk))

    async def _write_in_turn(
        self, upload: FileUpload, progress: _Progress, turn: int, offset: int, chunk: bytes
    ) -> int:
        async with progress.writing:
            end = offset + len(chunk)
            # What was right when the request came may be no longer: the one before had bytes on their way.
            if progress.turn != turn or progress.offset != offset or end > upload.length:
                raise WrongOffset(progress.offset)
            if offset == 0:
                progress.digest = hashlib.md5(usedforsecurity=False)
            await self._on_disk(self._folder.append, upload.upload_id, offset, chunk)
            if progress.digest is not None:
                await in_thread(progress.digest.update, chunk)
            progress.offset = end
            return end

    async def _finish(self, upload: FileUpload, progress: _Progress) -> FileUpload:
        """All of it is here: into its place, and into the catalog. As often as need be."""
        async with progress.writing:
            if not upload.complete and progress.digest is None:
                progress.digest = await self._on_disk(self._folder.md5, upload.upload_id)
            async with self._registering:
                # Another request may have been quicker.
                upload, _, _ = await in_thread(self._folder.read, upload.upload_id)
                if not upload.complete:
                    md5 = progress.digest.hexdigest()
                    if upload.md5 not in (None, md5):
                        await self._discard(upload)
                        raise InvalidInput("md5", f"the file that arrived has {md5}")
                    upload = replace(upload, digest=md5)
                    await self._on_disk(self._folder.save, upload)
                await self._on_disk(self._folder.keep, upload)
                upload = await self._register(upload)
                self._open.pop(upload.upload_id, None)
                return upload

    async def _register(self, upload: FileUpload) -> FileUpload:
        if upload.index_of is not None:
            with suppress(NotFound):  # of its file: that may come later
                data, _, _ = await in_thread(self._folder.read, upload.index_of)
                if data.complete:
                    await self._on_disk(self._folder.keep, data)
                    await self._register(data)
            return (await in_thread(self._folder.read, upload.upload_id))[0]
        path = self._folder.path_of(upload)
        file_format = resolve(upload.file_format)
        if file_format is None:
            raise InvalidInput("format", f"{upload.file_format!r} is no longer known")
        local_id, entry = await self._place(upload, path.as_uri())
        if entry is None and upload.file is not None:
            return upload  # somebody has taken it out since, or put another file there
        known = entry or SourceFile(
            dcc=upload.dcc,
            local_id=local_id,
            filename=upload.filename,
            file_format=file_format,
            access_url=path.as_uri(),
            md5=upload.digest,
            size_in_bytes=upload.length,
            access_level=upload.access_level,
        )
        sidecars = {sidecar.kind: sidecar for sidecar in known.sidecars}
        adopted = []
        for one in await self._indexes_of(upload):
            kind, url = index_kind(one.filename), self._folder.path_of(one).as_uri()
            assert kind is not None  # or it would not have been taken
            if sidecars.setdefault(kind, Sidecar(kind, url, one.length)).access_url == url:
                adopted.append(one)
        # What was changed of the entry since, its status above all, stays as it is.
        wanted = replace(known, sidecars=tuple(sidecars.values()))
        if wanted != entry:
            await self._catalog.put([wanted])
        for one in (upload, *adopted):
            if one.file != wanted.name:
                await self._on_disk(self._folder.save, replace(one, file=wanted.name))
        if upload.file is None:
            _log.info("a file was uploaded", extra={"file": wanted.name, "bytes": upload.length})
        return replace(upload, file=wanted.name)

    async def _indexes_of(self, upload: FileUpload) -> list[FileUpload]:
        """Those that are here, the oldest first."""
        found = []
        for one, _, _ in await in_thread(list, self._folder.all()):
            if one.index_of == upload.upload_id and one.complete:
                with suppress(NotFound):  # its file went with an entry
                    await self._on_disk(self._folder.keep, one)
                    found.append(one)
        return sorted(found, key=lambda one: one.created_at)

    async def _place(self, upload: FileUpload, url: str) -> tuple[LocalId, SourceFile | None]:
        """The id of the entry that this upload has become, and the entry; else one that is free.

        Nobody else's entry is touched, not even one of the same bytes: no other upload has the URL.
        """
        first = id_for(upload.filename)
        if upload.file is not None:
            first = upload.file.partition("/")[2]
        for number in range(1, _NAMES_TRIED):
            tail = f"-{number}" if number > 1 else ""
            candidate = LocalId(first[: 255 - len(tail)] + tail)
            try:
                known = await self._catalog.entry(upload.dcc, candidate, EVERYTHING)
            except NotFound:
                return candidate, None
            if known.access_url == url:
                return candidate, await self._catalog.refreshed(known)
            if upload.file is not None:
                return candidate, None
        raise InvalidInput("filename", f"too many files are called {upload.filename}")

    # -- room and time -----------------------------------------------------------------------

    async def _check_limits(self, upload: FileUpload) -> None:
        """Of all, and of its owner."""
        records = await in_thread(list, self._folder.all())
        of_owner = [one for one in records if one[0].owner == upload.owner]
        room = await in_thread(self._folder.free_bytes) - _ROOM_LEFT
        for counted, most, most_unfinished, share in (
            (of_owner, _RECORDS_OF_OWNER, _UNFINISHED_OF_OWNER, _SHARE_OF_ROOM),
            (records, _RECORDS, _UNFINISHED, 1.0),
        ):
            unfinished = [(one.length, there) for one, there, _ in counted if not one.complete]
            if len(unfinished) >= most_unfinished:
                raise LimitReached("unfinished uploads", most_unfinished, len(unfinished))
            if len(counted) >= most:
                raise LimitReached("uploads", most, len(counted))
            if upload.length + sum(length - there for length, there in unfinished) > room * share:
                raise UploadStorageFull

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
        """Also finishes what a process that ended in that moment had, all of it, and not registered."""
        expired = []
        for found, offset, changed in await in_thread(list, self._folder.all()):
            upload = found
            here = found.complete or (offset == found.length and found.upload_id not in self._open)
            if here and found.file is None:
                try:
                    upload = await self._finish(found, _Progress(offset))
                except STORE_AWAY:
                    raise
                except GooseherdError as error:
                    # That one may expire; the others go on.
                    about = {"upload": upload.upload_id, "error": str(error)}
                    _log.warning("an upload cannot be registered", extra=about)
            if self._has_expired(upload, changed):
                expired.append(upload)
        return expired

    def _has_expired(self, upload: FileUpload, changed: float) -> bool:
        return time.time() - changed > (_TOLD_SECONDS if upload.file else self.expires_seconds)

    async def _forget_expired(self, upload: FileUpload) -> None:
        async with self._registering:
            with suppress(NotFound):
                upload, _, changed = await in_thread(self._folder.read, upload.upload_id)
                if self._has_expired(upload, changed):
                    await self._discard(upload)

    async def _discard(self, upload: FileUpload) -> None:
        """With `_registering` held, of the record as it is now."""
        self._open.pop(upload.upload_id, None)
        if upload.complete and upload.file is None:  # no entry names it
            await in_thread(self._folder.remove, self._folder.path_of(upload).as_uri())
        await in_thread(self._folder.forget, upload.upload_id)
