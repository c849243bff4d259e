"""Uploads by the tus protocol 1.0.0 (https://tus.io/protocols/resumable-upload), and what became of them."""

# Annotations here name the dependencies of one application, so they are evaluated where they stand.

import base64
import binascii
from collections.abc import AsyncIterator
from typing import Annotated, Any, Final
from urllib.parse import urlsplit

from fastapi import APIRouter, Depends, Header, Request, Response
from starlette.requests import ClientDisconnect

from gooseherd.api.dependencies import Dependencies
from gooseherd.api.models.uploads import UploadList, UploadView
from gooseherd.api.openapi import routes_under
from gooseherd.api.request_context import RequestContext
from gooseherd.api.route_parameters import CurrentRequest, problems
from gooseherd.api.uploads import Uploads
from gooseherd.domain.caller import Scope
from gooseherd.domain.errors import GooseherdError, InvalidInput
from gooseherd.domain.job import Requester
from gooseherd.domain.source import parse_dcc
from gooseherd.domain.upload import FileUpload, UploadsDisabled, UploadVersion

VERSION: Final = "1.0.0"
_BYTES: Final = "application/offset+octet-stream"
_MOST_METADATA: Final = 8192
_BODY: Final[dict[str, Any]] = {
    "requestBody": {
        "required": False,
        "content": {_BYTES: {"schema": {"type": "string", "format": "binary"}}},
    }
}

TusResumable = Annotated[
    str | None, Header(max_length=20, description=f"`{VERSION}`: the version of the protocol.")
]
Offset = Annotated[int, Header(ge=0, le=2**62, description="Where the bytes begin.")]


