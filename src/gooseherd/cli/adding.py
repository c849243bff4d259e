"""Adds files to the catalog: finds ids, compares with what is registered, registers in batches."""

from __future__ import annotations

import errno
import os
import sys
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final
from urllib.parse import unquote, urlsplit

from gooseherd.cli.added import Added, Entry, compare
from gooseherd.cli.catalog_entry import describe, format_of, md5_of
from gooseherd.cli.folder import Skipped, files_below
from gooseherd.cli.outcome import CommandError, Exit, print_status
from gooseherd.cli.piped_input import store_piped
from gooseherd.cli.progress import OnBytes, byte_bar
from gooseherd.cli.sidecars import indexes_beside
from gooseherd.client.local_service import ADDED, find_local
from gooseherd.domain.local_ids import id_for

if TYPE_CHECKING:
    from gooseherd.client import GooseherdClient

_BATCH: Final = 100
"""Entries of one import: the service names up to so many that it refuses."""
_LOOKUPS: Final = 8
_NAMED: Final = 20
_CHUNK_BYTES: Final = 1 << 20


@dataclass(frozen=True, slots=True)
class _Wanted:
    """A file or URL to be added. `top` is the folder it was found below; None: it was named itself."""

    source: str
    size: int = 0
    top: Path | None = None

    @property
    def is_local(self) -> bool:
        return "://" not in self.source or self.source.startswith("file:")

    @property
    def path(self) -> Path:
        return Path(unquote(urlsplit(self.source).path) if "://" in self.source else self.source)


