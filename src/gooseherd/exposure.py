"""What of this host is open to whom: `gooseherd doctor --exposure`. Looks and asks, changes nothing.

What listens is asked as a stranger would ask: without keys, without certificates.
"""

from __future__ import annotations

import http.client
import ipaddress
import socket
import ssl
import stat
from collections.abc import Iterator, Mapping
from contextlib import closing, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final, Literal
from urllib.parse import urlsplit

from gooseherd.client.local_service import find_local
from gooseherd.listeners import Listener, listeners_of, processes_with, tree_of
from gooseherd.settings import Settings
from gooseherd.statedir import secrets_of

State = Literal["ok", "note", "open"]
_SECONDS: Final = 3.0
"""For an answer of a program on this machine."""
_PREFACE: Final = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\4\0\0\0\0\0"
"""How an HTTP/2 client begins (RFC 9113 section 3.4), with empty settings."""
_SHORTEST_KEY: Final = 16


@dataclass(frozen=True, slots=True)
class Exposure:
    """One thing and who can reach it. `open`: somebody can who should not."""

    name: str
    state: State
    reach: str
    credential: str
    remedy: str = ""


@dataclass(frozen=True, slots=True)
class ExposureReport:
    """All of them."""

    profile: str
    found: tuple[Exposure, ...]

    @property
    def ok(self) -> bool:
        """Nothing is open that should not be."""
        return all(one.state != "open" for one in self.found)

    def to_json(self) -> dict[str, Any]:
        """profile, ok, exposures."""
        return {"profile": self.profile, "ok": self.ok, "exposures": [asdict(one) for one in self.found]}


def examine_exposure(settings: Settings, environ: Mapping[str, str]) -> ExposureReport:
    """Listeners of the service of this state folder, its files, and the settings that open something."""
    found = [*_listeners(settings), *_files(settings, environ), *_settings(settings)]
    return ExposureReport(settings.profile.value, tuple(found))


# -- listeners ---------------------------------------------------------------------------------------


def _listeners(settings: Settings) -> Iterator[Exposure]:
    state_dir = settings.gooseherd_state_dir.absolute()
    service = find_local(state_dir)
    roots = set(processes_with("gooseherd", str(state_dir)))
    roots |= {service.pid} if service is not None else set()
    port = urlsplit(service.url).port if service is not None else None
    if service is None:
        yield Exposure("service", "note", "not running here: what would listen was not asked", "")
    for listener in listeners_of(tree_of(roots)):
        yield _judged(listener, settings, is_api=listener.port == port)


def _judged(listener: Listener, settings: Settings, *, is_api: bool) -> Exposure:
    command = " ".join(listener.process.command)
    reach = "programs of this machine" if listener.on_loopback else "the network"
    if listener.is_unix:
        return _judged_unix(listener)
    if is_api:
        return _judged_api(listener, settings, reach)
    if "gooseherd.devcloud.server" in command:
        return _judged_cloud(listener, reach)
    if (answer := _http_status(listener, "/health")) is not None:
        name = f"worker health {listener}"
        if answer in {200, 503}:
            return Exposure(name, "ok", reach, "none: says whether it works, nothing else")
        return Exposure(name, "open", reach, f"none: answers HTTP {answer}", "find out what listens there")
    name = f"worker {listener}"
    if (spoken := _accepts_strangers(listener)) is None:
        return Exposure(name, "ok", reach, "mutual TLS: a certificate of the deployment's CA")
    return Exposure(name, "open", reach, f"none: {spoken}", "WORKER_TLS_CA, WORKER_TLS_CERT, WORKER_TLS_KEY")


def _judged_unix(listener: Listener) -> Exposure:
    name = f"socket {listener}"
    if listener.address.startswith("@"):
        return Exposure(name, "open", "programs of this machine", "none: an abstract name has no permissions")
    for path in (Path(listener.address), *Path(listener.address).parents):
        with suppress(OSError):
            if not path.stat().st_mode & 0o077:
                return Exposure(name, "ok", "this user", f"permissions of {path}")
    return Exposure(name, "open", "programs of this machine", "none", "a folder of mode 0700 for it")


