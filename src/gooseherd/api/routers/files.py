"""The catalog: list, search, look up; register, import and remove with the admin key."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Annotated, Any, Final

from fastapi import APIRouter, Query, Request
from fastapi.responses import JSONResponse

from gooseherd.api.catalog import Catalog
from gooseherd.api.dependencies import Dependencies
from gooseherd.api.file_states import FileState, FileStates
from gooseherd.api.models.files import FileList, FileView, Imported, LineError, Registered, Removed
from gooseherd.api.models.jobs import JobSummary
from gooseherd.api.names import Names
from gooseherd.api.openapi import routes_under
from gooseherd.api.private_work import as_seen
from gooseherd.api.request_context import RequestContext
from gooseherd.api.route_parameters import Admin, CurrentRequest, body_of, problems
from gooseherd.control.queue_statistics import QueuePlace
from gooseherd.control.submission import Submissions
from gooseherd.domain.errors import (
    InvalidInput,
    NotCancellable,
    NotFound,
    OutboundRefused,
)
from gooseherd.domain.foreign_json import read_json
from gooseherd.domain.formats import NAMES, resolve
from gooseherd.domain.job import JobId
from gooseherd.domain.ports.source import Sources
from gooseherd.domain.ports.store import STORE_AWAY, FileQuery
from gooseherd.domain.source import MOST_BYTES, AccessLevel, SidecarKind, SourceFile, parse_dcc

_log = logging.getLogger(__name__)

LIST_LIMIT: Final = 1000
BATCH: Final = 500
LINE_LIMIT_BYTES: Final = 256 * 1024
"""An entry's text fields have 4096 characters at most, so an honest line is far shorter."""
ERRORS_SHOWN: Final = 100
SAME_CONTENT_SHOWN: Final = 10

_EXAMPLE: Final = {
    "dcc": "4dn",
    "local_id": "4dnfi1",
    "filename": "reads.bam",
    "file_format": "format_2572",
    "access_url": "https://files.example.org/reads.bam",
    "md5": "9e107d9d372bb6826bd81d3542a419d6",
    "size_in_bytes": 21300000,
    "data_access_level": "public",
    "sidecars": [{"kind": "bai", "access_url": "https://files.example.org/reads.bam.bai"}],
}


_TEXT: Final = {"type": ["string", "null"], "maxLength": 4096}
_ENTRY_SCHEMA: Final[dict[str, Any]] = {
    "title": "Entry",
    "type": "object",
    "required": ["dcc", "local_id", "access_url"],
    "properties": {
        "dcc": {"type": "string", "minLength": 1, "maxLength": 64},
        "local_id": {"type": "string", "minLength": 1, "maxLength": 255},
        "access_url": {
            "type": "string",
            "minLength": 1,
            "maxLength": 4096,
            "description": "https://, drs:// or s3://; file:// and http:// where settings allow them.",
        },
        "filename": {**_TEXT, "description": "Unset: the end of the address."},
        "file_format": {**_TEXT, "description": "Name or EDAM id. Unset: by the file name's suffix."},
        "md5": _TEXT,
        "sha256": _TEXT,
        "size_in_bytes": {"type": ["integer", "null"], "minimum": 0, "maximum": MOST_BYTES},
        "version_tag": {**_TEXT, "description": "Upstream's ETag or date: the identity without a digest."},
        "data_access_level": {**_TEXT, "description": "public (unset), consortium or protected."},
        "status": {**_TEXT, "description": "active (unset); deleted and withdrawn files are 410."},
        "sidecars": {
            "type": ["array", "null"],
            "items": {
                "type": "object",
                "required": ["kind", "access_url"],
                "properties": {
                    "kind": {"enum": [str(kind) for kind in SidecarKind]},
                    "access_url": {"type": "string", "minLength": 1, "maxLength": 4096},
                    "size_in_bytes": {"type": ["integer", "null"], "minimum": 0, "maximum": MOST_BYTES},
                },
            },
        },
    },
}
"""What domain.source reads; a portal's dump may have more members."""


def _body(
    media_type: str, schema: Mapping[str, Any], example: object, *, required: bool = True
) -> dict[str, Any]:
    return {
        "requestBody": {"required": required, "content": {media_type: {"schema": schema, "example": example}}}
    }