class Adding:
    """One call of the command. What was registered stays when it breaks off; the next call goes on."""

    _client: GooseherdClient
    """Known when registering begins: what is found needs no service."""

    def __init__(
        self,
        given: Mapping[str, str],
        *,
        local_id: str | None,
        file_format: str | None,
        md5: str | None,
        digest: bool,
        sidecars: Sequence[Mapping[str, str]],
        find_index: bool,
        quiet: bool,
    ) -> None:
        self._given, self._local_id = given, local_id
        self._format, self._md5, self._digest = file_format, md5, digest
        self._sidecars, self._find_index, self._quiet = list(sidecars), find_index, quiet
        self._wanted: list[_Wanted] = []
        self._taken: dict[str, str] = {}
        """Ids given out by this call, and the address each stands for."""
        self._batch: list[Added] = []
        self._weak = 0
        self._indexes_reported = 0
        self.added: list[Added] = []
        self.failed: list[dict[str, str]] = []
        self.results: Counter[str] = Counter()
        self.skipped = Skipped()

    # -- what is to be added -------------------------------------------------------------------

    def take(self, sources: Sequence[str], globs: Sequence[str], *, avoid: Path | None) -> None:
        """Files, folders and URLs. Raises CommandError for one that was named and cannot be added."""
        found: dict[Path | str, _Wanted] = {}
        """By path or URL: what is named twice, itself or with its folder, is one file."""
        for source in sources:
            wanted = _Wanted(source)
            if not wanted.is_local:
                found[source] = wanted
            elif wanted.path.is_dir():
                folder = wanted.path
                for path in files_below(folder, self.skipped, globs=globs, avoid=[avoid] if avoid else ()):
                    if self._fits(path):
                        one = _Wanted(str(path), path.stat().st_size, folder)
                        found.setdefault(_place(path), one)
            else:
                if not wanted.path.is_file():
                    problem = "not a plain file" if wanted.path.exists() else "no such file"
                    raise CommandError(Exit.USAGE, f"{wanted.path}: {problem}")
                one = _Wanted(source, wanted.path.stat().st_size)
                found[_place(wanted.path)] = one
        self._wanted += found.values()
        if not self._wanted:
            for line in self.skipped.lines():
                print_status(line)
            raise CommandError(Exit.USAGE, "there is no file to add")

    def take_pipe(self, state_dir: Path | None, name: str | None) -> None:
        """What standard input gives, kept in the service's state folder; as any other file from then on.

        Raises:
            CommandError: the service cannot read our folders, nothing was piped, or its format is not known.
        """
        service = find_local(state_dir) if state_dir is not None else None
        if state_dir is None or service is None or service.profile != "embedded":
            raise CommandError(
                Exit.USAGE,
                "what comes from a pipe can only be added to a service that `gooseherd up` runs here",
                "write it to a file that the service can read, or to its own storage, and add that",
            )
        if sys.stdin.isatty():
            raise CommandError(
                Exit.USAGE, "nothing is piped in: write COMMAND | gooseherd add - --format bed"
            )
        if not name and not self._format:
            raise CommandError(
                Exit.USAGE, "its format is not known: give --format, or its file name with --name"
            )
        if name and self._format is None:
            format_of(None, name)
        filename = Path(name).name if name else f"stdin.{format_of(self._format, '')}"
        if self._format is not None:
            format_of(self._format, filename)
        path, self._md5 = store_piped(sys.stdin.buffer, state_dir / ADDED, filename, quiet=self._quiet)
        self._wanted.append(_Wanted(str(path), path.stat().st_size))

    def _fits(self, path: Path) -> bool:
        from gooseherd.domain.formats import from_filename

        if self._format is None and from_filename(path.name) is None:
            self.skipped.add(path, "no known format")
            return False
        return True

    # -- into the catalog ----------------------------------------------------------------------

    @property
    def folders(self) -> list[Path]:
        """Where what was taken lies, links followed: a service has to read these and all below."""
        tops = {wanted.top.resolve() for wanted in self._wanted if wanted.top is not None}
        tops |= {wanted.path.resolve().parent for wanted in self._wanted if wanted.is_local}
        highest: list[Path] = []
        for folder in sorted(tops):  # one above others comes right before them
            if not highest or not folder.is_relative_to(highest[-1]):
                highest.append(folder)
        return highest

    def register_all(self, client: GooseherdClient) -> None:
        """Look up, read and register everything that was taken.

        Raises:
            CommandError: a file that was named itself cannot be read, or the service may read none of them.
        """
        self._client = client
        whole, there = sum(wanted.size for wanted in self._wanted), 0
        many = len(self._wanted) > 1
        title = "md5" if many else f"md5 of {Path(self._wanted[0].source).name}"
        with (
            byte_bar(title, quiet=self._quiet or not whole) as bar,
            ThreadPoolExecutor(_LOOKUPS) as pool,
        ):
            for start in range(0, len(self._wanted), _BATCH):
                batch = self._wanted[start : start + _BATCH]
                known = pool.map(self._look_up, (self._first_id(wanted) for wanted in batch))
                for wanted, entry in zip(batch, known, strict=True):
                    self._one(wanted, entry, partial(_count_on, bar, there, whole))
                    there += wanted.size
                    bar(there, whole)
                self._flush()
        if self._weak and not self._quiet:
            print_status("  without an md5 its identity is weak: a change of its content may go unseen")

    def _first_id(self, wanted: _Wanted) -> str:
        name = wanted.path.name if wanted.is_local else _filename(wanted.source)
        return self._local_id or id_for(name)

    def _look_up(self, local_id: str) -> Entry | None:
        from gooseherd.client import Missing

        try:
            return dict(self._client.file(self._given["dcc"], local_id))
        except Missing:
            return None

    def _one(self, wanted: _Wanted, first: Entry | None, on_bytes: OnBytes) -> None:
        try:
            if wanted.top is not None and not os.access(wanted.path, os.R_OK):
                raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
            about = describe(wanted.source, file_format=self._format, md5=self._md5, digest=False)
            about |= self._given
            about["sidecars"] = self._sidecars or self._index_of(wanted, about)
            local_id, known, detail = self._free_id(wanted, about, first)
            about["local_id"] = local_id
            self._taken[local_id] = about["access_url"]
            if wanted.is_local and not about["md5"]:
                about["md5"] = _known_md5(about, known)
                if self._digest and not about["md5"]:
                    about["md5"] = md5_of(wanted.path, on_bytes)
        except OSError as error:
            if wanted.top is None:
                raise
            self.skipped.add(wanted.source, f"cannot be read ({error.strerror})")
            return
        self._weak += not about["md5"]
        self._batch.append(compare(about, known, detail))

    def _index_of(self, wanted: _Wanted, about: Entry) -> list[dict[str, str]]:
        """The index beside a local file, if one fits; of those that do not the reason is printed."""
        from gooseherd.domain.formats import resolve

        file_format = resolve(about["file_format"])
        if not self._find_index or not wanted.is_local or file_format is None:
            return []
        for found in indexes_beside(wanted.path, file_format):
            if not found.problem:
                self._report_index(
                    f"{found.path} fits: {wanted.path.name} is served as it is, with this index"
                )
                return [{"kind": found.kind, "access_url": found.path.resolve().as_uri()}]
            self._report_index(f"{found.path} is not used: it {found.problem}")
        return []

    def _report_index(self, line: str) -> None:
        self._indexes_reported += 1
        if not self._quiet and self._indexes_reported <= _NAMED:
            print_status(line)

    def _free_id(self, wanted: _Wanted, about: Entry, first: Entry | None) -> tuple[str, Entry | None, str]:
        """An id that is free or means this very source, what it names now, and why it is not the first."""
        url = about["access_url"]
        if self._local_id:
            return self._local_id, first, ""
        detail = ""
        for at, candidate in enumerate(_candidates(wanted, about["filename"])):
            if self._taken.get(candidate, url) != url:
                detail = detail or f"{candidate} is {_shown(self._taken[candidate])}"
                continue
            known = first if at == 0 else self._look_up(candidate)
            if known is None or known.get("access_url") == url:
                return candidate, known, detail if known is None else ""
            detail = detail or f"{candidate} is {_shown(str(known.get('access_url') or 'another file'))}"
        raise CommandError(
            Exit.FAILED, f"too many files are called {about['filename']}", "choose an id with --id"
        )

    def _flush(self) -> None:
        batch, self._batch = self._batch, []
        changed = [one for one in batch if one.result != "unchanged"]
        refused = self._register(changed) if changed else {}
        for one in batch:
            if one.name in refused:
                self.failed.append({"file": one.entry["access_url"], "problem": refused[one.name]})
                continue
            self.added.append(one)
            self.results[one.result] += 1
            if not self._quiet and len(self.added) <= _NAMED:
                print_status(one.line)

    def _register(self, batch: Sequence[Added]) -> dict[str, str]:
        """Names that were refused, with the reason."""
        import json

        from gooseherd.client import Refused

        if len(batch) == 1:
            try:
                self._client.register(batch[0].entry)
            except Refused as refused:
                if refused.status == 422 and len(self._wanted) > 1:
                    return {batch[0].name: str(refused)}  # the others may be in the catalog already
                self._raise_if_not_allowed(batch[0], str(refused.fields.get("field") or ""), str(refused))
                raise
            return {}
        counts = self._client.import_files(json.dumps(one.entry).encode() for one in batch)
        errors = counts.get("errors") or []
        if len(errors) == len(batch) and not self.added:
            self._raise_if_not_allowed(batch[0], errors[0].get("field") or "", errors[0].get("problem") or "")
        return {
            batch[error["line"] - 1].name: f"{error.get('field')}: {error.get('problem')}" for error in errors
        }

    def _raise_if_not_allowed(self, one: Added, field_name: str, problem: str) -> None:
        url = one.entry["access_url"]
        if url.startswith("file:") and field_name == "access_url":
            folder = self._wanted[0].top or Path(unquote(urlsplit(url).path)).parent
            raise CommandError(
                Exit.REFUSED,
                f"the service may not read {folder.resolve()}: {problem}",
                f"start it with: gooseherd up --allow-root {folder.resolve()}",
            ) from None


