"""API keys, for the admin; download tokens, for whoever shows a credential."""

# Annotations here name the dependencies of one application, so they are evaluated where they stand.

import re
import secrets
from datetime import timedelta
from typing import Annotated, Final

from fastapi import APIRouter, Depends, Response

from gooseherd.api.allowances import Allowance
from gooseherd.api.callers import Callers
from gooseherd.api.catalog import Catalog
from gooseherd.api.dependencies import Dependencies
from gooseherd.api.models.keys import (
    CallerView,
    KeyList,
    KeyRequest,
    KeyView,
    NewKeyView,
    RotationRequest,
    TokenRequest,
    TokenRevocation,
    TokensRevoked,
    TokenView,
)
from gooseherd.api.names import Names
from gooseherd.api.openapi import routes_under
from gooseherd.api.request_context import RequestContext
from gooseherd.api.route_parameters import Admin, CurrentRequest, KeyOwner, problems
from gooseherd.domain.apikey import ApiKey, KeyId, NewKey, digest_of, make_text
from gooseherd.domain.artifact import Kind
from gooseherd.domain.caller import Scope
from gooseherd.domain.errors import InvalidInput, NotFound, StoreUnavailable
from gooseherd.domain.job import Requester
from gooseherd.domain.ports.keys import KeyStore
from gooseherd.domain.source import Dcc, LocalId, parse_dcc, parse_local_id

_EVERY_COLLECTION: Final = "*"
_UNKNOWN_NAMES: Final = 100
"""Whose tokens a key may revoke in a day though it sees no such file or collection."""
_DAY_SECONDS: Final = 86400
_TAKEN: Final = re.compile(r"admin|(?=[^.:]*[.:])[0-9a-fA-F.:/%]+")
"""What stands for the admin, or for an address: their jobs must not become a key's."""


