"""Files of a Python package index, downloaded with pip's settings; nothing of a package is ever run.

`pip download` of a source archive runs the archive's build, for its metadata. So only the settings are pip's;
the index is read here (PEP 503, PEP 691), and a file counts only with the size and sha256 that are asked for.
"""

from __future__ import annotations

import ast
import contextlib
import hashlib
import json
import os
import re
import shutil
import ssl
import subprocess
import sys
from collections.abc import Generator, Mapping
from dataclasses import dataclass
from html.parser import HTMLParser
from netrc import NetrcParseError
from pathlib import Path
from typing import Self
from urllib.parse import unquote, urlsplit

import httpx

from gooseherd.domain.errors import Unavailable

_PIP_SECONDS = 60
_TRIES = 3
_LISTING_BYTES = 64 << 20
"""More than the list of any project's files takes: the longest are a few MiB."""
_JSON = "application/vnd.pypi.simple.v1+json"
_OPTIONS = ("index-url", "extra-index-url", "cert", "client-cert", "trusted-host", "proxy", "timeout")


class NotDownloaded(Unavailable):
    """A file could not be downloaded; a sentence says which, from where and why."""


@dataclass(frozen=True, slots=True)
class PinnedFile:
    """A file of a project. Its name stands for version and build, its size and sha256 for the content."""

    project: str
    name: str
    size: int
    sha256: str


@dataclass(frozen=True, slots=True)
class IndexSettings:
    """The indexes that pip would ask, in their order, and how it would reach them."""

    urls: tuple[str, ...]
    cert: str | None = None
    client_cert: str | None = None
    trusted_hosts: tuple[str, ...] = ()
    """`host` or `host:port`, as pip has them: of these no certificate is checked."""
    proxy: str | None = None
    timeout_seconds: float = 30.0


def index_settings(environ: Mapping[str, str]) -> IndexSettings:
    """The settings of this interpreter's pip, or of the one on PATH: environments made by uv have none.

    Raises:
        NotDownloaded: there is no pip, and no index in the environment's variables either.
    """
    pip, known = _pip_config(environ)
    known |= {
        name: value for name in _OPTIONS if (value := environ.get(f"PIP_{name.replace('-', '_').upper()}"))
    }
    first = known.get("index-url") or environ.get("UV_DEFAULT_INDEX") or environ.get("UV_INDEX_URL")
    if not first and pip:
        first = _pip_default_index(pip, environ)
    if not first:
        raise NotDownloaded(
            "no package index is known, because this Python has no pip: install it (uv pip install pip, or "
            "python -m ensurepip), or name an index in PIP_INDEX_URL"
        )
    urls = [first, *known.get("extra-index-url", "").split()]
    # An index that is a folder is one machine's own: it is passed over.
    served = tuple(url for url in urls if url.startswith(("https://", "http://")))
    if not served:
        raise NotDownloaded("pip's index-url is no http or https address")
    timeout = known.get("timeout", "")
    return IndexSettings(
        served,
        known.get("cert"),
        known.get("client-cert"),
        tuple(known.get("trusted-host", "").split()),
        known.get("proxy"),
        float(timeout) if timeout.isdecimal() else 30.0,
    )


def _pip_config(environ: Mapping[str, str]) -> tuple[list[str] | None, dict[str, str]]:
    """A pip that runs, and the options in its files: those of one command go before those of all."""
    commands = [[sys.executable, "-m", "pip"]]
    commands += [[path] for name in ("pip", "pip3") if (path := shutil.which(name, path=environ.get("PATH")))]
    for pip in commands:
        listing = _output([*pip, "config", "list"], environ)
        if listing is None:
            continue
        sections: dict[str, dict[str, str]] = {"global": {}, "install": {}, "download": {}}
        for line in listing.splitlines():
            key, _, value = line.partition("=")
            section, _, name = key.partition(".")
            if section in sections:
                with contextlib.suppress(ValueError, SyntaxError):
                    sections[section][name] = str(ast.literal_eval(value))
        return pip, {**sections["global"], **sections["install"], **sections["download"]}
    return None, {}


def _pip_default_index(pip: list[str], environ: Mapping[str, str]) -> str | None:
    """The index that pip asks when no other is configured, as its own help names it."""
    text = _output([*pip, "download", "--help"], {**environ, "COLUMNS": "1000"}) or ""
    match = re.search(r"--index-url <url>.*?\(default\s+(https?://[^\s)]+)\)", text, re.DOTALL)
    return match[1] if match else None