def file_routes(dependencies: Dependencies, catalog: Catalog, names: Names) -> APIRouter:
    """The routes under /files."""
    router = routes_under("catalog")
    states = FileStates(dependencies)

    @router.get("/files", responses=problems(422, 503))
    async def files(
        context: CurrentRequest,
        q: Annotated[
            str | None, Query(max_length=200, description="Start of an id or of a word of the name.")
        ] = None,
        dcc: str | None = None,
        file_format: Annotated[str | None, Query(alias="format", max_length=100)] = None,
        package: Annotated[
            str | None, Query(max_length=400, description="Imported from this data package; without `q`.")
        ] = None,
        with_states: Annotated[
            bool,
            Query(alias="states", description="`false`: without `job`, and `ready` only where it is plain."),
        ] = True,
        limit: Annotated[int, Query(ge=1, le=200)] = 50,
        after: Annotated[str | None, Query(max_length=8192, description="`next` of the page before.")] = None,
    ) -> FileList:
        """Catalog entries by (dcc, local_id)."""
        wanted = resolve(file_format) if file_format else None
        if file_format and wanted is None:
            known = ", ".join(NAMES)
            raise InvalidInput(
                "format", f"{file_format!r} is no known format: give an EDAM id or one of {known}"
            )
        if package is not None and q:
            raise InvalidInput("package", "is not searched by words: leave `q` out")
        page = await catalog.search(
            FileQuery(
                package=package,
                dcc=parse_dcc(dcc) if dcc else None,
                text=q or None,
                file_format=wanted,
                limit=limit,
                after=after,
                visible=context.caller.visible,
            )
        )
        found = await states.of(page.files) if with_states else states.without_looking(page.files)
        now = await dependencies.jobs.now() if any(state.job for state in found) else None
        return FileList(
            files=[
                _view(names, context, entry, state, now)
                for entry, state in zip(page.files, found, strict=True)
            ],
            next=page.next,
        )

    @router.get("/files/{dcc}/{local_id}", responses=problems(404, 422, 503))
    async def file(context: CurrentRequest, dcc: str, local_id: str) -> FileView:
        """One entry: what it is, whether it is ready, the job on it, and where all its parts are."""
        entry = await catalog.entry(dcc, local_id, context.caller.visible)
        state = await states.of_one(entry)
        now = place = None
        if state.job is not None:
            now = await dependencies.jobs.now()
            place = await dependencies.queue.place(state.job)
        return _view(names, context, entry, state, now, place)

    @router.delete("/files/{dcc}/{local_id}", responses=problems(401, 404, 422, 503))
    async def remove(context: Admin, dcc: str, local_id: str) -> Removed:
        """Take an entry out. Its job is cancelled unless another entry has the same content.

        A file that was uploaded goes with it. What was published stays in the cache, unless
        ARTIFACT_UNLISTED_SECONDS lets it go, and is
        served again when the same content is registered again.
        """
        entry = await catalog.remove(dcc, local_id)
        job_id, withdrawn, others = await _end_work_on(entry, dependencies.submissions, catalog)
        if dependencies.uploads is not None:
            await dependencies.uploads.remove_files(entry)
        return Removed(
            dcc=entry.dcc,
            local_id=entry.local_id,
            filename=entry.filename,
            access_url=entry.access_url,
            identity=str(entry.identity),
            same_content=[other.name for other in others],
            job_id=job_id,
            job_withdrawn=withdrawn,
        )

    @router.post(
        "/files",
        responses=problems(401, 413, 422, 503),
        openapi_extra=_body(
            "application/json",
            {
                "oneOf": [
                    _ENTRY_SCHEMA,
                    {"type": "array", "items": _ENTRY_SCHEMA, "minItems": 1, "maxItems": LIST_LIMIT},
                ]
            },
            _EXAMPLE,
        ),
    )
    async def register(request: Request, context: Admin) -> Registered:
        """Insert or replace one entry or a list; one that cannot be used refuses them all."""
        entries = _entries(await body_of(request, dependencies.body_limit_bytes), dependencies.sources)
        return Registered(imported=len(entries), new=await catalog.put(entries))

    @router.post(
        "/files/import",
        response_model=Imported,
        responses={**problems(401, 503), 422: {"model": Imported, "description": "Not one line was good"}},
        openapi_extra=_body(
            "application/x-ndjson", {"type": "string"}, json.dumps(_EXAMPLE) + "\n", required=False
        ),
    )
    async def bulk(request: Request, context: Admin) -> JSONResponse:
        """Insert or replace entries given as JSON lines, any number; a bad line costs only itself."""
        outcome = await _import(catalog, request.stream(), dependencies.sources)
        return JSONResponse(
            outcome.model_dump(), status_code=422 if outcome.failed and not outcome.imported else 200
        )

    return router


def _view(
    names: Names,
    context: RequestContext,
    entry: SourceFile,
    state: FileState,
    now: datetime | None,
    place: QueuePlace | None = None,
) -> FileView:
    """`now` is by the store's clock, where there is a job. Its bytes are for whoever sees the entry."""
    job = None
    if state.job is not None and now is not None:
        job = JobSummary.of(
            as_seen(state.job, context.caller), context.link, now=now, place=place, admin=context.is_admin
        )
    return FileView.of(
        entry,
        context.link,
        names.named_paths(entry, recipe=state.recipe, parts=state.parts),
        admin=context.is_admin,
        ready=state.ready,
        job=job,
        problem=state.obstacle,
        artifacts=names.artifact_paths(entry, state.recipe, state.parts) if state.parts else {},
    )


