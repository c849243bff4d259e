"""The KeyStore port: API keys, versions of tokens, shared secrets."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import Any

from sqlalchemy import Row, bindparam, case, func, or_, select, update

from gooseherd.domain.apikey import ApiKey, KeyId, NewKey
from gooseherd.domain.caller import Scope
from gooseherd.domain.job import Requester
from gooseherd.domain.source import Dcc
from gooseherd.store.sql.database import Stored, Transaction, reading, writing
from gooseherd.store.sql.schema import api_keys, shared_secrets, token_versions
from gooseherd.store.sql.upserts import insert_into


class SqlKeys(Stored):
    """The KeyStore port over SQLite and PostgreSQL."""

    @writing
    def add(self, tx: Transaction, key: NewKey) -> ApiKey:
        """Store a new key; of two with one id the first stays."""
        row = {
            "id": key.key_id,
            "digest": key.digest,
            "owner": key.owner,
            "scopes": sorted(key.scopes),
            "collections": sorted(key.collections),
            "all_collections": key.all_collections,
            "label": key.label,
            "created_at": tx.now,
            "expires_at": key.expires_at,
            "budget_per_day": key.budget_per_day,
            "budget_per_month": key.budget_per_month,
        }
        insert = insert_into(tx.dialect, api_keys)
        tx.connection.execute(insert.on_conflict_do_nothing(index_elements=["id"]), row)
        stored = _load(tx, key.key_id)
        assert stored is not None
        return stored

    @writing
    def restore(self, tx: Transaction, keys: Sequence[ApiKey]) -> int:
        """Insert or replace; what is revoked stays so, and of two ends the sooner one holds."""
        insert = insert_into(tx.dialect, api_keys)
        values: dict[str, Any] = {
            column.name: insert.excluded[column.name] for column in api_keys.columns if column.name != "id"
        }
        values["revoked_at"] = func.coalesce(api_keys.c.revoked_at, insert.excluded.revoked_at)
        ends = insert.excluded.expires_at
        sooner = or_(api_keys.c.expires_at.is_(None), ends < api_keys.c.expires_at)
        values["expires_at"] = case((sooner, ends), else_=api_keys.c.expires_at)
        upsert = insert.on_conflict_do_update(index_elements=["id"], set_=values)
        known = select(api_keys.c.id).where(api_keys.c.id == bindparam("b_id"))
        new = 0
        for key in sorted(keys, key=lambda key: key.key_id):
            new += tx.connection.execute(known, {"b_id": key.key_id}).first() is None
            tx.connection.execute(upsert, _row(key))
        return new

    @reading
    def get(self, tx: Transaction, key_id: KeyId) -> ApiKey | None:
        """The key, or None."""
        return _load(tx, key_id)

    @reading
    def keys(self, tx: Transaction) -> Sequence[ApiKey]:
        """All of them, the oldest first."""
        rows = tx.connection.execute(select(api_keys).order_by(api_keys.c.created_at, api_keys.c.id))
        return [_to_key(row) for row in rows]

    @writing
    def revoke(self, tx: Transaction, key_id: KeyId) -> ApiKey | None:
        """End it now and for ever; the first time stands."""
        its = update(api_keys).where(api_keys.c.id == key_id, api_keys.c.revoked_at.is_(None))
        tx.connection.execute(its.values(revoked_at=tx.now))
        return _load(tx, key_id)

    @writing
    def expire(self, tx: Transaction, key_id: KeyId, after: timedelta) -> ApiKey | None:
        """Let it expire so long from now, unless it does before."""
        moment = tx.now + after
        later = or_(api_keys.c.expires_at.is_(None), api_keys.c.expires_at > moment)
        its = update(api_keys).where(api_keys.c.id == key_id, later)
        tx.connection.execute(its.values(expires_at=moment))
        return _load(tx, key_id)

    @writing
    def note_use(self, tx: Transaction, key_id: KeyId, not_since: timedelta) -> bool:
        """It was used now, unless that was noted lately."""
        old = or_(api_keys.c.last_used_at.is_(None), api_keys.c.last_used_at < tx.now - not_since)
        its = update(api_keys).where(api_keys.c.id == key_id, old)
        return tx.connection.execute(its.values(last_used_at=tx.now)).rowcount == 1

    @reading
    def token_version(self, tx: Transaction, subject: str, resource: str) -> int:
        """How often the subject's tokens for the resource were revoked."""
        return _version(tx, subject, resource)

    @writing
    def revoke_tokens(self, tx: Transaction, subject: str, resource: str) -> int:
        """Make all of them invalid; the version of those to come."""
        row = {"subject": subject, "resource": resource, "version": 1}
        insert = insert_into(tx.dialect, token_versions)
        upsert = insert.on_conflict_do_update(
            index_elements=["subject", "resource"], set_={"version": token_versions.c.version + 1}
        )
        tx.connection.execute(upsert, row)
        return _version(tx, subject, resource)

    @writing
    def shared_secret(self, tx: Transaction, name: str, proposed: str) -> str:
        """The secret of that name: the first that was proposed."""
        insert = insert_into(tx.dialect, shared_secrets)
        tx.connection.execute(
            insert.on_conflict_do_nothing(index_elements=["name"]), {"name": name, "value": proposed}
        )
        value: str = tx.connection.execute(
            select(shared_secrets.c.value).where(shared_secrets.c.name == name)
        ).scalar_one()
        return value


def _row(key: ApiKey) -> dict[str, Any]:
    return {
        "id": key.key_id,
        "digest": key.digest,
        "owner": key.owner,
        "scopes": sorted(key.scopes),
        "collections": sorted(key.collections),
        "all_collections": key.all_collections,
        "label": key.label,
        "created_at": key.created_at,
        "expires_at": key.expires_at,
        "revoked_at": key.revoked_at,
        "last_used_at": key.last_used_at,
        "budget_per_day": key.budget_per_day,
        "budget_per_month": key.budget_per_month,
    }


def _load(tx: Transaction, key_id: KeyId) -> ApiKey | None:
    row = tx.connection.execute(select(api_keys).where(api_keys.c.id == key_id)).first()
    return None if row is None else _to_key(row)


def _version(tx: Transaction, subject: str, resource: str) -> int:
    its = token_versions.c.subject == subject, token_versions.c.resource == resource
    return tx.connection.scalar(select(token_versions.c.version).where(*its)) or 0


def _to_key(row: Row[Any]) -> ApiKey:
    return ApiKey(
        key_id=KeyId(row.id),
        digest=row.digest,
        owner=Requester(row.owner),
        scopes=frozenset(map(Scope, row.scopes)),
        collections=frozenset(map(Dcc, row.collections)),
        all_collections=row.all_collections,
        label=row.label,
        created_at=row.created_at,
        expires_at=row.expires_at,
        revoked_at=row.revoked_at,
        last_used_at=row.last_used_at,
        budget_per_day=row.budget_per_day,
        budget_per_month=row.budget_per_month,
    )
