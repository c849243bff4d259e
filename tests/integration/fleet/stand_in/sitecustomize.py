"""Run by Python at the start of a worker's processes in these tests: attempts get tools that obey the test.

Only what an attempt works with is replaced; worker, attempt process, cache and Wool are real.
What a step does is said by the source's local_id, and files in the data folder steer it.
"""

from __future__ import annotations

import asyncio
import importlib.abc
import importlib.machinery
import os
import signal
import subprocess
import sys
import time
import types
from contextlib import asynccontextmanager
from pathlib import Path


def _dependencies() -> types.ModuleType:
    from gooseherd.domain.artifact import Kind
    from gooseherd.domain.ports.source import Fetched
    from gooseherd.domain.processing import Produced, StepOutput
    from gooseherd.storage.local import LocalFsCache

    class Sources:
        async def fetch(self, source, into, *, limit, report, pausing):
            into.write_bytes(b"source")
            report(6, 6)
            return Fetched(into, 6, "")

    class Step:
        name = "data"
        needs = None
        weight = 1.0

        async def run(self, given):
            data = Path(os.environ["SYNC_DATA_DIR"]).parent
            wish = given.source.local_id
            (given.work / "spill").write_bytes(b"x" * 1000)
            with (data / "runs").open("a") as file:
                file.write(f"{wish}\n")
            tools = []
            if wish != "quick":
                # One in the attempt's process group, one in a group of its own.
                tools = [
                    subprocess.Popen(["sleep", "600"]),  # noqa: ASYNC220
                    subprocess.Popen(["sleep", "600"], process_group=0),  # noqa: ASYNC220
                ]
            (data / "pids").write_text(" ".join(str(pid) for pid in (os.getpid(), *(t.pid for t in tools))))
            try:
                if wish == "crash":
                    os.kill(os.getpid(), signal.SIGKILL)
                if wish == "deaf":
                    while not (data / "open").exists():
                        time.sleep(0.02)  # noqa: ASYNC251
                while wish == "hold" and not (data / "open").exists():
                    given.report(0.5, 10, 20)
                    await asyncio.sleep(0.02)
            finally:
                for tool in tools:
                    tool.kill()
                    tool.wait()
            (given.work / "out").write_bytes(b"made")
            return StepOutput(files=(Produced(Kind.DATA, given.work / "out", "data.bin", "x.bed"),))

    class Processor:
        name = "stand-in"

        def version(self, source_format):
            return "1"

        def steps(self, source_format):
            return (Step(),)

    class Registry:
        def processor(self, recipe):
            return Processor()

    @asynccontextmanager
    async def open_dependencies(
        spec, settings, scratch, preparation=None, credentials=None, source_access=None
    ):
        yield LocalFsCache(settings.data_dir), Sources(), Registry()

    @asynccontextmanager
    async def open_references(settings, sources, folder):
        yield None

    module = types.ModuleType("gooseherd.worker.dependencies")
    vars(module).update(open_dependencies=open_dependencies, open_references=open_references)
    return module


class _Finder(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    def find_spec(self, name, path=None, target=None):
        if name != "gooseherd.worker.dependencies":
            return None
        return importlib.machinery.ModuleSpec(name, self)

    def create_module(self, spec):
        return _dependencies()

    def exec_module(self, module):
        return None


sys.meta_path.insert(0, _Finder())

if "ANSWERS_WITH" in os.environ:
    # A worker that was taken over: whatever it is asked, it answers with this pickle.
    from wool.runtime.serializer import CloudpickleSerializer

    _forged = Path(os.environ["ANSWERS_WITH"]).read_bytes()
    CloudpickleSerializer.dumps = lambda self, obj: _forged