async def _end_work_on(
    removed: SourceFile, submissions: Submissions | None, catalog: Catalog
) -> tuple[JobId | None, bool, Sequence[SourceFile]]:
    """The job on the content of a removed entry, whether it was withdrawn, and who else has the content.

    Looked up after the removal: of two entries of one content that are removed at the same time, the
    later one finds nobody. Who registers the content again after this look may meet a cancelled job,
    and asking again starts another. The entry is gone whatever happens here: trouble is logged, not raised.
    """
    try:
        others = await catalog.of_the_same_content(removed, SAME_CONTENT_SHOWN)
        job = await submissions.active_job(removed) if submissions is not None else None
        if job is None or submissions is None or others:
            return job.job_id if job else None, False, others
    except STORE_AWAY:
        _log.warning("the job of a removed file may go on", extra={"file": removed.name}, exc_info=True)
        return None, False, ()
    try:
        await submissions.withdraw(job.job_id, None)
    except (NotFound, NotCancellable):
        return job.job_id, False, others  # it ends by itself, in moments
    except STORE_AWAY:
        _log.warning("the job of a removed file may go on", extra={"job_id": job.job_id}, exc_info=True)
        return job.job_id, False, others
    return job.job_id, True, others


def _entries(body: bytes, sources: Sources) -> list[SourceFile]:
    """Raises InvalidInput, naming the entry's position in a list."""
    data = _json(body, "body")
    if isinstance(data, Mapping):
        return [_entry(data, sources)]
    if not isinstance(data, list) or not 0 < len(data) <= LIST_LIMIT:
        raise InvalidInput(
            "body", f"must be one entry or a list of 1 to {LIST_LIMIT}; /files/import takes more"
        )
    found = []
    for position, item in enumerate(data):
        try:
            found.append(_entry(item, sources))
        except InvalidInput as error:
            raise InvalidInput(f"[{position}].{error.field}", error.problem) from None
    return found


def _entry(item: object, sources: Sources) -> SourceFile:
    if not isinstance(item, Mapping):
        raise InvalidInput("entry", "must be a JSON object")
    entry = SourceFile.from_json(item)
    _judge(entry.access_url, "access_url", sources)
    for position, sidecar in enumerate(entry.sidecars):
        _judge(sidecar.access_url, f"sidecars[{position}].access_url", sources)
    if entry.access_level is AccessLevel.PUBLIC and any(map(sources.is_private, entry.addresses)):
        _log.warning("the entry of a private source is public", extra={"file": entry.name})
    return entry


def _judge(url: str, field_name: str, sources: Sources) -> None:
    """Raises InvalidInput for an address that would be refused when it is fetched, or holds a password."""
    if "@" in re.split(r"[/?#]", url.partition("://")[2], maxsplit=1)[0]:
        raise InvalidInput(field_name, "holds a user name or password, which would be stored in clear")
    try:
        sources.judge(url)
    except OutboundRefused as refused:
        raise InvalidInput(field_name, refused.advice) from None
    except InvalidInput as error:
        raise InvalidInput(field_name, error.problem) from None


def _json(text: bytes, name: str) -> object:
    try:
        return read_json(text)
    except ValueError:
        raise InvalidInput(name, "is not JSON") from None


@dataclass(slots=True)
class _Tally:
    imported: int = 0
    new: int = 0
    failed: int = 0
    errors: list[LineError] = field(default_factory=list)

    def fail(self, line: int, error: InvalidInput) -> None:
        self.failed += 1
        if len(self.errors) < ERRORS_SHOWN:
            self.errors.append(LineError(line=line, field=error.field, problem=error.problem))


async def _import(catalog: Catalog, stream: AsyncIterator[bytes], sources: Sources) -> Imported:
    tally, batch = _Tally(), dict[tuple[str, str], SourceFile]()

    async def flush() -> None:
        tally.new += await catalog.put(list(batch.values()))
        batch.clear()

    number = 0
    async for line in _lines(stream):
        number += 1
        if line is not None and not line.strip():
            continue
        try:
            if line is None:
                raise InvalidInput("line", f"longer than {LINE_LIMIT_BYTES} bytes")
            entry = _entry(_json(line, "line"), sources)
        except InvalidInput as error:
            tally.fail(number, error)
            continue
        batch[entry.dcc, entry.local_id] = entry  # of two in one batch the later one counts
        tally.imported += 1
        if len(batch) >= BATCH:
            await flush()
    if batch:
        await flush()
    return Imported(imported=tally.imported, new=tally.new, failed=tally.failed, errors=tally.errors)


async def _lines(stream: AsyncIterator[bytes]) -> AsyncIterator[bytes | None]:
    """Lines without their ends; None for one that is too long, which is never held whole."""
    held, skipping = bytearray(), False
    async for chunk in stream:
        start = 0
        while (end := chunk.find(b"\n", start)) >= 0:
            held += chunk[start:end]
            yield None if skipping or len(held) > LINE_LIMIT_BYTES else bytes(held)
            held.clear()
            start, skipping = end + 1, False
        held += chunk[start:]
        if len(held) > LINE_LIMIT_BYTES:
            held.clear()
            skipping = True
    if held or skipping:
        yield None if skipping else bytes(held)
