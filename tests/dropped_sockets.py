"""Sockets that PyMongo drops while they connect are closed at once, without a warning.

A coroutine that is cancelled while PyMongo 4.20 connects (`pool_shared._async_create_connection` closes its
socket after OSError and TimeoutError, not after CancelledError) leaves the socket to the garbage collector.
It is closed there, so no process loses descriptors; but Python warns of it in whatever test runs by then, and
warnings are errors here.
"""

from __future__ import annotations

import socket
from types import ModuleType

from pymongo import pool_shared


class _ClosedWhenDropped(socket.socket):
    def __del__(self) -> None:
        self.close()


def close_when_dropped() -> None:
    """For what PyMongo opens from now on in this process."""
    own = ModuleType("socket")
    vars(own).update(vars(socket), socket=_ClosedWhenDropped)
    vars(pool_shared)["socket"] = own
