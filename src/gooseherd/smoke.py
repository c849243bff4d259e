"""Every format end to end on the configured profile: made, registered, asked for, read back, compared.

Exists so that one command says whether an installation works, for people and as JSON.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from gooseherd.client import GooseherdClient, ReadyPart
from gooseherd.client.endpoint import Endpoint
from gooseherd.client.local_service import default_state_dir, find_local_at
from gooseherd.devcloud.stack import stack_on_local_cloud
from gooseherd.domain.artifact import Kind
from gooseherd.domain.errors import InvalidInput
from gooseherd.domain.formats import Family, Format
from gooseherd.trial import inputs as made
from gooseherd.trial.checks import (
    attempt,
    check_annotation,
    check_cram,
    check_ranges,
    check_region,
    check_same_bytes,
    check_second_end,
    check_signal,
)
from gooseherd.trial.cloud import left_over, running_local_cloud, serving
from gooseherd.trial.digest import md5_of
from gooseherd.trial.entries import Entries, termination_interrupts
from gooseherd.trial.private_service import running_service

DCC = "smoke"
_AT_ONCE = 4

PrintStatus = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class FormatReport:
    """How one format went; `detail` is what was checked, or what went wrong."""

    format: str
    ok: bool
    seconds: float
    detail: str


@dataclass(frozen=True, slots=True)
class SmokeReport:
    """How all went."""

    profile: str
    formats: tuple[FormatReport, ...]
    left_over: Mapping[str, int] | None = None
    """On the local cloud: what was still there after the service had ended, by kind."""

    @property
    def ok(self) -> bool:
        """All formats went well, there were some, and nothing was left over."""
        clean = not any((self.left_over or {}).values())
        return clean and bool(self.formats) and all(one.ok for one in self.formats)

    def to_json(self) -> dict[str, Any]:
        """The promised shape: profile, ok, formats; on the local cloud left_over as well."""
        fields = {"profile": self.profile, "ok": self.ok, "formats": [asdict(one) for one in self.formats]}
        return fields if self.left_over is None else {**fields, "left_over": dict(self.left_over)}


def run(
    *,
    url: str | None,
    api_key: str | None,
    state_dir: Path | None,
    inputs: Path | None,
    keep: bool,
    timeout_seconds: float,
    print_status: PrintStatus,
    devcloud: bool = False,
    worker_image: Path | None = None,
    formats: Sequence[str] = (),
) -> SmokeReport:
    """Run it against `url`, or against a private service that is ended and removed afterwards.

    Its catalog entries are taken out again, also after a failure or an interruption; `keep`
    leaves them, and the folder it worked in.

    With `devcloud` that service works on a local cloud of its own: RunTask, tasks, S3; the
    tasks run `worker_image` if there is one (see `running_local_cloud`). `formats` names those to
    take, none: all.

    Raises:
        InvalidInput: no such format.
        DidNotStart: the private service did not.
        NotReachable: nothing answers at `url`.
    """
    chosen = _chosen(formats)
    with termination_interrupts(), _folder(keep, print_status) as folder:
        where = inputs.resolve() if inputs else folder / "inputs"
        where.mkdir(parents=True, exist_ok=True)
        if url is not None:
            ours = find_local_at(url, state_dir or default_state_dir(os.environ))
            endpoint = Endpoint.of(ours, api_key) if ours else Endpoint(url, api_key)
            with GooseherdClient.to(endpoint) as client:
                profile = ours.profile if ours else "remote"
                with Entries(client, print_status, keep=keep) as entries:
                    return _all(entries, client, profile, chosen, where, timeout_seconds, print_status)
        if devcloud:
            return _on_local_cloud(
                folder, worker_image, chosen, where, timeout_seconds, print_status, keep=keep
            )
        with (
            running_service(state_dir=folder / "state", allow_roots=[where], environ=os.environ) as service,
            GooseherdClient(service.url, api_key or service.admin_key) as client,
            Entries(client, print_status, keep=keep) as entries,
        ):
            return _all(entries, client, service.profile, chosen, where, timeout_seconds, print_status)


def _chosen(names: Sequence[str]) -> Sequence[Format]:
    known = {file_format.name: file_format for file_format in made.FORMATS}
    unknown = [name for name in names if name.lower() not in known]
    if unknown:
        raise InvalidInput("format", f"{unknown[0]!r} is none of {', '.join(known)}")
    return [known[name.lower()] for name in names] or made.FORMATS


def _on_local_cloud(
    folder: Path,
    worker_image: Path | None,
    formats: Sequence[Format],
    where: Path,
    timeout_seconds: float,
    print_status: PrintStatus,
    *,
    keep: bool,
) -> SmokeReport:
    # Tasks see no folder of ours, so the inputs are served; on loopback and in plain http, which
    # the outbound rules must allow.
    with serving(where) as base, running_local_cloud(folder / "site", worker_image=worker_image) as cloud:
        environ = {
            **os.environ,
            **cloud,
            "SOURCE_ALLOW_HTTP": "true",
            "SOURCE_ALLOW_NETWORKS": "127.0.0.1/32",
        }
        with (
            running_service(state_dir=folder / "state", allow_roots=(), environ=environ) as service,
            GooseherdClient(service.url, service.admin_key) as client,
            Entries(client, print_status, keep=keep) as entries,
        ):
            report = _all(
                entries, client, service.profile, formats, where, timeout_seconds, print_status, base
            )
        return replace(report, left_over=left_over(cloud))


@dataclass(frozen=True, slots=True)
class StackReport:
    """How a stack went: every format through it, what was left when it was deleted, what it did not try."""

    smoke: SmokeReport
    left_over: Mapping[str, int]
    only_checked: tuple[str, ...]

    @property
    def ok(self) -> bool:
        """All formats went well and nothing was left."""
        return self.smoke.ok and not any(self.left_over.values())

    def to_json(self) -> dict[str, Any]:
        """The promised shape: smoke, left_over, only_checked."""
        return {
            "smoke": self.smoke.to_json(),
            "left_over": dict(self.left_over),
            "only_checked": list(self.only_checked),
        }


def run_on_stack(
    template_folder: Path,
    *,
    keep: bool,
    timeout_seconds: float,
    print_status: PrintStatus,
    formats: Sequence[str] = (),
) -> StackReport:
    """Deploy the template of that folder on a local cloud, run it through the API there, delete the stack.

    Raises:
        InvalidInput: no such format, or no template there.
        StackFailed: the stack was not created or not deleted, or its service did not become steady.
    """
    chosen = _chosen(formats)
    with termination_interrupts(), _folder(keep, print_status) as folder:
        where = folder / "inputs"
        where.mkdir()
        settings = {
            "SOURCE_ALLOW_HTTP": "true",
            "SOURCE_ALLOW_NETWORKS": "127.0.0.1/32",
            # A cluster with tasks cannot be deleted, and workers end when they have been idle for so long.
            "WORKER_IDLE_TIMEOUT_SECONDS": "5",
        }
        with (
            serving(where) as base,
            stack_on_local_cloud(template_folder, folder / "stack", settings=settings) as stack,
        ):
            outputs = stack.outputs()
            print_status(f"deployed: {outputs['ApiPublicUrl']}, {outputs['EcsWorkerTaskDefinition']}")
            with (
                GooseherdClient(outputs["ApiPublicUrl"], stack.admin_key()) as client,
                Entries(client, print_status, keep=keep) as entries,
            ):
                report = _all(entries, client, "devcloud", chosen, where, timeout_seconds, print_status, base)
            stack.delete()
            return StackReport(report, stack.left_over(), tuple(stack.only_checked()))


def _all(
    entries: Entries,
    client: GooseherdClient,
    profile: str,
    formats: Sequence[Format],
    where: Path,
    timeout_seconds: float,
    print_status: PrintStatus,
    base: str | None = None,
) -> SmokeReport:
    salt = secrets.token_hex(4)

    def one(file_format: Format) -> FormatReport:
        began = time.monotonic()
        ok, detail = attempt(
            lambda: _end_to_end(entries, client, file_format, where, salt, timeout_seconds, base)
        )
        report = FormatReport(file_format.name, ok, round(time.monotonic() - began, 3), detail)
        print_status(f"{report.format}: {'ok' if ok else 'FAILED'} {detail}")
        return report

    with ThreadPoolExecutor(max_workers=_AT_ONCE) as pool:
        try:
            return SmokeReport(profile, tuple(pool.map(one, formats)))
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            entries.close()  # which ends the waits of those that have begun
            raise


def _end_to_end(
    entries: Entries,
    client: GooseherdClient,
    file_format: Format,
    where: Path,
    salt: str,
    timeout_seconds: float,
    base: str | None,
) -> str:
    given = made.make(file_format, where, salt)
    local_id = given.path.name
    entries.register(
        {
            "dcc": DCC,
            "local_id": local_id,
            "filename": given.path.name,
            "file_format": file_format.name,
            "access_url": f"{base}/{given.path.name}" if base else given.path.as_uri(),
            "md5": md5_of(given.path),
            "size_in_bytes": given.path.stat().st_size,
        }
    )
    data = client.ready(DCC, local_id, timeout_seconds=timeout_seconds)
    check_ranges(client, data)
    if given.region is None:
        return f"{check_same_bytes(client, data, given.path):,} bytes as they are"
    if file_format.family is Family.SIGNAL:
        values = check_signal(client, data, given.path, file_format, given.region)
        return f"{values:,} values of {given.region}"
    index = client.ready(DCC, local_id, kind=Kind.INDEX, timeout_seconds=timeout_seconds)
    check_ranges(client, index)
    if (data.filename or "").endswith(".cram"):  # WORKFLOW_CRAM=cram
        return f"{check_cram(client, data, index, given.path, given.region):,} records of {given.region}"
    blocks = None
    if file_format.family is Family.SEQUENCES:
        blocks = client.ready(DCC, local_id, kind=Kind.GZI, timeout_seconds=timeout_seconds)
        check_ranges(client, blocks)
    records = check_region(client, data, index, given.path, file_format, given.region, blocks)
    detail = f"{records:,} records of {given.region}"

    def part(kind: Kind) -> ReadyPart:
        return client.ready(DCC, local_id, kind=kind, timeout_seconds=timeout_seconds)

    if (region := made.SECOND_ENDS.get(file_format)) is not None:
        ends = part(Kind.SECOND_END), part(Kind.SECOND_END_INDEX)
        seconds = check_second_end(client, *ends, given.path, file_format, region)
        detail += f", {seconds:,} by the second end"
    if (gene := made.GENES.get(file_format)) is not None:
        features = check_annotation(client, part(Kind.ANNOTATION), part(Kind.ANNOTATION_INDEX), gene)
        detail += f", {features:,} features of {gene}"
    return detail


@contextlib.contextmanager
def _folder(keep: bool, print_status: PrintStatus) -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="gooseherd-smoke-"))
    try:
        yield folder
    finally:
        if keep:
            print_status(f"kept: {folder}")
        else:
            shutil.rmtree(folder, ignore_errors=True)
