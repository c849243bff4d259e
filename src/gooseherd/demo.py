"""Real files in, byte ranges out, every promise checked on the way: what `./dev demo` shows.

All of it goes through HTTP, as a client elsewhere would do it.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TaskProgressColumn, TextColumn, TimeElapsedColumn

from gooseherd.client import GooseherdClient, ReadyPart
from gooseherd.client.local_service import LocalService, find_local
from gooseherd.domain.artifact import Kind
from gooseherd.domain.errors import Misconfigured
from gooseherd.trial.checks import CheckFailed, attempt, check_ranges, check_region, check_same_bytes
from gooseherd.trial.demo_files import DCC, DemoFile, read_manifest
from gooseherd.trial.demo_report import Outcome, print_suggestions, print_table
from gooseherd.trial.entries import Entries, termination_interrupts
from gooseherd.trial.private_service import DidNotStart, running_service

_PORT = 8080
_READY_SECONDS = 300.0


def run(*, data: Path | None, once: bool, port: int | None, state_dir: Path | None) -> bool:
    """Show it; whether every check held. Without `once` it then serves until Ctrl-C.

    Its catalog entries are taken out again, however it ends.

    Raises:
        Misconfigured: the folder has no demo data, or another service runs on the state folder.
        DataMissing: the demo data could not be fetched.
        DidNotStart: the service did not.
    """
    began, console = time.monotonic(), Console()
    files = read_manifest(data)
    with (
        termination_interrupts(),
        _state_folder(state_dir) as state,
        _service(state, files[0].path.parent, port) as service,
        GooseherdClient(service.url, service.admin_key) as client,
        Entries(client, lambda line: print(f"demo: {line}", file=sys.stderr)) as entries,
    ):
        console.print(
            f"[bold]gooseherd[/] {service.profile} at {service.url}  state {state}", highlight=False
        )
        outcomes = _show_all(console, client, entries, files)
        print_table(console, outcomes)
        failed = [one for one in outcomes if not one.ok]
        if not failed and not once:
            print_suggestions(console, service, outcomes)
            _serve_until_interrupted(console)
    for one in failed:
        print(f"demo: failed: {one.file.local_id}: {one.detail}", file=sys.stderr)
    if any("misconfigured" in one.detail for one in failed):
        print("demo: what this machine lacks, and how to get it:  gooseherd doctor", file=sys.stderr)
    if failed:
        print(f"demo: FAILED ({len(failed)} of {len(outcomes)} files)", flush=True)
        return False
    formats = len({one.file.file_format for one in outcomes})
    print(
        f"demo: ok ({formats} formats, {len(outcomes)} files, {time.monotonic() - began:.1f} s)", flush=True
    )
    return True


@contextlib.contextmanager
def _state_folder(folder_given: Path | None) -> Iterator[Path]:
    if folder_given is not None:
        running = find_local(folder_given)
        if running is not None:
            raise Misconfigured("GOOSEHERD_STATE_DIR", f"gooseherd already runs on it, at {running.url}")
        yield folder_given.absolute()
        return
    folder = Path(tempfile.mkdtemp(prefix="gooseherd-demo-"))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextlib.contextmanager
def _service(state: Path, data: Path, port: int | None) -> Iterator[LocalService]:
    with contextlib.ExitStack() as stack:

        def start(on: int) -> LocalService:
            return stack.enter_context(
                running_service(state_dir=state, allow_roots=[data], environ=os.environ, port=on)
            )

        wanted = _free(_PORT) if port is None else port
        try:
            service = start(wanted)
        except DidNotStart:
            # It was free a moment ago; another process may have been faster, another demo for one.
            if port is not None or not wanted or _free(_PORT):
                raise
            service = start(0)
        if not service.admin_key:
            raise DidNotStart("no admin key in its state folder")
        yield service


def _free(port: int) -> int:
    """`port`, or 0 (any) when it is taken."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return 0
    return port


def _show_all(
    console: Console, client: GooseherdClient, entries: Entries, files: Sequence[DemoFile]
) -> list[Outcome]:
    columns = (TextColumn("{task.description:24}"), BarColumn(), TaskProgressColumn(), TimeElapsedColumn())
    with Progress(*columns, TextColumn("{task.fields[state]}"), console=console) as progress:
        bars = {file.local_id: progress.add_task(file.local_id, total=100, state="") for file in files}
        with ThreadPoolExecutor(max_workers=len(files)) as pool:
            try:
                return list(
                    pool.map(lambda file: _show(client, entries, file, progress, bars[file.local_id]), files)
                )
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                entries.close()  # which ends the waits of those that have begun
                raise


def _show(
    client: GooseherdClient, entries: Entries, file: DemoFile, progress: Progress, bar: TaskID
) -> Outcome:
    began, cached = time.monotonic(), False

    def on_job(job: Mapping[str, Any]) -> None:
        now = job.get("progress") or {}
        step = now.get("step") if job.get("status") == "running" else job.get("status")
        progress.update(bar, completed=min(float(now.get("percent") or 0), 99), state=step or "")

    def check() -> str:
        nonlocal cached
        _register(entries, file)
        data = client.ready(DCC, file.local_id, timeout_seconds=_READY_SECONDS, on_job=on_job)
        cached = data.job is None
        progress.update(bar, completed=99, state="checking")
        return _check(client, file, data)

    ok, detail = attempt(check)
    progress.update(
        bar, completed=100 if ok else None, state="cached" if cached and ok else "ok" if ok else "FAILED"
    )
    return Outcome(file, ok, detail, time.monotonic() - began, cached)


def _register(entries: Entries, file: DemoFile) -> None:
    entries.register(
        {
            "dcc": DCC,
            "local_id": file.local_id,
            "filename": file.path.name,
            "file_format": file.file_format.name,
            "access_url": file.path.as_uri(),
            "md5": file.md5,
            "size_in_bytes": file.path.stat().st_size,
        }
    )


def _check(client: GooseherdClient, file: DemoFile, data: ReadyPart) -> str:
    check_ranges(client, data)
    if file.region is None or file.records is None:
        return f"{check_same_bytes(client, data, file.path):,} bytes, as they are"
    index = client.ready(DCC, file.local_id, kind=Kind.INDEX, timeout_seconds=_READY_SECONDS)
    check_ranges(client, index)
    records = check_region(client, data, index, file.path, file.file_format, file.region)
    if records != file.records:
        raise CheckFailed(f"a scan of the source finds {records} records, {file.records} were counted")
    return f"{records:,} records in {file.region}"


def _serve_until_interrupted(console: Console) -> None:
    with contextlib.suppress(KeyboardInterrupt):
        console.print("\nserving until Ctrl-C", style="bold")
        while True:
            time.sleep(3600)
    console.print("stopping", style="dim")
