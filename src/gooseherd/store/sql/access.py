"""The AccessTimes port: when artifacts were used."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from datetime import datetime, timedelta
from functools import cache
from typing import Final

from sqlalchemy import Executable, bindparam, delete, select

from gooseherd.store.sql.columns import storable
from gooseherd.store.sql.database import Stored, Transaction, reading, writing
from gooseherd.store.sql.schema import access_times
from gooseherd.store.sql.upserts import insert_into

_LAST: Final = "\U0010ffff"
"""Sorts after every character a name may hold."""

_BELOW: Final = select(access_times.c.name, access_times.c.at).where(
    access_times.c.name >= bindparam("b_first"), access_times.c.name < bindparam("b_last")
)


class SqlAccessTimes(Stored):
    """The AccessTimes port over SQLite and PostgreSQL."""

    @writing
    def touch(self, tx: Transaction, names: Collection[str], not_since: timedelta) -> None:
        """Set to now those that are not known, or older than that."""
        old = tx.now - not_since
        # Sorted, so that two processes at once wait for each other instead of locking each other out.
        for name in sorted(map(storable, names)):
            tx.connection.execute(_touch(tx.dialect), {"name": name, "at": tx.now, "b_old": old})

    @reading
    def below(self, tx: Transaction, prefix: str) -> Mapping[str, datetime]:
        """Those that begin so."""
        first = storable(prefix)
        rows = tx.connection.execute(_BELOW, {"b_first": first, "b_last": first + _LAST})
        return {row.name: row.at for row in rows}

    @writing
    def forget(self, tx: Transaction, name: str, seen: datetime | None) -> bool:
        """Remove the name if it is still as it was seen."""
        its = access_times.c.name == storable(name)
        if seen is None:
            return tx.connection.execute(select(access_times.c.name).where(its)).first() is None
        return tx.connection.execute(delete(access_times).where(its, access_times.c.at == seen)).rowcount == 1


@cache
def _touch(dialect: str) -> Executable:
    insert = insert_into(dialect, access_times)
    return insert.on_conflict_do_update(
        index_elements=["name"],
        set_={"at": insert.excluded.at},
        where=access_times.c.at < bindparam("b_old", type_=access_times.c.at.type),
    )
