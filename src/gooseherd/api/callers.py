"""Who makes a request: by a key or token in its headers, by a download token in its URL, or nobody known."""

from __future__ import annotations

import hashlib
import hmac
import logging
import secrets
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Final, Generic, TypeVar
from urllib.parse import parse_qs

from gooseherd.api.dependencies import Dependencies
from gooseherd.api.request_context import RequestContext
from gooseherd.domain.apikey import ApiKey, KeyId, id_in
from gooseherd.domain.caller import ANONYMOUS, Caller, Credential, Scope, admin
from gooseherd.domain.download_token import PREFIX, DownloadToken, end_of_window, read, sign, signing_secret
from gooseherd.domain.errors import (
    InvalidCredential,
    KeyRequired,
    ScopeRequired,
    TokenOnlyReads,
)
from gooseherd.domain.job import Requester
from gooseherd.domain.ports.store import STORE_AWAY
from gooseherd.domain.source import Dcc, LocalId
from gooseherd.domain.visibility import PUBLIC_ONLY

_log = logging.getLogger(__name__)

REMEMBERED_SECONDS: Final = 2.0
"""How long a key is taken for what it was when it was looked up: so long after a revocation another
process may still serve it. A browser's view asks some hundred ranges within seconds."""
_REMEMBERED: Final = 4096
_USE_NOTED: Final = timedelta(hours=1)
"""The last use of a key is right to this: each note is a write."""
ADMIN_NAME: Final = "admin"
ADMIN_OWNER: Final = Requester("admin")

K = TypeVar("K")
V = TypeVar("V")


class Remembered(Generic[K, V]):
    """What was looked up in the store, for a moment; what was not there too."""

    def __init__(self, look_up: Callable[[K], Awaitable[V]], clock: Callable[[], float]) -> None:
        self._look_up = look_up
        self._clock = clock
        self._known: OrderedDict[K, tuple[float, V]] = OrderedDict()
        self._changes = 0

    async def get(self, key: K) -> V:
        """Raises StoreUnavailable: a credential that cannot be looked up is not believed."""
        known = self._known.get(key)
        if known is not None and known[0] > self._clock():
            return known[1]
        # The time before the look: what changes during it is seen at the next.
        until, changes = self._clock() + REMEMBERED_SECONDS, self._changes
        found = await self._look_up(key)
        if changes != self._changes:
            return found  # what was read may be older than what was written meanwhile
        self._known[key] = (until, found)
        self._known.move_to_end(key)
        while len(self._known) > _REMEMBERED:
            self._known.popitem(last=False)
        return found

    def forget(self, key: K) -> None:
        """Look again the next time: this process has just changed it."""
        self._changes += 1
        self._known.pop(key, None)


