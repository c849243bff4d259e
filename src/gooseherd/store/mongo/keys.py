"""The KeyStore port over MongoDB: one document a key, found by its _id."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import timedelta
from typing import Any

from pymongo.errors import DuplicateKeyError

from gooseherd.domain.apikey import ApiKey, KeyId, NewKey
from gooseherd.domain.caller import Scope
from gooseherd.domain.errors import StoreUnavailable
from gooseherd.domain.job import Requester
from gooseherd.domain.source import Dcc
from gooseherd.store.mongo.clock import StoreClock, whole_milliseconds
from gooseherd.store.mongo.connect import Database, Document, durable, store_operation
from gooseherd.store.mongo.schema import API_KEYS, SHARED_SECRETS, TOKEN_VERSIONS


class MongoKeys:
    """The KeyStore port over MongoDB and what speaks its protocol."""

    def __init__(self, db: Database, *, clock: StoreClock | None = None) -> None:
        self._keys = durable(db, API_KEYS)
        self._versions = durable(db, TOKEN_VERSIONS)
        self._secrets = durable(db, SHARED_SECRETS)
        self._clock = clock or StoreClock(db)

    @store_operation
    async def add(self, key: NewKey) -> ApiKey:
        """Store a new key; of two with one id the first stays."""
        document = {
            "_id": key.key_id,
            "digest": key.digest,
            "owner": key.owner,
            "scopes": sorted(scope.value for scope in key.scopes),
            "collections": sorted(key.collections),
            "all_collections": key.all_collections,
            "label": key.label,
            "created_at": await self._clock.now(),
            "expires_at": None if key.expires_at is None else whole_milliseconds(key.expires_at),
            "revoked_at": None,
            "last_used_at": None,
            "budget_per_day": key.budget_per_day,
            "budget_per_month": key.budget_per_month,
        }
        with suppress(DuplicateKeyError):
            await self._keys.insert_one(document)
        stored = await self._load(key.key_id)
        if stored is None:
            raise StoreUnavailable("add")
        return stored

    @store_operation
    async def restore(self, keys: Sequence[ApiKey]) -> int:
        """Insert or replace; what is revoked stays so, and of two ends the sooner one holds."""
        new = 0
        for key in keys:
            fields = {
                "digest": key.digest,
                "owner": key.owner,
                "scopes": sorted(scope.value for scope in key.scopes),
                "collections": sorted(key.collections),
                "all_collections": key.all_collections,
                "label": key.label,
                "created_at": key.created_at,
                "last_used_at": key.last_used_at,
                "budget_per_day": key.budget_per_day,
                "budget_per_month": key.budget_per_month,
            }
            first = {"revoked_at": key.revoked_at, "expires_at": key.expires_at}
            update: Document = {"$set": fields, "$setOnInsert": first}
            try:
                made = await self._keys.update_one({"_id": key.key_id}, update, upsert=True)
            except DuplicateKeyError:  # of two that insert at once one loses, and replaces now
                made = await self._keys.update_one({"_id": key.key_id}, update)
            new += made.upserted_id is not None
            if key.revoked_at is not None:
                change = {"$set": {"revoked_at": key.revoked_at}}
                await self._keys.update_one({"_id": key.key_id, "revoked_at": None}, change)
            if key.expires_at is not None:
                for later in (None, {"$gt": key.expires_at}):
                    change = {"$set": {"expires_at": key.expires_at}}
                    await self._keys.update_one({"_id": key.key_id, "expires_at": later}, change)
        return new

    @store_operation
    async def get(self, key_id: KeyId) -> ApiKey | None:
        """The key, or None."""
        return await self._load(key_id)

    @store_operation
    async def keys(self) -> Sequence[ApiKey]:
        """All of them, the oldest first."""
        found = await self._keys.find({}).to_list()
        return [_read(document) for document in sorted(found, key=lambda d: (d["created_at"], d["_id"]))]

    @store_operation
    async def revoke(self, key_id: KeyId) -> ApiKey | None:
        """End it now and for ever; the first time stands."""
        now = await self._clock.now()
        await self._keys.update_one({"_id": key_id, "revoked_at": None}, {"$set": {"revoked_at": now}})
        return await self._load(key_id)

    @store_operation
    async def expire(self, key_id: KeyId, after: timedelta) -> ApiKey | None:
        """Let it expire so long from now, unless it does before."""
        moment = await self._clock.now() + after
        change = {"$set": {"expires_at": moment}}
        # Two writes: the embedded server reads a filter with $or by scanning the collection.
        for known in (None, {"$gt": moment}):
            await self._keys.update_one({"_id": key_id, "expires_at": known}, change)
        return await self._load(key_id)

    @store_operation
    async def note_use(self, key_id: KeyId, not_since: timedelta) -> bool:
        """It was used now, unless that was noted lately."""
        now = await self._clock.now()
        change = {"$set": {"last_used_at": now}}
        for known in (None, {"$lt": now - not_since}):
            result = await self._keys.update_one({"_id": key_id, "last_used_at": known}, change)
            if result.matched_count:
                return True
        return False

    @store_operation
    async def token_version(self, subject: str, resource: str) -> int:
        """How often the subject's tokens for the resource were revoked."""
        return await self._version(subject, resource)

    @store_operation
    async def revoke_tokens(self, subject: str, resource: str) -> int:
        """Make all of them invalid; the version of those to come."""
        name = {"_id": _name(subject, resource)}
        try:
            await self._versions.update_one(name, {"$inc": {"version": 1}}, upsert=True)
        except DuplicateKeyError:  # of two that insert at once one loses, and counts now
            await self._versions.update_one(name, {"$inc": {"version": 1}})
        return await self._version(subject, resource)

    @store_operation
    async def shared_secret(self, name: str, proposed: str) -> str:
        """The secret of that name: the first that was proposed."""
        with suppress(DuplicateKeyError):
            await self._secrets.insert_one({"_id": name, "value": proposed})
        document = await self._secrets.find_one({"_id": name})
        if document is None:
            raise StoreUnavailable("shared_secret")
        return str(document["value"])

    async def _load(self, key_id: KeyId) -> ApiKey | None:
        document = await self._keys.find_one({"_id": key_id})
        return None if document is None else _read(document)

    async def _version(self, subject: str, resource: str) -> int:
        document = await self._versions.find_one({"_id": _name(subject, resource)})
        return 0 if document is None else int(document["version"])


def _name(subject: str, resource: str) -> str:
    return f"{subject} {resource}"


def _read(document: Mapping[str, Any]) -> ApiKey:
    return ApiKey(
        key_id=KeyId(document["_id"]),
        digest=document["digest"],
        owner=Requester(document["owner"]),
        scopes=frozenset(map(Scope, document["scopes"])),
        collections=frozenset(map(Dcc, document["collections"])),
        all_collections=document["all_collections"],
        label=document["label"],
        created_at=document["created_at"],
        expires_at=document["expires_at"],
        revoked_at=document["revoked_at"],
        last_used_at=document["last_used_at"],
        # Keys of earlier versions have none.
        budget_per_day=document.get("budget_per_day"),
        budget_per_month=document.get("budget_per_month"),
    )
