"""Calls on API keys and on what makes tokens invalid, by several processes, against a small model."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, replace
from datetime import timedelta
from itertools import count
from typing import Any

from hypothesis import strategies as st
from hypothesis.stateful import invariant, precondition, rule
from tests.property.store_machine import LONG, OVER, WHICH, WHO, StoreMachine

from gooseherd.domain.apikey import ApiKey, KeyId, NewKey
from gooseherd.domain.caller import Scope
from gooseherd.domain.job import Requester
from gooseherd.domain.source import Dcc

_EXAMPLES = count()
"""Keys are never removed from a store, so each example has ids of its own."""
SUBJECTS = st.sampled_from(["k1", "admin"])
RESOURCES = st.sampled_from(["4dn/", "4dn/f1"])
SPANS = st.sampled_from([OVER, LONG, 2 * LONG])


@dataclass
class KnownKey:
    """What the model believes of one key; `stored` is what the store said of it last."""

    stored: ApiKey
    revoked: bool = False
    used: bool = False


class KeyRules(StoreMachine):
    def __init__(self, runner: asyncio.Runner, store: Any) -> None:
        super().__init__(runner, store)
        self.keys = store.keys
        self.example = f"x{next(_EXAMPLES)}"
        self.known_keys: dict[KeyId, KnownKey] = {}
        self.versions: dict[tuple[str, str], int] = {}
        self.secrets: dict[str, str] = {}

    def pick_key(self, which: int) -> tuple[KeyId, KnownKey]:
        ids = sorted(self.known_keys)
        chosen = ids[which % len(ids)]
        return chosen, self.known_keys[chosen]

    def named(self, name: str) -> str:
        return f"{self.example}-{name}"

    @rule(number=st.integers(0, 3), who=WHO, expires=SPANS | st.none())
    def add_key(self, number: int, who: Requester, expires: timedelta | None) -> None:
        key_id = KeyId(self.named(f"k{number}"))
        digest = f"{len(self.known_keys):064}"
        new = NewKey(key_id, digest, who, frozenset({Scope.READ}), frozenset({Dcc("4dn")}))
        if expires is not None:
            new = replace(new, expires_at=self.run(self.store.jobs.now()) + expires)
        stored = self.run(self.keys.add(new))
        known = self.known_keys.get(key_id)
        if known is None:
            self.known_keys[key_id] = KnownKey(stored)
            assert (stored.digest, stored.owner, stored.revoked_at) == (digest, who, None)
        else:
            assert stored == known.stored, "of two keys with one id the first stays"

    @precondition(lambda self: self.known_keys)
    @rule(which=WHICH)
    def revoke_key(self, which: int) -> None:
        key_id, known = self.pick_key(which)
        stored = self.run(self.keys.revoke(key_id))
        assert stored.revoked_at is not None
        if known.revoked:
            assert stored == known.stored, "the first revocation stands"
        known.stored, known.revoked = stored, True

    @precondition(lambda self: self.known_keys)
    @rule(which=WHICH, after=SPANS)
    def expire_key(self, which: int, after: timedelta) -> None:
        key_id, known = self.pick_key(which)
        before, stored = known.stored, self.run(self.keys.expire(key_id, after))
        assert stored.expires_at is not None
        assert before.expires_at is None or stored.expires_at <= before.expires_at, "it only comes nearer"
        assert stored.expires_at <= self.run(self.store.jobs.now()) + after or (
            stored.expires_at == before.expires_at
        )
        known.stored = stored

    @precondition(lambda self: self.known_keys)
    @rule(which=WHICH, not_since=st.sampled_from([OVER, LONG]))
    def use_key(self, which: int, not_since: timedelta) -> None:
        key_id, known = self.pick_key(which)
        noted = self.run(self.keys.note_use(key_id, not_since))
        if not known.used:
            assert noted, "the first use is noted"
        elif not_since == LONG:
            assert not noted, "a later one within the hour is not"
        known.used |= noted
        known.stored = self.run(self.keys.get(key_id))

    @precondition(lambda self: self.known_keys)
    @rule(which=WHICH)
    def restore_key(self, which: int) -> None:
        key_id, known = self.pick_key(which)
        before = known.stored
        assert self.run(self.keys.restore([replace(before, revoked_at=None, expires_at=None)])) == 0
        known.stored = self.run(self.keys.get(key_id))
        assert known.stored.expires_at == before.expires_at, "what has an end keeps it"

    @rule(subject=SUBJECTS, resource=RESOURCES)
    def revoke_tokens(self, subject: str, resource: str) -> None:
        name = self.named(subject), resource
        self.versions[name] = self.versions.get(name, 0) + 1
        assert self.run(self.keys.revoke_tokens(*name)) == self.versions[name]

    @rule(name=st.sampled_from(["tokens", "others"]), proposed=st.sampled_from(["a", "b"]))
    def share_secret(self, name: str, proposed: str) -> None:
        name = self.named(name)
        secret = self.run(self.keys.shared_secret(name, proposed))
        assert secret == self.secrets.setdefault(name, proposed), "the first that was proposed"

    @rule()
    def nobody_has_this_key(self) -> None:
        nobody = KeyId(self.named("nobody"))
        assert self.run(self.keys.get(nobody)) is None
        assert self.run(self.keys.revoke(nobody)) is None
        assert self.run(self.keys.expire(nobody, LONG)) is None
        assert not self.run(self.keys.note_use(nobody, OVER))

    @invariant()
    def keys_are_as_the_store_said_and_what_ended_stays_so(self) -> None:
        own = [key for key in self.run(self.keys.keys()) if key.key_id.startswith(f"{self.example}-")]
        assert {key.key_id: key for key in own} == {
            key_id: known.stored for key_id, known in self.known_keys.items()
        }
        for key in own:
            known = self.known_keys[key.key_id]
            assert (key.revoked_at is not None) == known.revoked, "a revoked key is never opened again"
            assert (key.last_used_at is not None) == known.used

    @invariant()
    def tokens_are_of_the_version_that_was_said(self) -> None:
        for name, version in self.versions.items():
            assert self.run(self.keys.token_version(*name)) == version