class Callers:
    """Tells callers by what they show. A key that was revoked is refused within REMEMBERED_SECONDS."""

    def __init__(self, dependencies: Dependencies) -> None:
        self._dependencies = dependencies
        self._admin = _digest(dependencies.admin_key.encode()) if dependencies.admin_key else None
        self._keys: Remembered[KeyId, ApiKey | None] = Remembered(self._stored, dependencies.clock)
        self._versions: Remembered[tuple[str, str], int] = Remembered(self._version, dependencies.clock)
        self._signing: bytes | None = None
        self._noted: OrderedDict[KeyId, float] = OrderedDict()

    async def identify(self, context: RequestContext) -> Caller:
        """Who asks.

        Raises:
            InvalidCredential: what was shown is none, has expired or was revoked. It is not taken for
                no credential at all: whoever shows one wants what it opens.
            StoreUnavailable: it cannot be looked up.
        """
        shown = _in_headers(context)
        if shown is None:
            token = _in_query(context.query) if b"token=" in context.query else None
            if token is None:
                return ANONYMOUS
            context.url_token = token
            return await self._by_token(token, context)
        if self._admin is not None and hmac.compare_digest(_digest(shown.encode("latin-1")), self._admin):
            return admin(ADMIN_NAME, ADMIN_OWNER)
        key_id = id_in(shown)
        if key_id is not None:
            return (await self._key(key_id, shown)).caller
        if self._dependencies.identity_provider is not None and shown.count(".") == 2:
            return await self._dependencies.identity_provider.caller(shown)
        raise InvalidCredential("the key is not known here")

    # -- tokens ----------------------------------------------------------------------------

    async def token_for(self, caller: Caller, dcc: Dcc, local_id: LocalId | None) -> tuple[str, int]:
        """The caller's token for a file or collection that they see, and when it ends (Unix seconds).

        Raises:
            ScopeRequired: the credential is itself a token, or nothing was shown.
        """
        seconds = self._dependencies.token_seconds
        subject, owner = self.subject(caller), ""
        if caller.credential is Credential.OIDC:
            owner = caller.owner or ""
        resource = f"{dcc}/{local_id or ''}"
        token = DownloadToken(
            subject=subject,
            owner=owner,
            dcc=dcc,
            local_id=local_id or "",
            version=await self._versions.get((subject, resource)),
            expires_at=end_of_window(self._dependencies.wall_clock().timestamp(), seconds),
            may_submit=caller.may(Scope.SUBMIT),
        )
        return sign(token, await self._secret()), token.expires_at

    async def revoke_tokens(self, subject: str, resource: str) -> None:
        """Those of the subject for that; others see it within REMEMBERED_SECONDS."""
        assert self._dependencies.keys is not None  # or there would be no tokens
        await self._dependencies.keys.revoke_tokens(subject, resource)
        self._versions.forget((subject, resource))

    async def read_token(self, text: str) -> DownloadToken | None:
        """What a token says, whether it is still good or not; None: it is none of ours."""
        return read(text, await self._secret())

    @staticmethod
    def subject(caller: Caller) -> str:
        """Whose tokens the caller's are. Raises ScopeRequired, KeyRequired."""
        if caller.credential is Credential.NONE:
            raise KeyRequired(Scope.READ)
        if caller.credential is Credential.TOKEN or not caller.may(Scope.READ):
            raise ScopeRequired(Scope.READ)
        return caller.name

    async def _by_token(self, text: str, context: RequestContext) -> Caller:
        token = read(text, await self._secret())
        if token is None:
            raise InvalidCredential("the token is not known here")
        if token.expires_at <= self._dependencies.wall_clock().timestamp():
            raise InvalidCredential("the token has expired; ask for another one")
        if token.version != await self._versions.get((token.subject, token.resource)):
            raise InvalidCredential("the token was revoked; ask for another one")
        owner, may_submit, visible = Requester(token.owner), token.may_submit, token.visible
        if token.subject == ADMIN_NAME:
            owner = ADMIN_OWNER
        elif not token.owner:
            key = await self._keys.get(KeyId(token.subject))
            if key is None:
                raise InvalidCredential("the token is not known here")
            self.check(key)
            # What the key may do now, whatever it could when the token was made.
            owner, may_submit = key.owner, key.caller.may(Scope.SUBMIT)
            visible = visible if key.visible.covers(visible) else PUBLIC_ONLY
        if context.method not in ("GET", "HEAD"):
            raise TokenOnlyReads(Scope.SUBMIT)
        scopes = frozenset({Scope.READ, Scope.SUBMIT} if may_submit else {Scope.READ})
        return Caller(Credential.TOKEN, f"{token.subject}:{token.resource}", owner, scopes, visible)

    async def _secret(self) -> bytes:
        if self._signing is None:
            keys = self._dependencies.keys
            if keys is None:
                raise InvalidCredential("there are no tokens here")
            shared = await keys.shared_secret("download tokens", secrets.token_hex(32))
            self._signing = signing_secret(shared, self._dependencies.admin_key or "")
        return self._signing

    async def _version(self, name: tuple[str, str]) -> int:
        keys = self._dependencies.keys
        return 0 if keys is None else await keys.token_version(*name)

    # -- keys ------------------------------------------------------------------------------

    async def _key(self, key_id: KeyId, text: str) -> ApiKey:
        key = await self._keys.get(key_id)
        # The same words for an unknown id and a wrong secret: ids are no secrets, and no hint either.
        if key is None or not key.opens_with(text):
            raise InvalidCredential("the key is not known here")
        self.check(key)
        await self._note_use(key_id)
        return key

    def check(self, key: ApiKey) -> None:
        """Raises InvalidCredential: the key has ended."""
        state = key.state(self._dependencies.wall_clock())
        if state == "revoked":
            raise InvalidCredential("the key was revoked; ask for another one")
        if state == "expired":
            raise InvalidCredential("the key has expired; ask for another one")

    def forget(self, key_id: KeyId) -> None:
        """The key was changed here."""
        self._keys.forget(key_id)

    async def _stored(self, key_id: KeyId) -> ApiKey | None:
        keys = self._dependencies.keys
        return None if keys is None else await keys.get(key_id)

    async def _note_use(self, key_id: KeyId) -> None:
        now, keys = self._dependencies.clock(), self._dependencies.keys
        if keys is None or self._noted.get(key_id, 0.0) > now:
            return
        self._noted[key_id] = now + _USE_NOTED.total_seconds() / 4
        self._noted.move_to_end(key_id)
        while len(self._noted) > _REMEMBERED:
            self._noted.popitem(last=False)
        try:
            await keys.note_use(key_id, _USE_NOTED)
        except STORE_AWAY as error:
            _log.info("the use of a key was not noted", extra={"key_id": key_id, "error": str(error)})


def _digest(text: bytes) -> bytes:
    """Of one length, so that the time of a comparison tells nothing about the key's."""
    return hashlib.sha256(text).digest()


def _in_headers(context: RequestContext) -> str | None:
    """The credential in the headers; other schemes than Bearer are meant for somebody in front of us."""
    authorization = context.headers.get(b"authorization")
    if authorization is not None:
        scheme, _, value = authorization.partition(b" ")
        if scheme.lower() == b"bearer":
            return value.strip().decode("latin-1")
    given = context.headers.get(b"x-api-key")
    return None if given is None else given.decode("latin-1")


def _in_query(query: bytes) -> str | None:
    """The token in the URL; of several the last, as of every parameter. Others' words are not judged."""
    try:
        found = parse_qs(query.decode("latin-1"), max_num_fields=30).get("token")
    except ValueError:
        return None
    return found[-1] if found and found[-1].startswith(PREFIX) else None
