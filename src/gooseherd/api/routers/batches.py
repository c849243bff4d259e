"""Batches: ask for many files at once, follow them as one thing, see what became of each, cancel."""

# Annotations here name the dependencies of one application, so they are evaluated where they stand.

import asyncio
import hashlib
import json
import uuid
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Annotated, Any, Final

from fastapi import APIRouter, Depends, Header, Query, Request, Response
from fastapi.sse import EventSourceResponse, ServerSentEvent
from pydantic import ValidationError

from gooseherd.api.catalog import Catalog
from gooseherd.api.dependencies import Dependencies
from gooseherd.api.event_streams import EventStreams
from gooseherd.api.models.batches import (
    BatchFile,
    BatchFileList,
    BatchList,
    BatchRequest,
    BatchView,
    CatalogQuery,
    MemberWord,
)
from gooseherd.api.names import Names
from gooseherd.api.openapi import routes_under
from gooseherd.api.private_work import sees_batch
from gooseherd.api.request_context import RequestContext
from gooseherd.api.route_parameters import CurrentRequest, body_of, problems, whose
from gooseherd.api.server.refusals import BodyTooLarge
from gooseherd.api.small_bodies import SMALL_BODY_BYTES
from gooseherd.api.streaming import until
from gooseherd.control.batches import Batches
from gooseherd.domain.artifact import Kind
from gooseherd.domain.batch import (
    MOST_FILES,
    MOST_FILES_WITHOUT_KEY,
    Batch,
    BatchId,
    Member,
    MemberState,
    NewBatch,
)
from gooseherd.domain.caller import Scope
from gooseherd.domain.errors import GooseherdError, InvalidInput, NotFound, ProcessingDisabled
from gooseherd.domain.formats import NAMES, resolve
from gooseherd.domain.ports.batches import BatchQuery
from gooseherd.domain.ports.store import FileQuery
from gooseherd.domain.source import Dcc, LocalId, parse_dcc, parse_local_id
from gooseherd.domain.visibility import PUBLIC_ONLY, Visibility

_PAGE: Final = 1000
"""Catalog entries that are read at a time."""
_FAILURES_SHOWN: Final = 10
_WITH_ARTIFACTS: Final = 200
_LOOKED_UP_AT_ONCE: Final = 16


