"""Which document store the environment asks for: a named one, or an embedded server of our own."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager

from gooseherd.settings import Settings
from gooseherd.statedir import StateDir
from gooseherd.store.document_server import DocumentServer
from gooseherd.store.mongo.connect import Database, connect


@asynccontextmanager
async def open_database(
    settings: Settings, state: StateDir
) -> AsyncIterator[tuple[Database, Callable[[], str | None]]]:
    """The database, for as long as the block lasts, and what is known of it while it does not answer.

    Raises:
        StoreUnavailable: the embedded server does not start.
    """
    async with AsyncExitStack() as stack:
        url = settings.database_url
        server: DocumentServer | None = None
        if url is None:
            server = DocumentServer(state.path / "documents")
            url = await server.start()
            stack.push_async_callback(server.stop)
        database = connect(url, settings.database_name)
        stack.push_async_callback(database.client.close)
        yield database, lambda: server.trouble if server is not None else None
