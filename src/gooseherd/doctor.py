"""What this machine lacks for the configured profile, and how to get it.

Looks, changes nothing. Each check says what it found; a remedy is a command or a setting.
"""

from __future__ import annotations

import asyncio
import errno
import resource
import socket
import sys
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path

from gooseherd.client import GooseherdClient
from gooseherd.client.local_service import find_local
from gooseherd.domain.errors import GooseherdError, Misconfigured
from gooseherd.http_settings import PRESIGNED
from gooseherd.processing.tools.isolation import SandboxUse
from gooseherd.processing.tools.preflight import (
    Check,
    Report,
    State,
    disk,
    existing,
    soft_limit,
    tools,
    writable,
)
from gooseherd.settings import Profile, Settings

_OPEN_FILES = 4096
"""A held request, its upstream and its artifact are three; hundreds of clients are common."""
_PROCESSES = 256


def examine(settings: Settings, environ: Mapping[str, str]) -> Report:
    """Check everything the profile of `settings` needs. Takes a few seconds at most."""
    checks = [_python()]
    if settings.worker_hosts is not None:
        checks.append(Check("tools", "ok", "of the workers' hosts: `gooseherd worker --doctor` there"))
    elif settings.ecs_cluster is None:
        checks += tools(SandboxUse(settings.worker_sandbox), environ, settings.worker_readable_paths)
    else:
        where = f"of tasks in {settings.ecs_cluster}: run their image with --doctor"
        checks.append(Check("tools", "ok", where))
        checks += _certificates(environ)
    checks += _store(settings)
    checks += _folders(settings)
    checks += _delivery(settings)
    checks += launches(settings.gooseherd_state_dir)
    checks += [_port(settings), _open_files(), _process_count()]
    return Report(settings.profile.value, tuple(checks))


def _python() -> Check:
    found = ".".join(map(str, sys.version_info[:3]))
    if (3, 11) <= sys.version_info < (3, 14):
        return Check("python", "ok", found)
    return Check("python", "missing", found, "use Python 3.11, 3.12 or 3.13")


def _certificates(environ: Mapping[str, str]) -> Iterator[Check]:
    from gooseherd.certs import validity
    from gooseherd.worker.tls import Certificates

    remedy = "`gooseherd certs make` makes them; docs/certificates.md says who needs which"
    try:
        certificates = Certificates.from_env(environ)
        ends = certificates.expiries("the API") if certificates is not None else {}
    except Misconfigured as error:
        yield Check("certificates", "missing", str(error), remedy)
        return
    if certificates is None:
        yield Check("certificates", "missing", "WORKER_TLS_CA and its pair are not set", remedy)
        return
    now = datetime.now(UTC)
    found = [validity(f"that of {role}", end, now) for role, end in ends.items()]
    state: State = "ok" if all(lasts for lasts, _ in found) else "warn"
    if min(ends.values()) <= now:
        state = "missing"
    renew = "`gooseherd certs make --renew FOLDER` replaces the pairs (docs/certificates.md)"
    yield Check("certificates", state, "; ".join(text for _, text in found), "" if state == "ok" else renew)


def _store(settings: Settings) -> Iterator[Check]:
    from gooseherd.wiring.embedded_state import how_to_take_over, to_take_over
    from gooseherd.wiring.store import examine_store

    try:
        found = asyncio.run(examine_store(settings))
    except GooseherdError as error:
        if settings.has_database_server:
            remedy = "start the server that DATABASE_URL names, or correct it"
        else:
            remedy = "a folder of this machine's that you may write to; docs/stores.md"
        yield Check("store", "missing", str(error), remedy)
        return
    if found.dangers:
        dangers = "; ".join(danger.what for danger in found.dangers)
        remedies = "; ".join(danger.remedy for danger in found.dangers)
        yield Check("store", "warn", f"{found}: {dangers}", remedies)
    else:
        yield Check("store", "ok", str(found))
    documents = settings.gooseherd_state_dir / "documents"
    if settings.database_url is None and to_take_over(documents):
        yield Check("earlier catalog", "warn", f"{documents}: not taken over yet", how_to_take_over())