def batch_routes(
    dependencies: Dependencies, catalog: Catalog, names: Names, streams: EventStreams
) -> APIRouter:
    """The routes under /batches."""
    router = routes_under("batches")

    def there() -> Batches:
        if dependencies.batches is None:
            raise ProcessingDisabled
        return dependencies.batches

    TheBatches = Annotated[Batches, Depends(there)]  # noqa: N806 - a type

    async def found(batch_id: str, batches: TheBatches, context: CurrentRequest) -> Batch:
        if not batch_id.isprintable():
            raise NotFound("batch", batch_id)
        batch = await batches.batch(BatchId(batch_id))
        if not sees_batch(context, batch):
            raise NotFound("batch", batch_id)
        return batch

    TheBatch = Annotated[Batch, Depends(found)]  # noqa: N806 - a type

    async def view(batch: Batch, context: RequestContext) -> BatchView:
        failures = await there().members(batch.batch_id, MemberState.FAILED, limit=_FAILURES_SHOWN)
        return BatchView.of(batch, context.link, failures=failures, admin=context.is_admin)

    @router.post(
        "/batches",
        status_code=202,
        responses=problems(401, 403, 413, 422, 429, 503),
        openapi_extra={
            "requestBody": {
                "required": True,
                "content": {"application/json": {"schema": _schema()}},
            }
        },
    )
    async def create(
        request: Request,
        response: Response,
        context: CurrentRequest,
        batches: TheBatches,
        idempotency_key: Annotated[
            str | None,
            Header(max_length=255, description="The same key again finds the batch instead of another one."),
        ] = None,
    ) -> BatchView:
        """Prepare many files: up to 50, or 10,000 with the scope `submit`. Follow the batch at `Location`.

        The files of a batch wait behind what people ask for one by one.
        """
        submitter = context.caller.may(Scope.SUBMIT)
        try:
            body = await body_of(request, dependencies.body_limit_bytes if submitter else SMALL_BODY_BYTES)
        except BodyTooLarge:
            context.require(Scope.SUBMIT)  # which helps: so many files may be asked for with it
            raise
        wanted = _request(body)
        if idempotency_key is not None and not (idempotency_key and idempotency_key.isprintable()):
            raise InvalidInput("Idempotency-Key", "must be 1 to 255 printable characters")
        most = MOST_FILES if submitter else MOST_FILES_WITHOUT_KEY
        # What is not public is worked on for those alone who may ask for that.
        visible = context.caller.visible if submitter else PUBLIC_ONLY
        files = await _files(wanted, catalog, most, visible)
        if len(files) > most:
            context.require(Scope.SUBMIT)
        stored = await batches.create(
            NewBatch(
                batch_id=BatchId(uuid.uuid4().hex),
                requester=context.requester,
                files=tuple(files),
                request_digest=_digest(wanted),
                idempotency_key=idempotency_key,
                retry=wanted.retry,
                visible=await _needed(files, catalog, visible),
            )
        )
        response.headers["Location"] = f"{context.prefix}/batches/{stored.batch.batch_id}"
        return await view(stored.batch, context)

    @router.get("/batches", responses=problems(401, 403, 422, 503))
    async def list_batches(
        context: CurrentRequest,
        batches: TheBatches,
        requester: Annotated[str | None, Query(description="`me`; the admin may name anyone.")] = None,
        limit: Annotated[int, Query(ge=1, le=200)] = 50,
        after: Annotated[str | None, Query(max_length=8192, description="`next` of the page before.")] = None,
    ) -> BatchList:
        """Batches, newest first."""
        query = BatchQuery(
            requester=whose(requester, context),
            private_of=None if context.is_admin else context.requester,
            limit=limit,
            after=after,
        )
        page = await batches.find(query)
        shown = [
            BatchView.of(batch, context.link, admin=context.is_admin)
            for batch in page.batches
            if sees_batch(context, batch)
        ]
        return BatchList(batches=shown, next=page.next)

    @router.get("/batches/{batch_id}", responses=problems(404, 503))
    async def batch(context: CurrentRequest, batch: TheBatch) -> BatchView:
        """The batch as it stands."""
        return await view(batch, context)

    @router.get("/batches/{batch_id}/files", responses=problems(404, 422, 503))
    async def files(
        context: CurrentRequest,
        batches: TheBatches,
        batch: TheBatch,
        state: MemberWord | None = None,
        limit: Annotated[int, Query(ge=1, le=1000)] = 200,
        after: Annotated[int, Query(ge=-1, le=2**31 - 1, description="`next` of the page before.")] = -1,
        artifacts: Annotated[
            bool, Query(description="Addresses by digest of those that are ready; `limit` 200 at most.")
        ] = False,
    ) -> BatchFileList:
        """What became of each file, in the order of asking."""
        wanted = MemberState(state) if state else None
        limit = min(limit, _WITH_ARTIFACTS) if artifacts else limit
        members = await batches.members(batch.batch_id, wanted, limit=limit + 1, after=after)
        page = members[:limit]
        found = await _artifact_paths(dependencies, catalog, names, page, context) if artifacts else {}
        return BatchFileList(
            files=[
                BatchFile.of(member, context.link, found.get(member.number), admin=context.is_admin)
                for member in page
            ],
            next=page[-1].number if len(members) > limit else None,
        )

    @router.get(
        "/batches/{batch_id}/events",
        response_class=EventSourceResponse,
        responses=problems(404, 429, 503),
        dependencies=[Depends(streams.place)],
    )
    async def events(
        context: CurrentRequest, batches: TheBatches, batch: TheBatch
    ) -> AsyncIterator[ServerSentEvent]:
        """Event `batch` now and at each change, with the batch as GET returns it; ends with the batch.

        Or when the service stops: a browser connects again by itself.
        """
        async for seen in until(dependencies.holds.stopping, batches.changes(batch.batch_id)):
            if not await context.is_still_known():
                return
            shown = await view(seen, context)
            yield ServerSentEvent(event="batch", raw_data=shown.model_dump_json())

    @router.delete("/batches/{batch_id}", responses=problems(401, 403, 404, 503))
    async def cancel(context: CurrentRequest, batches: TheBatches, batch: TheBatch) -> BatchView:
        """Cancel the batch: what waits, and its jobs that nobody else wants. What is ready stays.

        For who asked for it, and the admin. A batch that has ended stays as it is.
        """
        if not context.caller.is_anonymous:
            context.require(Scope.SUBMIT)
        if context.requester != batch.requester:
            context.require_admin()
        return await view(await batches.cancel(batch.batch_id), context)

    return router


