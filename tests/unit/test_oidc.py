"""Tokens of an identity provider: what is refused, whatever is wrong with it; and what its absence costs."""

from __future__ import annotations

import base64
import hmac
import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from joserfc import jwt
from joserfc.jwk import ECKey, OctKey, RSAKey

from gooseherd.api.oidc import OidcProvider, OidcRules, ProviderUnavailable, parse_grants
from gooseherd.domain.caller import Credential, Scope
from gooseherd.domain.errors import InvalidCredential, Misconfigured, UpstreamUnavailable

ISSUER, AUDIENCE = "https://id.example.org/realm", "https://herd.example.org"
NOW = datetime(2026, 5, 6, 7, 8, 9, tzinfo=UTC)
RSA = RSAKey.generate_key(2048, {"kid": "one", "use": "sig"})
OTHER = RSAKey.generate_key(2048, {"kid": "two", "use": "sig"})


class Issuer:
    """What a provider publishes, and how often it was asked."""

    def __init__(self, *keys: Any) -> None:
        self.keys = list(keys) or [RSA]
        self.about: dict[str, Any] = {"issuer": ISSUER, "jwks_uri": f"{ISSUER}/keys"}
        self.away = False
        self.asked: list[str] = []
        self.now = 0.0

    async def fetch(self, url: str) -> Any:
        self.asked.append(url)
        if self.away:
            raise UpstreamUnavailable(url)
        if url == f"{ISSUER}/.well-known/openid-configuration":
            return self.about
        assert url == self.about["jwks_uri"]
        return {"keys": [key.as_dict(private=False) for key in self.keys]}

    def provider(self, *grants: str, owner_claim: str = "sub") -> OidcProvider:
        return OidcProvider(
            OidcRules(ISSUER, AUDIENCE, parse_grants(grants), owner_claim),
            self.fetch,
            clock=lambda: self.now,
            wall_clock=lambda: NOW + timedelta(seconds=self.now),
        )


def token(key: Any = RSA, alg: str = "RS256", header: dict[str, Any] | None = None, **changes: Any) -> str:
    claims = {
        "iss": ISSUER,
        "aud": AUDIENCE,
        "sub": "anne",
        "exp": int(NOW.timestamp()) + 300,
        "iat": int(NOW.timestamp()),
        **changes,
    }
    claims = {name: value for name, value in claims.items() if value is not None}
    return jwt.encode({"alg": alg, "kid": key.kid, **(header or {})}, claims, key, algorithms=[alg])


def unsigned(header: dict[str, Any]) -> str:
    def part(data: object) -> str:
        return encoded(json.dumps(data).encode())

    claims = {"iss": ISSUER, "aud": AUDIENCE, "sub": "anne", "exp": int(NOW.timestamp()) + 300}
    return f"{part(header)}.{part(claims)}."


async def test_claims_become_scopes_and_collections() -> None:
    provider = Issuer().provider(
        "groups=4dn-lab:read+submit@4dn+hubmap", "realm_access.roles=ops:admin", "sub=*:read@public-lab"
    )
    caller = await provider.caller(token(groups=["4dn-lab", "x"]))
    assert (caller.credential, caller.owner) == (Credential.OIDC, "oidc:anne")
    assert caller.scopes == {Scope.READ, Scope.SUBMIT}
    assert caller.visible.collections == {"4dn", "hubmap", "public-lab"}
    assert not caller.is_admin
    assert (await provider.caller(token(realm_access={"roles": ["ops"]}))).is_admin
    assert (await provider.caller(token())).visible.collections == {"public-lab"}
    nobody = await Issuer().provider().caller(token(groups=["4dn-lab"]))
    assert (nobody.scopes, nobody.visible.public_only) == (frozenset(), True)


@pytest.mark.parametrize("deep", [b"[" * 5000, b'{"a":' * 2000])
async def test_a_token_that_is_too_deep_is_refused(deep: bytes) -> None:
    text = token()
    _, claims, signature = text.split(".")
    with pytest.raises(InvalidCredential):
        await Issuer().provider().caller(f"{encoded(deep)}.{claims}.{signature}")