def _folders(settings: Settings) -> Iterator[Check]:
    state, artifacts = settings.gooseherd_state_dir, settings.artifacts_dir
    yield writable("state folder", state, "GOOSEHERD_STATE_DIR")
    if artifacts is None:
        if settings.profile is Profile.EMBEDDED:
            remedy = "set SYNC_DATA_DIR or WORKFLOW_S3_BUCKET"
            yield Check("artifacts", "warn", "no place for them: only upstream bytes are served", remedy)
        yield disk(state)
        return
    yield writable("artifacts folder", artifacts, "SYNC_DATA_DIR")
    if existing(state).stat().st_dev == existing(artifacts).stat().st_dev:
        yield Check("file system", "ok", "work and artifacts share one")
    else:
        remedy = "put SYNC_DATA_DIR and GOOSEHERD_STATE_DIR on one file system"
        yield Check(
            "file system", "warn", "work and artifacts lie on two: every artifact is copied once more", remedy
        )
    yield disk(artifacts)


def _delivery(settings: Settings) -> Iterator[Check]:
    mode, folder = settings.artifact_delivery, settings.artifacts_dir
    if mode == "redirect":
        where = settings.artifact_redirect_url or "/artifacts of this service"
        signed = settings.artifact_redirect_secret or where == PRESIGNED or where.startswith("/")
        rest = "" if signed else "; files that are not public are sent by this process"
        yield Check("delivery", "ok", f"redirects to {where}{rest}")
    elif mode == "accel" and folder is not None:
        closed = [
            path for path in (folder, *folder.parents) if path.exists() and not path.stat().st_mode & 0o11
        ]
        if closed:
            remedy = "let nginx's user in (a group and chmod g+x), or keep artifacts elsewhere: SYNC_DATA_DIR"
            yield Check(
                "delivery", "warn", f"nginx sends files, and {closed[-1]} is for its owner alone", remedy
            )
        else:
            yield Check("delivery", "ok", "nginx sends files (deploy/nginx.conf)")


def launches(state_dir: Path) -> Iterator[Check]:
    """Whether the service that runs on the folder can start workers, as that has found; if one runs there."""
    found = find_local(state_dir)
    if found is None:
        return
    try:
        with GooseherdClient(found.url) as client:
            workers = str(client.readiness()["dependencies"].get("workers", "ok"))
    except GooseherdError:
        return  # What is wrong with the service the other checks, and its log, say.
    if workers == "ok":
        yield Check("launches", "ok", "no trouble since workers were last needed")
    else:
        remedy = "put that right; jobs wait meanwhile (docs/alerts.md, GooseherdLaunchesFail)"
        yield Check("launches", "warn", workers.removeprefix("degraded: "), remedy)


def _port(settings: Settings) -> Check:
    where = f"{settings.api_host}:{settings.api_port}"
    family = socket.AF_INET6 if ":" in settings.api_host else socket.AF_INET
    try:
        socket.create_server((settings.api_host, settings.api_port), family=family).close()
    except OSError as error:
        found = find_local(settings.gooseherd_state_dir)
        if found is not None and found.url.endswith(f":{settings.api_port}"):
            return Check("port", "ok", f"gooseherd runs at {found.url}")
        if error.errno == errno.EADDRINUSE:
            return Check(
                "port", "warn", f"{where} is taken", "choose another: gooseherd up --port N, or API_PORT"
            )
        return Check(
            "port", "missing", f"{where}: {error.strerror}", "set API_HOST to an address of this machine"
        )
    return Check("port", "ok", f"{where} is free")


def _open_files() -> Check:
    return soft_limit("open files", resource.RLIMIT_NOFILE, _OPEN_FILES, f"ulimit -n {_OPEN_FILES}")


def _process_count() -> Check:
    return soft_limit("processes", resource.RLIMIT_NPROC, _PROCESSES, f"ulimit -u {_PROCESSES}")