async def _artifact_paths(
    dependencies: Dependencies,
    catalog: Catalog,
    names: Names,
    members: Sequence[Member],
    context: RequestContext,
) -> Mapping[int, Mapping[Kind, str]]:
    """By number, where the parts of those that are ready have their bytes for good."""
    submissions, at_once = dependencies.submissions, asyncio.Semaphore(_LOOKED_UP_AT_ONCE)

    async def of(member: Member) -> Mapping[Kind, str]:
        if submissions is None or member.state is not MemberState.READY:
            return {}
        try:
            async with at_once:
                entry = await catalog.entry(member.dcc, member.local_id, context.caller.visible)
                recipe = submissions.recipe(entry, Kind.DATA)
                manifest = await submissions.published(entry, recipe)
        except GooseherdError:
            return {}
        return names.artifact_paths(entry, recipe, manifest.parts) if manifest is not None else {}

    found = await asyncio.gather(*(of(member) for member in members))
    return {member.number: paths for member, paths in zip(members, found, strict=True)}


def _schema() -> dict[str, Any]:
    """Of the body, without references: those of OpenAPI's own schemas would be elsewhere."""
    schema = BatchRequest.model_json_schema()
    query = schema.pop("$defs")["CatalogQuery"]
    schema["properties"]["query"] = {"anyOf": [query, {"type": "null"}], "default": None}
    return schema


def _request(body: bytes) -> BatchRequest:
    try:
        wanted = BatchRequest.model_validate_json(body)
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(map(str, first["loc"])) or "body"
        raise InvalidInput(field, first["msg"]) from None
    if (wanted.files is None) == (wanted.query is None):
        raise InvalidInput("body", "must have either `files` or `query`")
    return wanted


def _digest(wanted: BatchRequest) -> str:
    text = json.dumps(wanted.model_dump(), sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


async def _files(
    wanted: BatchRequest, catalog: Catalog, most: int, visible: Visibility
) -> list[tuple[Dcc, LocalId]]:
    """Each name once. Raises InvalidInput: a name that none can be, no file at all, or too many."""
    if wanted.files is not None:
        names: dict[tuple[Dcc, LocalId], None] = {}
        for position, name in enumerate(wanted.files):
            dcc, slash, local_id = name.partition("/")
            if not slash:
                raise InvalidInput(f"files[{position}]", "must be DCC/ID")
            try:
                names[parse_dcc(dcc), parse_local_id(local_id)] = None
            except InvalidInput as error:
                raise InvalidInput(f"files[{position}]", error.problem) from None
        return list(names)
    return await _matching(wanted.query or CatalogQuery(), catalog, most, visible)


async def _needed(files: list[tuple[Dcc, LocalId]], catalog: Catalog, visible: Visibility) -> Visibility:
    """What must be seen for these files, of what the caller sees: of public files nothing more."""
    hidden = frozenset() if visible.public_only else await catalog.not_public(files)
    dccs = frozenset(dcc for dcc, _ in hidden)
    return Visibility(collections=dccs if visible.everything else dccs & visible.collections)


async def _matching(
    wanted: CatalogQuery, catalog: Catalog, most: int, visible: Visibility
) -> list[tuple[Dcc, LocalId]]:
    """At most one more than `most`: enough to see that they are too many."""
    file_format = resolve(wanted.format) if wanted.format else None
    if wanted.format and file_format is None:
        known = ", ".join(NAMES)
        raise InvalidInput("query.format", f"no known format: give an EDAM id or one of {known}")
    dcc = parse_dcc(wanted.dcc) if wanted.dcc else None
    found: list[tuple[Dcc, LocalId]] = []
    after = None
    while len(found) <= most:
        limit = min(_PAGE, most + 1 - len(found))
        page = await catalog.search(
            FileQuery(
                dcc=dcc,
                text=wanted.q or None,
                file_format=file_format,
                limit=limit,
                after=after,
                visible=visible,
            )
        )
        found += [(entry.dcc, entry.local_id) for entry in page.files]
        after = page.next
        if after is None:
            break
    if not found:
        raise InvalidInput("query", "no file of the catalog matches")
    if len(found) > MOST_FILES:
        raise InvalidInput("query", f"more than {MOST_FILES} files match: ask for fewer")
    return found
