"""The calls about the catalog, and about what was made of its files."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterable, Mapping, Sequence
from typing import Any
from urllib.parse import quote

from gooseherd.client.calls import Calls, given
from gooseherd.client.models import (
    Contigs,
    File,
    FoundNames,
    Imported,
    Manifest,
    PartName,
    PartStatus,
    Registered,
    Removed,
    TrackText,
)
from gooseherd.client.parts import file_path, ids_path, status_path
from gooseherd.client.responses import check, json_object, reaching
from gooseherd.domain.artifact import Kind


class FileCalls(Calls):
    """Files, their parts, their sequences, and what viewers are told of them."""

    def files(
        self,
        *,
        dcc: str | None = None,
        text: str | None = None,
        file_format: str | None = None,
        states: bool = True,
        limit: int | None = None,
    ) -> AsyncGenerator[File, None]:
        """Catalog entries in order of (dcc, local_id), page after page, at most `limit`.

        Without `states` the service looks neither for their jobs nor for what is prepared: quick for many.
        """
        query = {"dcc": dcc, "q": text, "format": file_format, "states": None if states else "false"}
        return self._pages(File, "/files", "files", query, limit)

    async def file(self, dcc: str, local_id: str) -> File:
        """One catalog entry. Raises Missing."""
        return await self._record(File, "GET", file_path(dcc, local_id))

    async def register(self, entry: Mapping[str, Any]) -> Registered:
        """Insert or replace one catalog entry; needs the admin key. Returns how many were `new`."""
        return await self._record(Registered, "POST", "/files", json=dict(entry))

    async def remove(self, dcc: str, local_id: str) -> Removed:
        """Take one catalog entry out; needs the admin key. Raises Missing when there is none.

        Returns the `job_id` that worked on its content and whether it was withdrawn
        (`job_withdrawn`): not while other entries, `same_content`, have that content too.
        """
        return await self._record(Removed, "DELETE", file_path(dcc, local_id))

    async def import_files(self, lines: Iterable[bytes]) -> Imported:
        """Insert or replace entries given as JSON lines; needs the admin key.

        Returns the counts `imported`, `new` and `failed`, with the `errors` of lines.
        """
        body = (line if line.endswith(b"\n") else line + b"\n" for line in lines)
        url, headers = self.endpoint.url("/files/import"), {"Content-Type": "application/x-ndjson"}
        with reaching(url):
            response = await self.transport.send(
                "POST", url, content=self.transport.body(body), headers=headers
            )
        # 422 with counts: not one line was good.
        if response.status_code != 422 or "imported" not in response.text:
            check(response)
        return self._model(Imported, json_object(response), url)

    async def status(self, dcc: str, local_id: str, *, kind: Kind = Kind.DATA) -> PartStatus:
        """Whether a part could be read now (`ready`), else the `job_id` that is on it. Starts nothing."""
        return await self._record(PartStatus, "GET", status_path(kind, dcc, local_id))

    async def names(self, dcc: str, local_id: str) -> list[PartName]:
        """The names under which the parts of a file are served, for tools that go by suffixes."""
        path = f"{file_path(dcc, local_id)}/"
        found = await self._json("GET", path, headers={"Accept": "application/json"})
        return [self._model(PartName, one, path) for one in found.get("names", [])]

    async def manifest(self, dcc: str, local_id: str, *, contigs: bool = False) -> Manifest:
        """What was made of a file: parts, versions, counts, notes. Starts nothing. Raises Missing before."""
        query = {"contigs": "true"} if contigs else {}
        return await self._record(Manifest, "GET", f"{file_path(dcc, local_id)}/manifest", params=query)

    async def contigs(self, dcc: str, local_id: str) -> Contigs:
        """Names and lengths of the sequences of a file. Starts nothing. Raises Missing before it is made."""
        return await self._record(Contigs, "GET", f"/contigs/{ids_path(dcc, local_id)}")

    async def search(
        self,
        name: str,
        files: Sequence[str] = (),
        *,
        dcc: str | None = None,
        assembly: str | None = None,
        limit: int = 20,
    ) -> FoundNames:
        """Places of genes and other features by name or its beginning, exact ones first.

        Names of `files` (DCC/ID) are indexed first, if they are not yet: those that take longer are
        `pending`. Without files those are searched that have been indexed, of a collection or an assembly.
        """
        query = {"q": name, "files": ",".join(files) or None, "dcc": dcc, "assembly": assembly}
        return await self._record(FoundNames, "GET", "/search", params={**given(query), "limit": limit})

    async def track(
        self,
        viewer: str,
        file: str,
        *,
        at: str | None = None,
        reference: str | None = None,
        assembly: str | None = None,
    ) -> TrackText:
        """What to write so that `viewer` draws one file (DCC/ID); see `tracks`."""
        query = given({"viewer": viewer, "at": at, "reference": reference, "assembly": assembly})
        return await self._record(TrackText, "GET", f"{file_path(*file.split('/', 1))}/tracks", params=query)

    async def tracks(
        self,
        files: Sequence[str],
        *,
        viewer: str = "igv",
        at: str | None = None,
        reference: str | None = None,
        assembly: str | None = None,
    ) -> TrackText:
        """What to write so that a viewer draws `files` (DCC/ID) in one view: `text`, `spec` and `notes`.

        `viewer` is gosling, igv, jbrowse, ucsc, shell or python; `at` the first view, chr7:1,000-2,000;
        `reference` the DCC/ID of a FASTA or 2bit. Starts nothing.
        """
        query = {**_view(files, at, reference, assembly), "viewer": viewer}
        return await self._record(TrackText, "GET", "/tracks", params=query)

    async def track_document(
        self,
        name: str,
        files: Sequence[str],
        *,
        at: str | None = None,
        reference: str | None = None,
        assembly: str | None = None,
    ) -> str:
        """The same as a document to keep: igv.json, jbrowse.json, gosling.json, hub.txt or chrom.sizes."""
        path = "/hub.txt" if name == "hub.txt" else f"/tracks/{quote(name, safe='')}"
        return await self._text(path, params=_view(files, at, reference, assembly))


def _view(
    files: Sequence[str], at: str | None, reference: str | None, assembly: str | None
) -> dict[str, str]:
    return given({"files": ",".join(files), "at": at, "reference": reference, "assembly": assembly})
