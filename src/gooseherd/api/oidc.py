"""Bearer tokens of an OpenID Connect provider: verified by its published keys, read by our rules.

What it costs when the provider is away is these callers' 503: keys it has published before go on being
used for a day, and nobody else is asked to wait for it.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from joserfc import jwt
from joserfc.errors import BadSignatureError, ExpiredTokenError, InvalidKeyIdError, JoseError
from joserfc.jwk import KeySet

from gooseherd.domain.caller import Caller, Credential, Scope
from gooseherd.domain.errors import GooseherdError, InvalidCredential, Misconfigured, Unavailable
from gooseherd.domain.job import Requester
from gooseherd.domain.source import Dcc, parse_dcc
from gooseherd.domain.visibility import EVERYTHING, PUBLIC_ONLY, Visibility

_log = logging.getLogger(__name__)

FetchJson = Callable[[str], Awaitable[Any]]
"""The JSON at a URL, by the rules for outbound requests."""

ALGORITHMS: Final = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA")
"""Signatures that a private key makes. Never `none`, and none by which a public key would be a secret."""
_KEY_TYPES: Final = frozenset({"RSA", "EC", "OKP"})
_MOST_CHARACTERS: Final = 16_384
_LEEWAY_SECONDS: Final = 30
"""By which the clocks of two machines may differ."""
_FRESH_SECONDS: Final = 3600.0
_KEPT_SECONDS: Final = 86400.0
"""How long published keys are used that cannot be had again: the provider is away."""
_AGAIN_SECONDS: Final = 15.0
"""Between two looks at the provider: for a key it has not published, or when it did not answer."""
_FETCH_SECONDS: Final = 5.0
_WORD_LISTS: Final = frozenset({"scope", "scp"})
"""Claims whose text is a list of words (RFC 8693 §4.2, and what providers call it). Any other may be what a
person wrote into a form."""


class ProviderUnavailable(Unavailable):
    """The provider's keys are not known and cannot be had now."""

    def __str__(self) -> str:
        return "the identity provider did not answer; the same call may work later"


@dataclass(frozen=True, slots=True)
class Grant:
    """Whoever's token has that value in that claim gets these scopes and collections."""

    claim: str
    value: str
    scopes: frozenset[Scope]
    collections: frozenset[Dcc] = frozenset()
    all_collections: bool = False

    def applies_to(self, claims: Mapping[str, Any]) -> bool:
        """Whether the claims have it; `*` is any value. An address that is not the user's own is none."""
        if self.claim == "email" and claims.get("email_verified") in (False, "false"):
            return False
        found = _values(claims, self.claim)
        return bool(found) if self.value == "*" else self.value in found


def parse_grants(words: Sequence[str]) -> tuple[Grant, ...]:
    """Of `CLAIM=VALUE:SCOPE+SCOPE@DCC+DCC`. Raises Misconfigured."""
    return tuple(map(_grant, words))


def _grant(word: str) -> Grant:
    claim, _, rest = word.partition("=")
    value, _, granted = rest.rpartition(":")
    scopes, _, collections = granted.partition("@")
    try:
        if not (claim and value):
            raise ValueError
        named = [name for name in collections.split("+") if name]
        return Grant(
            claim,
            value,
            frozenset(Scope(scope) for scope in scopes.split("+")),
            frozenset(parse_dcc(name) for name in named if name != "*"),
            "*" in named,
        )
    except (ValueError, GooseherdError):
        raise Misconfigured(
            "OIDC_GRANTS", f"{word!r} is not CLAIM=VALUE:SCOPES@COLLECTIONS, as groups=4dn:read+submit@4dn"
        ) from None


@dataclass(frozen=True, slots=True)
class OidcRules:
    """Whose tokens are taken, and what they allow."""

    issuer: str
    audience: str
    grants: tuple[Grant, ...]
    owner_claim: str = "sub"