async def test_the_owner_is_the_claim_that_was_named_and_never_another_requester() -> None:
    provider = Issuer().provider(owner_claim="email")
    assert (await provider.caller(token(email="anne@lab.example"))).owner == "oidc:anne@lab.example"
    assert (await Issuer().provider().caller(token(sub="admin"))).owner == "oidc:admin"
    for email in (None, "", "a\nb", 7):
        with pytest.raises(InvalidCredential, match="who it is for"):
            await provider.caller(token(email=email))


@pytest.mark.parametrize("claim", ["name", "preferred_username", "profile.scope", "scopes"])
async def test_a_text_that_a_user_may_have_written_is_one_value(claim: str) -> None:
    provider = Issuer().provider(f"{claim}=herd-admin:admin", "profile.name=herd-admin:admin")
    first, _, rest = claim.partition(".")
    for text in ("x herd-admin", "herd-admin x", " herd-admin", "herd-admin\tx", "herd-admin\u3000", ""):
        claims: dict[str, Any] = {first: {rest: text} if rest else text}
        caller = await provider.caller(token(**claims))
        assert not caller.scopes, text
    assert (await provider.caller(token(profile={"name": "herd-admin", "scope": "herd-admin"}))).is_admin


@pytest.mark.parametrize("claim", ["scope", "scp"])
async def test_of_a_scope_each_word_counts(claim: str) -> None:
    provider = Issuer().provider(f"{claim}=herd:submit")

    async def scopes(value: object) -> frozenset[Scope]:
        claims: dict[str, Any] = {claim: value}
        return (await provider.caller(token(**claims))).scopes

    granting: list[object] = ["openid herd", "herd", ["openid", "herd"]]
    for value in granting:
        assert await scopes(value) == {Scope.SUBMIT}
    others: list[object] = ["openid herder", "her d", ["openid herd"], {"herd": True}]
    for value in others:
        assert not await scopes(value)


@pytest.mark.parametrize("unverified", [False, "false"])
async def test_an_address_that_nobody_verified_grants_and_owns_nothing(unverified: Any) -> None:
    claims: dict[str, Any] = {"email": "boss@lab.example", "email_verified": unverified}
    grant = "email=boss@lab.example:admin"
    assert not (await Issuer().provider(grant).caller(token(**claims))).scopes
    assert (await Issuer().provider(grant).caller(token(**{**claims, "email_verified": True}))).is_admin
    with pytest.raises(InvalidCredential, match="who it is for"):
        await Issuer().provider(owner_claim="email").caller(token(**claims))


@pytest.mark.parametrize("groups", [["lab"], ["lab", "anne"], True])
async def test_an_owner_is_a_text_and_no_member_of_a_list(groups: Any) -> None:
    with pytest.raises(InvalidCredential, match="who it is for"):
        await Issuer().provider(owner_claim="groups").caller(token(groups=groups))


@pytest.mark.parametrize(
    "changes",
    [
        {"iss": "https://other.example.org"},
        {"iss": None},
        {"aud": "https://another.service"},
        {"aud": None},
        {"aud": []},
        {"exp": int(NOW.timestamp()) - 60},
        {"exp": None},
        {"exp": "tomorrow"},
        {"nbf": int(NOW.timestamp()) + 600},
        {"sub": None},
        {"sub": 7},
    ],
    ids=str,
)
async def test_tokens_for_others_and_tokens_out_of_time_are_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(InvalidCredential):
        await Issuer().provider("sub=*:admin").caller(token(**changes))


async def test_one_of_several_audiences_is_enough_and_clocks_may_differ() -> None:
    provider = Issuer().provider()
    await provider.caller(token(aud=["https://another.service", AUDIENCE]))
    await provider.caller(token(exp=int(NOW.timestamp()) - 10))


