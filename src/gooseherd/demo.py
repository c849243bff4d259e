"""Real files in, byte ranges out, every promise checked on the way: what `./dev demo` shows.

All of it goes through HTTP, as a client elsewhere would do it.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import socket
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TaskProgressColumn, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from gooseherd.client import GooseherdClient, Ready
from gooseherd.client.local_service import LocalService, find_local
from gooseherd.client.region import Region, parse_region
from gooseherd.domain.artifact import Kind
from gooseherd.domain.errors import Misconfigured
from gooseherd.domain.formats import Format, resolve
from gooseherd.trial import demodata
from gooseherd.trial.checks import CheckFailed, attempt, check_ranges, check_region, check_same_bytes
from gooseherd.trial.entries import Entries, termination_interrupts
from gooseherd.trial.private_service import DidNotStart, running_service

DCC = "demo"
MANIFEST = demodata.MANIFEST.name
_PORT = 8080
_PATIENCE_SECONDS = 300.0
_WIDE = 150
"""Columns of a terminal that has room for the descriptions too."""


@dataclass(frozen=True, slots=True)
class DemoFile:
    """One file of the demo's data; `records` overlap the region, as counted when the data was chosen."""

    local_id: str
    path: Path
    file_format: Format
    md5: str
    description: str
    region: Region | None
    records: int | None


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one file."""

    file: DemoFile
    ok: bool
    detail: str
    seconds: float
    cached: bool


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
        Entries(client, lambda words: print(f"demo: {words}", file=sys.stderr)) as entries,
    ):
        console.print(
            f"[bold]gooseherd[/] {service.profile} at {service.url}  state {state}", highlight=False
        )
        outcomes = _show_all(console, client, entries, files)
        _table(console, outcomes)
        failed = [one for one in outcomes if not one.ok]
        if not failed and not once:
            _invite(console, service, outcomes)
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


def read_manifest(folder: Path | None) -> list[DemoFile]:
    """The files of the demo's data folder; without one the data is fetched and kept in the user's cache.

    Raises:
        Misconfigured: the folder is not what a fetch leaves, or cannot be written to.
        DataMissing: the data could not be fetched.
    """
    if folder is None:
        folder = demodata.default_folder(os.environ)
        try:
            demodata.bring(folder)
        except OSError as error:
            raise Misconfigured(
                "GOOSEHERD_DEMO_DATA",
                f"not set, and the demo's files cannot be kept in {folder} ({error.strerror}); "
                "make that possible, or name another cache folder in XDG_CACHE_HOME",
            ) from None
    folder = folder.resolve()
    try:
        entries = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))["files"]
        return [_demo_file(folder, entry) for entry in entries]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise Misconfigured(
            "GOOSEHERD_DEMO_DATA",
            f"no usable {MANIFEST} in {folder} ({type(error).__name__}); fill the folder by "
            f"python -m gooseherd.trial.demodata {folder}, or leave it unset: the demo then fetches its data",
        ) from None


def _demo_file(folder: Path, entry: dict[str, Any]) -> DemoFile:
    file_format = resolve(entry["format"])
    path = folder / entry["file"]
    if file_format is None or not path.is_file():
        raise ValueError(entry["id"])
    return DemoFile(
        local_id=entry["id"],
        path=path,
        file_format=file_format,
        md5=entry["md5"],
        description=entry["description"],
        region=parse_region(entry["region"]) if entry["region"] else None,
        records=entry["records"],
    )


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

    def on_job(job: dict[str, Any]) -> None:
        now = job.get("progress") or {}
        step = now.get("step") if job.get("status") == "running" else job.get("status")
        progress.update(bar, completed=min(float(now.get("percent") or 0), 99), state=step or "")

    def story() -> str:
        nonlocal cached
        _register(entries, file)
        data = client.ready(DCC, file.local_id, timeout_seconds=_PATIENCE_SECONDS, on_job=on_job)
        cached = data.job is None
        progress.update(bar, completed=99, state="checking")
        return _check(client, file, data)

    ok, detail = attempt(story)
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


def _check(client: GooseherdClient, file: DemoFile, data: Ready) -> str:
    check_ranges(client, data)
    if file.region is None or file.records is None:
        return f"{check_same_bytes(client, data, file.path):,} bytes, as they are"
    index = client.ready(DCC, file.local_id, kind=Kind.INDEX, timeout_seconds=_PATIENCE_SECONDS)
    check_ranges(client, index)
    records = check_region(client, data, index, file.path, file.file_format, file.region)
    if records != file.records:
        raise CheckFailed(f"a scan of the source finds {records} records, {file.records} were counted")
    return f"{records:,} records in {file.region}"


def _table(console: Console, outcomes: Sequence[Outcome]) -> None:
    table = Table(box=None, header_style="bold", pad_edge=False)
    for head in ("file", "format", "", "seconds"):
        table.add_column(head, no_wrap=True)
    table.add_column("read back and compared", overflow="fold")
    if console.width >= _WIDE:
        table.add_column("what it is")
    for one in outcomes:
        mark = Text("FAILED", "bold red") if not one.ok else Text("cached" if one.cached else "made", "green")
        row: list[str | Text] = [
            one.file.local_id,
            one.file.file_format.name,
            mark,
            f"{one.seconds:.1f}",
            Text(one.detail),
        ]
        if console.width >= _WIDE:
            row.append(Text(one.file.description))
        table.add_row(*row)
    console.print(table)
    console.print("each also: ETag = sha256, 206 clamped at the end, 304, 416, If-Range, CORS", style="dim")


def _invite(console: Console, service: LocalService, outcomes: Sequence[Outcome]) -> None:
    name = next((o.file.local_id for o in outcomes if o.file.region is not None), outcomes[0].file.local_id)
    with GooseherdClient(service.url) as client:
        data, index = client.region_urls(DCC, name)
        job = next(client.jobs(limit=1), None)
    lines = [
        f"curl -s -D - -o /dev/null -r 0-65535 {data}",
        f"curl -s -o index {index}",
        f"curl -s '{service.url}/files?dcc={DCC}'",
    ]
    if job is not None:
        lines.append(f"curl -s {client.url('/jobs/' + str(job['job_id']))}")
    lines.append(f"gooseherd get --url {service.url} {DCC}/{name} --region '{_region_of(outcomes, name)}'")
    console.print("\n[bold]to try[/]")
    for line in lines:
        console.print("  " + line, highlight=False, markup=False, soft_wrap=True)
    console.print(f"  {service.url}/docs", highlight=False)


def _region_of(outcomes: Sequence[Outcome], name: str) -> Region | None:
    return next(one.file.region for one in outcomes if one.file.local_id == name)


def _serve_until_interrupted(console: Console) -> None:
    with contextlib.suppress(KeyboardInterrupt):
        console.print("\nserving until Ctrl-C", style="bold")
        while True:
            time.sleep(3600)
    console.print("stopping", style="dim")