def key_routes(dependencies: Dependencies, catalog: Catalog, names: Names, callers: Callers) -> APIRouter:
    """/keys, /tokens and /caller."""
    router = routes_under("access")

    def store() -> KeyStore:
        if dependencies.keys is None:
            raise NotFound("page", "/keys")
        return dependencies.keys

    def shown(key: ApiKey) -> KeyView:
        return KeyView.of(key, dependencies.wall_clock())

    def with_text(key: ApiKey, text: str) -> NewKeyView:
        return NewKeyView(**shown(key).model_dump(), key=text)

    async def found(key_id: str) -> ApiKey:
        key = await store().get(KeyId(key_id)) if key_id.isprintable() else None
        if key is None:
            raise NotFound("key", key_id)
        return key

    async def stored(new: NewKey) -> ApiKey:
        key = await store().add(new)
        if key.digest != new.digest:
            raise StoreUnavailable("add")  # two ids of 48 random bits were the same: ask again
        return key

    @router.get("/caller", responses=problems(401, 503))
    async def caller(context: CurrentRequest) -> CallerView:
        """Who is asking, as this service sees it: to try a key or a token."""
        who = context.caller
        return CallerView(
            credential=who.credential.value,
            owner=who.owner,
            scopes=sorted(scope.value for scope in who.scopes),
            collections=[_EVERY_COLLECTION] if who.visible.everything else sorted(who.visible.collections),
        )

    @router.post("/keys", status_code=201, responses=problems(401, 403, 413, 422, 503))
    async def create(context: Admin, wanted: KeyRequest, response: Response) -> NewKeyView:
        """Make a key. Its text is in this response and nowhere else: it cannot be had again."""
        every = _EVERY_COLLECTION in wanted.collections
        key_id, text = make_text(secrets.token_bytes)
        expires = wanted.expires_in_seconds
        key = await stored(
            NewKey(
                key_id=key_id,
                digest=digest_of(text),
                owner=_owner(wanted.owner),
                scopes=frozenset(map(Scope, wanted.scopes)),
                collections=frozenset() if every else frozenset(map(parse_dcc, wanted.collections)),
                all_collections=every,
                label=_printable(wanted.label, "label"),
                expires_at=dependencies.wall_clock() + timedelta(seconds=expires) if expires else None,
                budget_per_day=wanted.budget_per_day,
                budget_per_month=wanted.budget_per_month,
            )
        )
        context.affected = f"key {key.key_id}"
        response.headers["Cache-Control"] = "no-store"
        return with_text(key, text)

    @router.get("/keys", responses=problems(401, 403, 503))
    async def list_keys(context: Admin) -> KeyList:
        """All keys without their secrets, the oldest first, those that have ended too."""
        return KeyList(keys=list(map(shown, await store().keys())))

    @router.delete("/keys/{key_id}", responses=problems(401, 403, 404, 503))
    async def revoke(context: Admin, key: Annotated[ApiKey, Depends(found)]) -> KeyView:
        """End a key and its tokens for good: here at once, in every other process within 2 seconds."""
        revoked = await store().revoke(key.key_id)
        callers.forget(key.key_id)
        return shown(revoked or key)

    @router.post("/keys/{key_id}/rotate", status_code=201, responses=problems(401, 403, 404, 413, 422, 503))
    async def rotate(
        context: Admin,
        key: Annotated[ApiKey, Depends(found)],
        response: Response,
        wanted: RotationRequest | None = None,
    ) -> NewKeyView:
        """Make a key that may do the same; the old one ends after `overlap_seconds`, or when it would."""
        if key.state(dependencies.wall_clock()) != "active":
            raise InvalidInput("key_id", "the key has ended: make another one")
        key_id, text = make_text(secrets.token_bytes)
        new = await stored(
            NewKey(
                key_id=key_id,
                digest=digest_of(text),
                owner=key.owner,
                scopes=key.scopes,
                collections=key.collections,
                all_collections=key.all_collections,
                label=key.label,
                expires_at=key.expires_at,
                budget_per_day=key.budget_per_day,
                budget_per_month=key.budget_per_month,
            )
        )
        # The new one first: a failure in between leaves the old one as it was.
        overlap = RotationRequest() if wanted is None else wanted
        await store().expire(key.key_id, timedelta(seconds=overlap.overlap_seconds))
        callers.forget(key.key_id)
        context.affected = f"key {new.key_id}"
        response.headers["Cache-Control"] = "no-store"
        return with_text(new, text)

    unknown_names = Allowance(
        "revocations of names that are not there", _UNKNOWN_NAMES, _DAY_SECONDS, dependencies.clock
    )

    # -- tokens ----------------------------------------------------------------------------

    async def resource_of(wanted: TokenRequest, context: RequestContext) -> tuple[Dcc, LocalId | None]:
        """Raises InvalidInput, NotFound: the caller sees no such file or collection."""
        if (wanted.file is None) == (wanted.collection is None):
            raise InvalidInput("body", "must have either `file` or `collection`")
        if wanted.file is not None:
            dcc, slash, local_id = wanted.file.partition("/")
            if not slash:
                raise InvalidInput("file", "must be DCC/ID")
            entry = await catalog.entry(dcc, local_id, context.caller.visible)
            return entry.dcc, entry.local_id
        collection = parse_dcc(wanted.collection or "")
        visible = context.caller.visible
        if not visible.everything and collection not in visible.collections:
            raise NotFound("collection", collection)
        return collection, None

    @router.post("/tokens", status_code=201, responses=problems(401, 403, 404, 413, 422, 503))
    async def token(context: KeyOwner, wanted: TokenRequest, response: Response) -> TokenView:
        """A token for the URL of one file, or of a collection's files, for viewers that send no headers.

        The same for the same caller for API_TOKEN_SECONDS, and good for at most twice that.
        """
        callers.subject(context.caller)
        dcc, local_id = await resource_of(wanted, context)
        text, expires_at = await callers.token_for(context.caller, dcc, local_id)
        context.affected = f"token for {dcc}/{local_id or ''}"
        response.headers["Cache-Control"] = "no-store"
        if local_id is None:
            path = f"/files?dcc={dcc}"
        else:
            path = names.paths(await catalog.entry(dcc, local_id, context.caller.visible))[Kind.DATA]
        url = context.address_of(f"{path}{'&' if '?' in path else '?'}token={text}")
        return TokenView.of(text, expires_at, f"{dcc}/{local_id or ''}", url)

    @router.post("/tokens/revoke", responses=problems(401, 403, 404, 413, 422, 429, 503))
    async def revoke_tokens(context: KeyOwner, wanted: TokenRevocation) -> TokensRevoked:
        """Revoke one's own tokens for a file or collection, all of them; the admin, also by one's text."""
        subject = callers.subject(context.caller)
        if wanted.token is not None:
            if wanted.file is not None or wanted.collection is not None:
                raise InvalidInput("body", "must have one of `token`, `file` and `collection`")
            known = await callers.read_token(wanted.token)
            if known is None:
                raise InvalidInput("token", "is none of this service's")
            if known.subject != subject:
                context.require_admin()
            subject, resource = known.subject, known.resource
        else:
            if (wanted.file is None) == (wanted.collection is None):
                raise InvalidInput("body", "must have one of `token`, `file` and `collection`")
            try:
                await resource_of(wanted, context)
            except NotFound:
                # It may have been removed from the catalog, and come back. But each name is a row.
                if not context.is_admin:
                    unknown_names.take(subject)
            dcc, _, local_id = (wanted.file or f"{wanted.collection}/").partition("/")
            resource = f"{parse_dcc(dcc)}/{parse_local_id(local_id) if local_id else ''}"
        await callers.revoke_tokens(subject, resource)
        context.affected = f"tokens for {resource}"
        return TokensRevoked(resource=resource)

    return router


def _owner(text: str) -> Requester:
    if _TAKEN.fullmatch(text):
        raise InvalidInput("owner", "stands for an address or the admin: choose a name")
    return Requester(_printable(text, "owner"))


def _printable(text: str, name: str) -> str:
    if not text.isprintable():
        raise InvalidInput(name, "must be printable")
    return text
