"""What a MongoDB says of itself, for `gooseherd doctor`."""

from __future__ import annotations

from gooseherd.store.mongo.connect import Database, store_operation
from gooseherd.store.mongo.documentdb import check_documentdb, is_documentdb
from gooseherd.store.report import Danger, StoreReport


@store_operation
async def report(db: Database) -> StoreReport:
    """Its version and kind, and what of it or of the URL endangers acknowledged writes.

    Raises:
        StoreUnavailable: it does not answer.
    """
    admin = db.client.admin
    build = await admin.command("buildInfo")
    version = str(build.get("version", "of unknown version"))
    hello = await admin.command("hello")
    if "setName" in hello:
        kind = "replica set"
    elif hello.get("msg") == "isdbgrid":
        kind = "sharded cluster"
    else:
        kind = "standalone"
    dangers = []
    if kind == "standalone":
        dangers.append(
            Danger("one server: what it loses is lost", "run a replica set of three, or take backups")
        )
    wanted = db.client.write_concern.document
    if wanted.get("w", "majority") != "majority" or wanted.get("j") is False:
        # Our own writes ask for it whatever the URL says; tools that take the same URL do not.
        dangers.append(Danger("the URL asks for less than durable writes", "w=majority&journal=true"))
    if await is_documentdb(db):
        checked, found = await check_documentdb(db)
        return StoreReport(
            "DocumentDB",
            str(build.get("version", "of unknown version")),
            (kind, *checked),
            (*dangers, *found),
        )
    return StoreReport("MongoDB", version, (kind,), tuple(dangers))
