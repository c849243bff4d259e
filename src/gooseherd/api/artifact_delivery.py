"""Where clients get published bytes from: this process, another address, or the nginx in front."""

from __future__ import annotations

import base64
import hashlib
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Literal
from urllib.parse import quote, urlsplit

from gooseherd.domain.artifact import Part
from gooseherd.domain.keys import CacheKey
from gooseherd.domain.ports.cache import SignedObjects
from gooseherd.domain.source import AccessLevel, SourceFile

PLAIN: Final = "/:@+="
"""What a path may have as it is (RFC 3986 §3.3)."""
ACCEL_PREFIX: Final = "/gooseherd-artifacts/"
"""The internal location of nginx below which it has the artifacts' folder (deploy/nginx.conf)."""
_VALID_TIMES: Final = 3
"""A signed address outlives the redirect to it: who follows a remembered one has time to read."""
_REMEMBERED: Final = 4096


@dataclass(frozen=True, slots=True, kw_only=True)
class ArtifactDelivery:
    """Settings of byte delivery."""

    mode: Literal["proxy", "redirect", "accel"] = "proxy"
    base_url: str | None = None
    """Of redirects: below it the objects lie under their keys. None: this service's own /artifacts."""
    secret: str | None = None
    """With `base_url`: signs addresses as nginx's secure_link_md5 reads them."""
    signed: SignedObjects | None = None
    """Of redirects: the objects' own storage signs addresses."""
    redirect_seconds: int = 300
    """How long a redirect may be remembered."""
    lookups: bool = True
    """Of accel: nginx may ask for a file once in a moment and send ranges of it by itself, uncounted."""


class Redirects:
    """Addresses outside of this process, the same ones for some time, so that they can be remembered."""

    def __init__(self, delivery: ArtifactDelivery, clock: Callable[[], float] = time.time) -> None:
        self._delivery = delivery
        self._clock = clock
        self._signed: OrderedDict[CacheKey, tuple[float, str]] = OrderedDict()

    async def elsewhere(self, entry: SourceFile, part: Part) -> str | None:
        """Where the part is elsewhere; None: nowhere, or not for this entry.

        An address that carries no signature is for public entries alone.

        Raises:
            CacheUnavailable: it cannot be signed now.
        """
        delivery = self._delivery
        if delivery.signed is not None:
            return await self._presigned(delivery.signed, part.key)
        if delivery.base_url is None:
            return None
        if delivery.secret is not None:
            return self._with_signature(delivery.base_url, part.key, delivery.secret)
        if entry.access_level is not AccessLevel.PUBLIC:
            return None
        return f"{delivery.base_url.rstrip('/')}/{quote(part.key, safe=PLAIN)}"

    async def _presigned(self, objects: SignedObjects, key: CacheKey) -> str:
        now, seconds = self._clock(), self._delivery.redirect_seconds
        known = self._signed.get(key)
        if known is None or known[0] <= now:
            url = await objects.signed_url(key, _VALID_TIMES * seconds)
            known = self._signed[key] = (now + seconds, url)
            self._signed.move_to_end(key)
            while len(self._signed) > _REMEMBERED:
                self._signed.popitem(last=False)
        return known[1]

    def _with_signature(self, base: str, key: CacheKey, secret: str) -> str:
        seconds = self._delivery.redirect_seconds
        expires = (int(self._clock()) // seconds + _VALID_TIMES) * seconds
        path = f"{urlsplit(base).path.rstrip('/')}/{key}"
        digest = hashlib.md5(f"{expires}{path} {secret}".encode(), usedforsecurity=False).digest()
        signature = base64.urlsafe_b64encode(digest).rstrip(b"=").decode()
        where = f"{base.rstrip('/')}/{quote(key, safe=PLAIN)}"
        return f"{where}?expires={expires}&signature={signature}"
