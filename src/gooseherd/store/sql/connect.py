"""Which database a URL names."""

from __future__ import annotations

from pathlib import Path
from typing import Final
from urllib.parse import unquote, urlsplit

from gooseherd.domain.errors import Misconfigured
from gooseherd.store.sql.database import SqlDatabase
from gooseherd.store.sql.sqlite import open_sqlite

SETTING: Final = "DATABASE_URL"

SCHEMES: Final = ("sqlite", "postgresql", "postgres")


async def open_database(url: str, name: str) -> SqlDatabase:
    """The database at `sqlite:///absolute/path` or `postgresql://…`, brought up to the present schema.

    `name` is the database on a server whose URL names none.

    Raises:
        Misconfigured: the URL cannot be used; the message repeats none of it, it may hold a password.
        StoreUnavailable: again later.
    """
    scheme = url.partition(":")[0]
    if scheme == "sqlite":
        return await open_sqlite(sqlite_path(url), setting=SETTING)
    if scheme not in SCHEMES:
        raise Misconfigured(SETTING, "must begin with sqlite:// or postgresql://")
    # The driver is for those who use it.
    from gooseherd.store.sql.postgres import open_postgres

    return await open_postgres(url, name)


def sqlite_path(url: str) -> Path:
    """The file that a sqlite: URL names. Raises Misconfigured."""
    parts = urlsplit(url)
    path = Path(unquote(parts.path))
    if parts.netloc or not path.is_absolute() or not path.name:
        raise Misconfigured(SETTING, "must be sqlite:/// and the absolute path of a file")
    return path