def _place(path: Path) -> Path:
    """However the folder is written; a link is another file than what it leads to."""
    return path.parent.resolve() / path.name


def _known_md5(about: Entry, known: Entry | None) -> str | None:
    """What the catalog has of the very file: not even its modification time differs."""
    unread = ("access_url", "size_in_bytes", "version_tag")
    if known and known.get("md5") and all(known.get(name) == about[name] for name in unread):
        return str(known["md5"])
    return None


def _count_on(bar: OnBytes, before: int, whole: int, read: int, _: int | None) -> None:
    bar(before + read, whole)


def _candidates(wanted: _Wanted, filename: str) -> Iterator[str]:
    """The name, the path below the folder it was found in, then numbers."""
    first = id_for(filename)
    yield first
    if wanted.top is not None:
        below = wanted.path.relative_to(wanted.top)
        if len(below.parts) > 1:
            yield id_for("-".join(below.parts))
    for number in range(2, 1000):
        tail = f"-{number}"
        yield first[: 255 - len(tail)] + tail


def _filename(url: str) -> str:
    return unquote(urlsplit(url).path.rstrip("/").rsplit("/", 1)[-1]) or urlsplit(url).netloc


def _shown(url: str) -> str:
    return unquote(urlsplit(url).path) if url.startswith("file:") else url