def _judged_api(listener: Listener, settings: Settings, reach: str) -> Exposure:
    name = f"HTTP API {listener}"
    credential = "none for public entries and submitting; an API key or the admin key for the rest"
    if listener.on_loopback or settings.api_trusted_proxies:
        return Exposure(name, "ok", reach, credential)
    remedy = "a proxy with TLS in front (API_TRUSTED_PROXIES=1), or API_HOST=127.0.0.1"
    return Exposure(name, "note", f"{reach}, in plain HTTP", f"{credential}; keys can be overheard", remedy)


def _judged_cloud(listener: Listener, reach: str) -> Exposure:
    name = f"local cloud {listener}"
    if (answer := _http_status(listener, "/")) == 403:
        return Exposure(name, "ok", reach, "requests signed by the key in the state folder")
    return Exposure(name, "open", reach, f"none: answers HTTP {answer}", "a version of today's")


def _http_status(listener: Listener, path: str) -> int | None:
    """What a stranger's GET is answered with; None when that is no HTTP."""
    host, port = _reachable(listener)
    with closing(http.client.HTTPConnection(host, port, timeout=_SECONDS)) as connection:
        try:
            connection.request("GET", path)
            return connection.getresponse().status
        except (OSError, http.client.HTTPException):
            return None


def _accepts_strangers(listener: Listener) -> str | None:
    """What is spoken there to who has no certificate; None when nothing is."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE  # Whose certificate it is does not matter here: nothing is told.
    context.set_alpn_protocols(["h2"])
    try:
        with (
            socket.create_connection(_reachable(listener), _SECONDS) as plain,
            context.wrap_socket(plain) as encrypted,
        ):
            encrypted.sendall(_PREFACE)
            return "TLS without a client's certificate" if encrypted.recv(1) else None
    except ssl.SSLError as error:
        # By TLS 1.3 the refusal of a client comes after its handshake.
        if error.reason in {"WRONG_VERSION_NUMBER", "RECORD_LAYER_FAILURE"}:
            return "no TLS"
        return None
    except OSError:
        return None


def _reachable(listener: Listener) -> tuple[str, int]:
    """An address that leads there: one that stands for all is no address to connect to."""
    address = ipaddress.ip_address(listener.address)
    everywhere = "::1" if address.version == 6 else "127.0.0.1"
    return everywhere if address.is_unspecified else listener.address, listener.port or 0


# -- files -------------------------------------------------------------------------------------------


def _files(settings: Settings, environ: Mapping[str, str]) -> Iterator[Exposure]:
    state_dir = settings.gooseherd_state_dir.absolute()
    yield from _judged_path("state folder", state_dir)
    closed = _is_closed(state_dir)
    for path in secrets_of(state_dir):
        if not closed:
            yield from _judged_path(path.name, path)
    for name in ("WORKER_TLS_KEY", "AWS_SHARED_CREDENTIALS_FILE"):
        if (value := environ.get(name)) and "\n" not in value:
            yield from _judged_path(name, Path(value))
    artifacts = settings.artifacts_dir
    if artifacts is not None and not (closed and artifacts.is_relative_to(state_dir)):
        with suppress(OSError):
            mode = artifacts.stat().st_mode
            if mode & 0o002:
                remedy = f"chmod o-w {artifacts}"
                yield Exposure("artifacts folder", "open", "users of this machine may write", "none", remedy)
            elif mode & 0o005:
                remedy = f"chmod o-rx {artifacts}, unless all artifacts are public"
                yield Exposure("artifacts folder", "note", "users of this machine may read", "none", remedy)


def _judged_path(name: str, path: Path) -> Iterator[Exposure]:
    try:
        mode = stat.S_IMODE(path.stat().st_mode)
    except OSError:
        return
    if mode & 0o007:
        what = f"users of this machine (mode {mode:04o})"
        yield Exposure(name, "open", what, "none", f"chmod o-rwx {path}")
    elif mode & 0o070:
        what = f"this user and its group (mode {mode:04o})"
        yield Exposure(name, "note", what, "none", f"chmod g-rwx {path}, if others are of the group")
    else:
        yield Exposure(name, "ok", "this user", f"mode {mode:04o}")


def _is_closed(folder: Path) -> bool:
    """To users who are not of its group."""
    try:
        return not folder.stat().st_mode & 0o007
    except OSError:
        return False


# -- settings ----------------------------------------------------------------------------------------


def _settings(settings: Settings) -> Iterator[Exposure]:
    yield _admin_key(settings)
    yield _origins(settings)
    yield _metrics(settings)
    if settings.source_file_roots:
        roots = ", ".join(map(str, settings.source_file_roots))
        yield Exposure("local files", "note", f"those below {roots} can be added", "the admin key")
    if settings.takes_uploads:
        guard = "a key with the scope submit"
        if settings.nothing_in_front:
            guard = "none, for whoever reaches this machine's loopback; a tunnel in front: set API_PUBLIC_URL"
        yield Exposure("uploads", "note", "files can be sent into the state folder", guard, "API_UPLOADS=off")
    if settings.source_allow_networks or settings.source_allow_http:
        what = ", ".join(settings.source_allow_networks) or "any public host, by plain http:"
        yield Exposure("sources", "note", f"fetched from {what}", "the admin key to register one")
    if settings.worker_sandbox == "off":
        remedy = "WORKER_SANDBOX=auto"
        yield Exposure("tools", "note", "foreign bytes are read without a sandbox", "none", remedy)
    if settings.workflow_s3_bucket is None:
        return
    if settings.workflow_s3_attempt_role is None:
        what = "workers may do what their task's role may, in the whole bucket"
        yield Exposure("bucket", "note", what, "the task's role", "WORKFLOW_S3_ATTEMPT_ROLE; docs/aws.md")
    else:
        what = "each attempt may add to its own artifact"
        yield Exposure("bucket", "ok", what, "a session of WORKFLOW_S3_ATTEMPT_ROLE, an hour")


def _admin_key(settings: Settings) -> Exposure:
    if settings.api_admin_key is None:
        return Exposure(
            "admin key", "ok", "whoever reads the state folder", "made by the service, of 24 bytes"
        )
    if len(settings.api_admin_key) < _SHORTEST_KEY:
        remedy = f"API_ADMIN_KEY of {_SHORTEST_KEY} characters or more"
        return Exposure("admin key", "open", "whoever guesses it", "API_ADMIN_KEY, which is short", remedy)
    return Exposure("admin key", "ok", "whoever has it", "API_ADMIN_KEY")


def _origins(settings: Settings) -> Exposure:
    name = "web pages"
    named = (*settings.api_cors_origins, *settings.api_allow_origins)
    if "*" in named:
        return Exposure(
            name, "note", "pages of all origins may read everything that is public", "API_CORS_ORIGINS=*"
        )
    if named:
        return Exposure(name, "ok", f"pages of {', '.join(named)}", "API_CORS_ORIGINS, API_ALLOW_ORIGINS")
    if _is_loopback(settings.api_host) and not settings.api_trusted_proxies:
        return Exposure(name, "ok", "pages of this machine; others read public remote entries", "CORS")
    return Exposure(
        name, "ok", "pages of all origins may read what is public", "CORS; API_CORS_ORIGINS narrows it"
    )


def _metrics(settings: Settings) -> Exposure:
    """They have no names of files or people, but how much is done, by collection, and what fails."""
    if settings.nothing_in_front:
        return Exposure("metrics", "ok", "programs of this machine", "none")
    reach = "whoever reaches the API: how much is done, and what fails"
    remedy = "refuse /metrics at the proxy or load balancer, scrape the process itself; docs/security.md"
    return Exposure("metrics", "note", reach, "none", remedy)


def _is_loopback(host: str) -> bool:
    """Whether that is an address, or the name, of this machine for itself."""
    with suppress(ValueError):
        return ipaddress.ip_address(host).is_loopback
    return host == "localhost"
