"""A program that asks a worker what it is, and then asks it to run something; prints what came of both.

    python ask_a_worker.py ADDRESS MARKER [--certificates FOLDER] [--as-nobody]

It loads all it needs before it becomes another user, who may not read this checkout.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import pickle
import pwd
from pathlib import Path
from typing import Any

import wool
from wool.runtime.serializer import CloudpickleSerializer

from gooseherd.domain.job import WorkerId
from gooseherd.domain.ports.fleet import WorkerHandle
from gooseherd.fleet.wool_workers import WoolWorkers
from gooseherd.worker.tls import Certificates


class Forgery:
    def __init__(self, marker: str) -> None:
        self._marker = marker

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (self._marker,)


async def asked(worker: WorkerHandle, workers: WoolWorkers) -> str:
    try:
        async with workers.connect(worker) as link:
            return "build" if "build" in await link.describe() else "something else"
    except Exception as error:
        return f"{type(error).__name__}: {error}"


async def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("address")
    parser.add_argument("marker")
    parser.add_argument("--certificates", type=Path)
    parser.add_argument("--as-nobody", action="store_true")
    given = parser.parse_args()
    credentials = None
    if given.certificates is not None:
        files = (str(given.certificates / name) for name in ("ca.pem", "api.pem", "api.key"))
        credentials = Certificates(*files).to_call()
    workers = WoolWorkers(dispatch_seconds=5.0, credentials=credentials)
    worker = WorkerHandle(WorkerId("w"), given.address)
    if given.as_nobody:
        nobody = pwd.getpwnam("nobody")
        os.setgroups([])
        os.setgid(nobody.pw_gid)
        os.setuid(nobody.pw_uid)
    answer = await asked(worker, workers)

    forged = pickle.dumps(Forgery(given.marker))

    class Forging(CloudpickleSerializer):  # type: ignore[misc]
        def dumps(self, obj: object) -> bytes:
            return forged if callable(obj) else bytes(super().dumps(obj))

    wool.__serializer__ = Forging()
    print(json.dumps({"answer": answer, "forged": await asked(worker, workers)}))


asyncio.run(main())