class OidcProvider:
    """The IdentityProvider port over OpenID Connect Discovery 1.0 and RFC 7517, 7519."""

    def __init__(
        self,
        rules: OidcRules,
        fetch: FetchJson,
        *,
        clock: Callable[[], float],
        wall_clock: Callable[[], datetime],
    ) -> None:
        self._rules = rules
        self._fetch = fetch
        self._clock = clock
        self._wall_clock = wall_clock
        self._keys: KeySet | None = None
        self._fetched_at = 0.0
        self._tried_at: float | None = None
        self._fetching = asyncio.Lock()

    async def caller(self, text: str) -> Caller:
        """Who shows this token.

        Raises:
            InvalidCredential: it is not this provider's, not for this service, or has expired.
            ProviderUnavailable: it cannot be judged now.
        """
        if len(text) > _MOST_CHARACTERS:
            raise InvalidCredential("the token is too long")
        keys = await self._known_keys()
        try:
            return self._judged(text, keys)
        except InvalidKeyIdError:
            # A key that was published since: providers change theirs.
            newer = await self._known_keys(newer_than=keys)
            if newer is keys:
                raise InvalidCredential("the token is signed by a key that the provider has not") from None
        except BadSignatureError:
            # Without a key id in its header a token is tried by what is known.
            newer = await self._known_keys(newer_than=keys)
            if newer is keys:
                raise InvalidCredential("the token's signature is none of the provider's") from None
        try:
            return self._judged(text, newer)
        except JoseError:
            raise InvalidCredential("the token's signature is none of the provider's") from None

    def _judged(self, text: str, keys: KeySet) -> Caller:
        """Raises InvalidCredential; InvalidKeyIdError, BadSignatureError: perhaps a newer key's."""
        registry = jwt.JWTClaimsRegistry(
            now=int(self._wall_clock().timestamp()),
            leeway=_LEEWAY_SECONDS,
            iss={"essential": True, "value": self._rules.issuer},
            aud={"essential": True, "value": self._rules.audience},
            exp={"essential": True},
            sub={"essential": True},
        )
        try:
            claims = jwt.decode(text, keys, algorithms=ALGORITHMS).claims
            registry.validate(claims)
        except (InvalidKeyIdError, BadSignatureError):
            raise
        except ExpiredTokenError:
            raise InvalidCredential("the token has expired; sign in again") from None
        except (JoseError, ValueError, TypeError, KeyError, RecursionError) as error:
            _log.info("a token was refused", extra={"problem": type(error).__name__})
            raise InvalidCredential("the token is not for this service") from None
        return self._caller(claims)

    def _caller(self, claims: Mapping[str, Any]) -> Caller:
        subject = claims["sub"]
        name = self._owner(claims)
        if not isinstance(subject, str) or not name or not name.isprintable() or len(name) > 200:
            raise InvalidCredential("the token does not say who it is for")
        grants = [grant for grant in self._rules.grants if grant.applies_to(claims)]
        scopes = frozenset(scope for grant in grants for scope in grant.scopes)
        reading = [grant for grant in grants if grant.scopes & {Scope.READ, Scope.ADMIN}]
        collections = frozenset(dcc for grant in reading for dcc in grant.collections)
        visible = Visibility(collections=collections) if collections else PUBLIC_ONLY
        if Scope.ADMIN in scopes or any(grant.all_collections for grant in reading):
            visible = EVERYTHING
        digest = hashlib.sha256(f"{self._rules.issuer}\0{subject}".encode()).hexdigest()
        return Caller(Credential.OIDC, f"oidc-{digest[:16]}", Requester(f"oidc:{name}"), scopes, visible)

    def _owner(self, claims: Mapping[str, Any]) -> str | None:
        """A text alone: members of a list, and yes or no, are what many have."""
        name = _claim(claims, self._rules.owner_claim)
        if self._rules.owner_claim == "email" and claims.get("email_verified") in (False, "false"):
            return None
        return name if isinstance(name, str) else None

    # -- keys ------------------------------------------------------------------------------

    async def _known_keys(self, newer_than: KeySet | None = None) -> KeySet:
        """The provider's keys; with `newer_than` asked for again, unless that was just done."""
        if self._is_fresh(newer_than):
            assert self._keys is not None
            return self._keys
        async with self._fetching:
            if not self._is_fresh(newer_than) and self._may_try():
                self._tried_at = self._clock()
                await self._refresh()
        if self._keys is None or self._clock() - self._fetched_at > _KEPT_SECONDS:
            raise ProviderUnavailable
        return self._keys

    def _is_fresh(self, newer_than: KeySet | None) -> bool:
        if self._keys is None or self._keys is newer_than:
            return False
        return self._clock() - self._fetched_at < _FRESH_SECONDS

    def _may_try(self) -> bool:
        return self._tried_at is None or self._clock() - self._tried_at >= _AGAIN_SECONDS

    async def _refresh(self) -> None:
        issuer = self._rules.issuer
        try:
            async with asyncio.timeout(_FETCH_SECONDS):
                about = await self._fetch(f"{issuer.rstrip('/')}/.well-known/openid-configuration")
                if about["issuer"] != issuer:
                    raise ValueError("it calls itself otherwise")
                published = await self._fetch(str(about["jwks_uri"]))
            # Of other kinds (`oct`) a public set has none; one that had would make everybody a signer.
            usable = [key for key in published["keys"] if key.get("kty") in _KEY_TYPES]
            self._keys = KeySet.import_key_set({"keys": usable})
        except (
            GooseherdError,
            JoseError,
            TimeoutError,
            ValueError,
            TypeError,
            KeyError,
            AttributeError,
        ) as error:
            _log.warning("the identity provider's keys cannot be had", extra={"problem": str(error)})
            return
        self._fetched_at = self._clock()


def _claim(claims: Mapping[str, Any], name: str) -> Any:
    """The claim, also one below others: `a.b`."""
    found: Any = claims.get(name)
    if found is None and "." in name:
        found = claims
        for word in name.split("."):
            found = found.get(word) if isinstance(found, Mapping) else None
    return found


def _values(claims: Mapping[str, Any], name: str) -> list[str]:
    """The values of a claim: the members of a list, a text as a whole, of `scope` its words."""
    match _claim(claims, name):
        case str() as text:
            return text.split() if name in _WORD_LISTS else [text]
        case bool() as yes:
            return [str(yes).lower()]
        case list() as members:
            return [item for item in members if isinstance(item, str)]
        case _:
            return []
