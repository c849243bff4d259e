"""A catalog entry made of a path or an address: name, format, size, and the md5 of its content."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from gooseherd.cli.outcome import CommandError, Exit
from gooseherd.cli.progress import OnBytes, byte_bar

_SCHEMES = frozenset({"http", "https", "drs", "s3"})


_CHUNK_BYTES = 1 << 20


def describe(
    source: str,
    *,
    file_format: str | None = None,
    md5: str | None = None,
    digest: bool = True,
    quiet: bool = True,
    on_bytes: OnBytes | None = None,
) -> dict[str, Any]:
    """A catalog entry of `source` but for its ids; a local file is read for its md5.

    `on_bytes` is called in place of a bar on the terminal.

    Raises:
        CommandError: no such file, no such kind of address, or no known format.
    """
    scheme = urlsplit(source).scheme.lower() if "://" in source else ""
    if scheme and scheme not in _SCHEMES | {"file"}:
        raise CommandError(
            Exit.USAGE, f"{source}: {scheme}: addresses are not understood; use {', '.join(sorted(_SCHEMES))}"
        )
    if scheme in _SCHEMES:
        filename = unquote(urlsplit(source).path.rstrip("/").rsplit("/", 1)[-1]) or urlsplit(source).netloc
        entry: dict[str, Any] = {"access_url": source, "filename": filename, "md5": md5}
    else:
        path = Path(unquote(urlsplit(source).path) if scheme else source)
        entry = _local(path, md5=md5, digest=digest, quiet=quiet, on_bytes=on_bytes)
    entry["file_format"] = format_of(file_format, entry["filename"])
    return entry


def _local(
    path: Path, *, md5: str | None, digest: bool, quiet: bool, on_bytes: OnBytes | None = None
) -> dict[str, Any]:
    if not path.exists():
        raise CommandError(Exit.USAGE, f"{path}: no such file")
    if not path.is_file():
        raise CommandError(Exit.USAGE, f"{path}: not a plain file")
    stat = path.stat()
    entry = {
        "access_url": path.resolve().as_uri(),
        # A link's own name: those that git-annex or a pipeline makes lead to names that say nothing.
        "filename": path.name,
        "size_in_bytes": stat.st_size,
        "md5": md5,
        # Stands in for the digest when there is none: a rewritten file is another file.
        "version_tag": f"mtime-{stat.st_mtime_ns}",
    }
    if md5 is None and digest:
        if on_bytes is not None:
            entry["md5"] = md5_of(path, on_bytes)
        else:
            with byte_bar(f"md5 of {path.name}", quiet=quiet) as bar:
                entry["md5"] = md5_of(path, lambda there, _: bar(there, stat.st_size))
    return entry


def md5_of(path: Path, on_bytes: OnBytes) -> str:
    """Lowercase hex; `on_bytes` gets how many bytes were read."""
    total, there = hashlib.md5(usedforsecurity=False), 0
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK_BYTES):
            total.update(chunk)
            there += len(chunk)
            on_bytes(there, None)
    return total.hexdigest()


def format_of(name: str | None, filename: str) -> str:
    """The format's name. Raises CommandError."""
    from gooseherd.domain.formats import NAMES, from_filename, resolve

    found = resolve(name) if name else from_filename(filename)
    if found is None:
        raise CommandError(
            Exit.USAGE,
            f"no known format is called {name!r}" if name else f"the name {filename!r} gives no known format",
            f"give it with --format: {', '.join(NAMES)}",
        )
    return found.name