def _output(command: list[str], environ: Mapping[str, str]) -> str | None:
    """What a command that succeeded printed."""
    try:
        done = subprocess.run(
            command,
            env=dict(environ),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=_PIP_SECONDS,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout if done.returncode == 0 else None


class Index:
    """Downloads from the indexes of `settings`; several threads may use one."""

    def __init__(self, settings: IndexSettings) -> None:
        self._urls = [httpx.URL(url.rstrip("/")) for url in settings.urls]
        unchecked = ssl.create_default_context()
        unchecked.check_hostname, unchecked.verify_mode = False, ssl.CERT_NONE
        self._client = httpx.Client(
            verify=_trusted(settings),
            # Each file is pinned by its sha256, so not even such a host can pass off another.
            mounts={
                f"https://{host}": httpx.HTTPTransport(verify=unchecked, proxy=settings.proxy)
                for host in settings.trusted_hosts
            },
            proxy=settings.proxy,
            timeout=settings.timeout_seconds,
            follow_redirects=True,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._client.close()

    def download(self, file: PinnedFile, target: Path) -> None:
        """Download `file`; on return `target` is that very file.

        Raises:
            NotDownloaded: no index has it, or none could be reached.
        """
        failures = []
        for index in self._urls:
            failure = self._try(index, file, target)
            if failure is None:
                return
            failures.append(f"{index.copy_with(userinfo=b'')}: {failure}")
        raise NotDownloaded(f"could not download {file.name} ({'; '.join(failures)})")

    def _try(self, index: httpx.URL, file: PinnedFile, target: Path) -> str | None:
        """Why this index did not give the file; None when it did."""
        failure = ""
        for _ in range(_TRIES):
            try:
                page, listing = self._listing(index, file.project)
                link = _links(listing).get(file.name)
                if link is None:
                    return f"{file.project} has no such file there"
                return self._save(page.join(link), _auth(index), file, target)
            except httpx.HTTPStatusError as error:
                failure = f"status {error.response.status_code}"
                if error.response.status_code < httpx.codes.INTERNAL_SERVER_ERROR:
                    return failure
            except (httpx.HTTPError, httpx.InvalidURL, OSError) as error:
                failure = str(error) or type(error).__name__
        return failure

    def _listing(self, index: httpx.URL, project: str) -> tuple[httpx.URL, str]:
        """The page of a project's files, and the URL its links are relative to."""
        name = re.sub(r"[-_.]+", "-", project).lower()
        url = index.copy_with(path=f"{index.path.rstrip('/')}/{name}/")
        accept = {"Accept": f"{_JSON}, text/html;q=0.5"}
        with self._client.stream("GET", url, headers=accept, auth=_auth(index)) as response:
            response.raise_for_status()
            content = bytearray()
            for chunk in response.iter_bytes():
                content += chunk
                if len(content) > _LISTING_BYTES:
                    raise OSError(f"its list of {project}'s files is too long")
            return response.url, content.decode(errors="replace")

    def _save(self, url: httpx.URL, auth: httpx.Auth | None, file: PinnedFile, target: Path) -> str | None:
        digest, size = hashlib.sha256(), 0
        with self._client.stream("GET", url, auth=auth) as response, target.open("wb") as sink:
            response.raise_for_status()
            for chunk in response.iter_bytes():
                digest.update(chunk)
                sink.write(chunk)
                size += len(chunk)
                if size > file.size:
                    break
        if (size, digest.hexdigest()) != (file.size, file.sha256):
            target.unlink()
            return "the file there has another size or sha256"
        return None


def _trusted(settings: IndexSettings) -> ssl.SSLContext:
    """What pip trusts: the authorities of its bundle, of the system, and those it is configured with."""
    context = httpx.create_ssl_context()
    context.load_default_certs()
    try:
        if settings.cert:
            kind = "capath" if Path(settings.cert).is_dir() else "cafile"
            context.load_verify_locations(**{kind: settings.cert})
        if settings.client_cert:
            context.load_cert_chain(settings.client_cert)
    except OSError as error:
        raise NotDownloaded(
            f"pip's cert or client-cert cannot be used ({error.strerror or error}): "
            f"{settings.cert or ''} {settings.client_cert or ''}".strip()
        ) from None
    return context


def _auth(index: httpx.URL) -> httpx.Auth | None:
    """The index's credentials: from its address, else from the user's .netrc, which names hosts."""
    if index.username:
        return _SameHost(index)
    with contextlib.suppress(OSError, NetrcParseError):
        return httpx.NetRCAuth(os.environ.get("NETRC"))
    return None


class _SameHost(httpx.BasicAuth):
    """Credentials for one host: files may lie elsewhere."""

    def __init__(self, index: httpx.URL) -> None:
        super().__init__(index.username, index.password)
        self._host = index.host

    def auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response, None]:
        if request.url.host != self._host:
            yield request
        else:
            yield from super().auth_flow(request)


def _links(listing: str) -> dict[str, str]:
    """The files of a project by their names: JSON (PEP 691) or HTML (PEP 503), whichever the index speaks."""
    if listing.lstrip().startswith("{"):
        try:
            return {str(file["filename"]): str(file["url"]) for file in json.loads(listing)["files"]}
        except (ValueError, KeyError, TypeError):
            return {}
    anchors = _Anchors()
    anchors.feed(listing)
    return {unquote(urlsplit(link).path.rpartition("/")[2]): link for link in anchors.links}


class _Anchors(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.links: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag == "a" and (link := dict(attrs).get("href")):
            self.links.append(link)