def encoded(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def by_secret(secret: bytes) -> str:
    """What a library that believes the header's algorithm takes for signed (CVE-2015-9235)."""
    text = unsigned({"alg": "HS256", "kid": "one"})[:-1]
    return f"{text}.{encoded(hmac.digest(secret, text.encode(), 'sha256'))}"


def forged() -> dict[str, str]:
    public = json.dumps(RSA.as_dict(private=False)).encode()
    pem = RSA.as_pem(private=False)
    return {
        "no algorithm": unsigned({"alg": "none"}),
        "no algorithm, in capitals": unsigned({"alg": "NONE", "kid": "one"}),
        "no signature": unsigned({"alg": "RS256", "kid": "one"}),
        "the public key as a secret": by_secret(pem),
        "the published key as a secret": by_secret(public),
        "another key under a known name": token(OTHER, header={"kid": "one"}),
        "its own key in the header": token(OTHER, header={"jwk": OTHER.as_dict(private=False), "kid": "one"}),
        "no name of a key": token(OTHER, header={"kid": ""}),
        "another kind of key": token(ECKey.generate_key("P-256", {"kid": "one"}), "ES256"),
        "changed": token()[:-6] + "AAAAAA",
        "not JSON": "a.b.c",
        "nothing": "..",
        "five parts": "a.b.c.d.e",
        "too long": token(groups=["x" * 20_000]),
    }


@pytest.mark.parametrize("kind", forged())
async def test_forged_tokens_are_refused(kind: str) -> None:
    with pytest.raises(InvalidCredential):
        await Issuer().provider("sub=*:admin").caller(forged()[kind])


async def test_a_secret_that_a_provider_publishes_signs_nothing() -> None:
    secret = OctKey.generate_key(256, {"kid": "shared"})
    issuer = Issuer(RSA)

    async def fetch(url: str) -> Any:
        found = await issuer.fetch(url)
        return {"keys": [*found["keys"], secret.as_dict(private=True)]} if "keys" in found else found

    provider = issuer.provider("sub=*:admin")
    provider._fetch = fetch
    with pytest.raises(InvalidCredential):
        await provider.caller(token(secret, "HS256"))
    await provider.caller(token())


async def test_keys_are_fetched_once_and_again_when_one_is_new() -> None:
    issuer = Issuer(RSA)
    provider = issuer.provider()
    for _ in range(3):
        await provider.caller(token())
    assert len(issuer.asked) == 2
    issuer.keys = [OTHER]
    issuer.now = 20
    assert (await provider.caller(token(OTHER))).owner == "oidc:anne"
    assert len(issuer.asked) == 4
    with pytest.raises(InvalidCredential):
        await provider.caller(token())
    for _ in range(5):
        with pytest.raises(InvalidCredential):
            await provider.caller(token(RSAKey.generate_key(2048, {"kid": "nobody's"})))
    assert len(issuer.asked) == 4, "not once for every token with a new name of a key"


async def test_a_provider_that_is_away_costs_a_503_and_is_not_asked_for_each_request() -> None:
    issuer = Issuer()
    issuer.away = True
    provider = issuer.provider()
    for _ in range(5):
        with pytest.raises(ProviderUnavailable):
            await provider.caller(token())
    assert len(issuer.asked) == 1
    issuer.away, issuer.now = False, 20
    await provider.caller(token())


async def test_known_keys_are_used_for_a_day_while_the_provider_is_away() -> None:
    issuer = Issuer()
    provider = issuer.provider()
    await provider.caller(token())
    issuer.away, issuer.now = True, 12 * 3600.0
    assert (await provider.caller(token(exp=int(NOW.timestamp()) + 13 * 3600))).owner == "oidc:anne"
    issuer.now = 25 * 3600.0
    with pytest.raises(ProviderUnavailable):
        await provider.caller(token(exp=int(NOW.timestamp()) + 30 * 3600))


@pytest.mark.parametrize(
    "about",
    [
        {"issuer": "https://other.example.org", "jwks_uri": f"{ISSUER}/keys"},
        {"issuer": ISSUER},
        [],
        None,
    ],
    ids=str,
)
async def test_what_is_no_description_of_the_provider_is_not_believed(about: Any) -> None:
    issuer = Issuer()
    issuer.about = about
    with pytest.raises(ProviderUnavailable):
        await issuer.provider().caller(token())


@pytest.mark.parametrize(
    "word", ["groups", "groups=", "groups=x", "groups=x:write", "=x:read", "g=x:read@a/b", "g=x:read+@4dn"]
)
def test_a_grant_that_cannot_be_read_is_refused_with_an_example(word: str) -> None:
    with pytest.raises(Misconfigured, match="groups=4dn:read"):
        parse_grants([word])


def test_claims_may_be_called_as_urls_are() -> None:
    (grant,) = parse_grants(["https://lab.example/roles=a:b:read@*"])
    assert (grant.claim, grant.value, grant.all_collections) == ("https://lab.example/roles", "a:b", True)
    assert grant.applies_to({"https://lab.example/roles": ["a:b"]})