def upload_routes(dependencies: Dependencies) -> APIRouter:
    """The routes under /uploads."""
    router = routes_under("catalog")

    def permitted(context: CurrentRequest) -> Uploads:
        """Raises UploadsDisabled, KeyRequired, ScopeRequired."""
        uploads = dependencies.uploads
        if uploads is None:
            raise UploadsDisabled
        if not (uploads.without_key and context.caller.is_anonymous and _is_own_page(context, dependencies)):
            context.require(Scope.SUBMIT)
        return uploads

    Permitted = Annotated[Uploads, Depends(permitted)]  # noqa: N806 - a type

    def headers(uploads: Uploads, upload: FileUpload, offset: int) -> dict[str, str]:
        shown = {
            "Tus-Resumable": VERSION,
            "Upload-Offset": str(offset),
            "Upload-Length": str(upload.length),
            "Cache-Control": "no-store",
        }
        return shown | ({"Content-Location": f"/files/{upload.file}"} if upload.file else {})

    def view(uploads: Uploads, upload: FileUpload, offset: int, context: RequestContext) -> UploadView:
        expires_at = upload.created_at + uploads.expires_seconds
        return UploadView.of(upload, offset, context.link, expires_at=expires_at)

    @router.get("/uploads", responses=problems(503))
    async def uploads_of_caller(context: CurrentRequest) -> UploadList:
        """Whether the caller may upload, and their uploads that are under way or ended lately.

        Who shows no key sees none: others have the same address. The id is what opens an upload.
        """
        try:
            uploads = permitted(context)
        except GooseherdError:
            return UploadList(allowed=False, max_bytes=0, uploads=[])
        found = [] if context.caller.is_anonymous else await uploads.of_owner(context.requester)
        return UploadList(
            allowed=True,
            max_bytes=uploads.most_bytes,
            uploads=[view(uploads, upload, offset, context) for upload, offset in found],
        )

    @router.post(
        "/uploads",
        status_code=201,
        response_class=Response,
        responses=problems(401, 403, 404, 409, 412, 413, 422, 429, 503),
        openapi_extra=_BODY,
    )
    async def create(
        request: Request,
        context: CurrentRequest,
        uploads: Permitted,
        upload_length: Annotated[int, Header(ge=0, le=2**62)],
        upload_metadata: Annotated[
            str,
            Header(
                max_length=_MOST_METADATA,
                description="Name and base64 of each: `filename`, and if need be `format`, `collection` "
                "(local), `md5`, `access` (public), `index_of` (the upload whose index it is).",
            ),
        ],
        tus_resumable: TusResumable = None,
    ) -> Response:
        """Begin an upload, at `Location`; its first bytes may be the body.

        For who has the scope `submit`; where only this machine reaches the service, for its page and
        programs without a key.
        """
        _check_version(tus_resumable)
        metadata = _metadata(upload_metadata)
        collection = parse_dcc(metadata.get("collection") or "local")
        opened = context.caller.visible
        if not (context.caller.is_anonymous or opened.everything or collection in opened.collections):
            raise InvalidInput("collection", "is none that the key is for")
        upload = await uploads.create(context.requester, upload_length, metadata)
        context.affected = upload.upload_id
        offset = 0
        if request.headers.get("content-type") == _BYTES:
            upload, offset = await uploads.append(upload.upload_id, upload.owner, 0, _body(request))
        location = {"Location": f"{context.prefix}/uploads/{upload.upload_id}"}
        return Response(status_code=201, headers=headers(uploads, upload, offset) | location)

    @router.get("/uploads/{upload_id}", responses=problems(401, 403, 404, 503))
    async def upload(
        context: CurrentRequest, uploads: Permitted, response: Response, upload_id: str
    ) -> UploadView:
        """How far it is: in `Upload-Offset`, too, for which HEAD is enough."""
        found, offset = await uploads.read(upload_id, _owner(context))
        response.headers.update(headers(uploads, found, offset))
        return view(uploads, found, offset, context)

    @router.patch(
        "/uploads/{upload_id}",
        status_code=204,
        response_class=Response,
        responses=problems(401, 403, 404, 409, 412, 413, 422, 503),
        openapi_extra=_BODY,
    )
    async def go_on(
        request: Request,
        context: CurrentRequest,
        uploads: Permitted,
        upload_id: str,
        upload_offset: Offset,
        tus_resumable: TusResumable = None,
    ) -> Response:
        """More bytes. What has arrived stays when the connection breaks.

        With the last ones the file is registered; `Content-Location` then names its catalog entry.
        """
        _check_version(tus_resumable)
        if request.headers.get("content-type") != _BYTES:
            raise InvalidInput("Content-Type", f"must be {_BYTES}")
        found, offset = await uploads.append(upload_id, _owner(context), upload_offset, _body(request))
        if found.file:
            context.affected = found.file
        return Response(status_code=204, headers=headers(uploads, found, offset))

    @router.delete(
        "/uploads/{upload_id}",
        status_code=204,
        response_class=Response,
        responses=problems(401, 403, 404, 412, 503),
    )
    async def give_up(
        context: CurrentRequest, uploads: Permitted, upload_id: str, tus_resumable: TusResumable = None
    ) -> Response:
        """Give an upload up. A file that it has become is removed with its entry, by `DELETE /files/…`."""
        _check_version(tus_resumable)
        await uploads.end(upload_id, _owner(context))
        return Response(status_code=204, headers={"Tus-Resumable": VERSION})

    return router


def _owner(context: RequestContext) -> Requester | None:
    return None if context.is_admin else context.requester


def _check_version(given: str | None) -> None:
    """A page of another origin cannot send this header: no CORS response of ours allows it."""
    if given != VERSION:
        raise UploadVersion(VERSION)


def _is_own_page(context: RequestContext, dependencies: Dependencies) -> bool:
    """Whether the request is of our own page, or of no page at all."""
    fetched_by = context.headers.get(b"sec-fetch-site")
    if fetched_by is not None:
        return fetched_by in (b"same-origin", b"none")
    origin = context.headers.get(b"origin")
    if origin is None:
        return True
    own = {context.headers.get(b"host", b"").decode("latin-1").lower()}
    if dependencies.public_url:
        own.add(urlsplit(dependencies.public_url).netloc.lower())
    return urlsplit(origin.decode("latin-1").lower()).netloc in own


def _metadata(text: str) -> dict[str, str]:
    """Raises InvalidInput."""
    found = {}
    for pair in text.split(","):
        name, _, value = pair.strip().partition(" ")
        try:
            found[name] = base64.b64decode(value.strip(), validate=True).decode()
        except (binascii.Error, UnicodeDecodeError, ValueError):
            raise InvalidInput("Upload-Metadata", f"{name!r} is not base64 of UTF-8") from None
    return found


async def _body(request: Request) -> AsyncIterator[bytes]:
    """What comes, as far as it comes."""
    try:
        async for chunk in request.stream():
            yield chunk
    except ClientDisconnect:
        return
