"""Who makes a request: by a key or token in its headers, by a download token in its URL, or nobody known."""

from __future__ import annotations

import hashlib
import hmac
import logging
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Final, Generic, TypeVar

from gooseherd.api.dependencies import Dependencies
from gooseherd.api.request_context import RequestContext
from gooseherd.domain.apikey import ApiKey, KeyId, id_in
from gooseherd.domain.caller import ANONYMOUS, Caller, admin
from gooseherd.domain.errors import InvalidCredential, StoreUnavailable
from gooseherd.domain.job import Requester

_log = logging.getLogger(__name__)

REMEMBERED_SECONDS: Final = 2.0
"""How long a key is taken for what it was when it was looked up: so long after a revocation another
process may still serve it. A browser's view asks some hundred ranges within seconds."""
_REMEMBERED: Final = 4096
_USE_NOTED: Final = timedelta(hours=1)
"""The last use of a key is right to this: each note is a write."""
_ADMIN: Final = Requester("admin")

K = TypeVar("K")
V = TypeVar("V")


class Remembered(Generic[K, V]):
    """What was looked up in the store, for a moment; what was not there too."""

    def __init__(self, look_up: Callable[[K], Awaitable[V]], clock: Callable[[], float]) -> None:
        self._look_up = look_up
        self._clock = clock
        self._known: OrderedDict[K, tuple[float, V]] = OrderedDict()

    async def get(self, key: K) -> V:
        """Raises StoreUnavailable: a credential that cannot be looked up is not believed."""
        known = self._known.get(key)
        if known is not None and known[0] > self._clock():
            return known[1]
        # The time before the look: what changes during it is seen at the next.
        until = self._clock() + REMEMBERED_SECONDS
        found = await self._look_up(key)
        self._known[key] = (until, found)
        self._known.move_to_end(key)
        while len(self._known) > _REMEMBERED:
            self._known.popitem(last=False)
        return found

    def forget(self, key: K) -> None:
        """Look again the next time: this process has just changed it."""
        self._known.pop(key, None)


class Callers:
    """Tells callers by what they show. A key that was revoked is refused within REMEMBERED_SECONDS."""

    def __init__(self, dependencies: Dependencies) -> None:
        self._dependencies = dependencies
        self._admin = _digest(dependencies.admin_key) if dependencies.admin_key else None
        self._keys: Remembered[KeyId, ApiKey | None] = Remembered(self._stored, dependencies.clock)
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
            return ANONYMOUS
        if self._admin is not None and hmac.compare_digest(_digest(shown), self._admin):
            return admin("admin", _ADMIN)
        key_id = id_in(shown)
        if key_id is not None:
            return (await self._key(key_id, shown)).caller
        raise InvalidCredential("the key is not known here")

    async def _key(self, key_id: KeyId, text: str) -> ApiKey:
        key = await self._keys.get(key_id)
        # The same words for an unknown id and a wrong secret: ids are no secrets, and no hint either.
        if key is None or not key.opens_with(text):
            raise InvalidCredential("the key is not known here")
        await self.check(key)
        await self._note_use(key_id)
        return key

    async def check(self, key: ApiKey) -> None:
        """Raises InvalidCredential: the key has ended."""
        state = key.state(self._dependencies.wall_clock())
        if state == "revoked":
            raise InvalidCredential("the key was revoked; ask for another one")
        if state == "expired":
            raise InvalidCredential("the key has expired; ask for another one")

    async def key(self, key_id: KeyId) -> ApiKey | None:
        """As it was at most REMEMBERED_SECONDS ago."""
        return await self._keys.get(key_id)

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
        except StoreUnavailable as error:
            _log.info("the use of a key was not noted", extra={"key_id": key_id, "error": str(error)})


def _digest(text: str) -> bytes:
    """Of one length, so that the time of a comparison tells nothing about the key's."""
    return hashlib.sha256(text.encode("latin-1", "replace")).digest()


def _in_headers(context: RequestContext) -> str | None:
    """The credential in the headers; other schemes than Bearer are meant for somebody in front of us."""
    authorization = context.headers.get(b"authorization")
    if authorization is not None:
        scheme, _, value = authorization.partition(b" ")
        if scheme.lower() == b"bearer":
            return value.strip().decode("latin-1")
    given = context.headers.get(b"x-api-key")
    return None if given is None else given.decode("latin-1")
