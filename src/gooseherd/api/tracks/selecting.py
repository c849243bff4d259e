"""From the names of files, or a search, to what viewers are told of them."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final
from urllib.parse import urlencode

from gooseherd.api.address_redaction import without_paths
from gooseherd.api.catalog import Catalog
from gooseherd.api.dependencies import Dependencies
from gooseherd.api.names import NamedPart, Names
from gooseherd.api.tracks.linking import Link, Linking
from gooseherd.api.tracks.selection import Selection, ServedFile
from gooseherd.api.tracks.sequences import FileSequences, Renamed, Together, together
from gooseherd.domain import formats
from gooseherd.domain.artifact import Kind, Manifest
from gooseherd.domain.errors import GooseherdError, InvalidInput, StoreUnavailable, UnsupportedFormat
from gooseherd.domain.formats import Format, from_filename
from gooseherd.domain.keys import Recipe, workflow_key
from gooseherd.domain.ports.store import FileQuery
from gooseherd.domain.region import Region, parse_region
from gooseherd.domain.source import SourceFile
from gooseherd.domain.states import Status

MOST_FILES_SHOWN: Final = 100
"""In one view: browsers draw some ten well, a hub offers more."""
MOST_FILES_SEARCHED: Final = 20
"""For a name."""
_UNKNOWN: Final = "custom"
_INDEX_TYPES: Final = frozenset({"bai", "csi", "tbi", "fai", "crai"})
_AS_THEY_ARE: Final = frozenset(
    {formats.BIGWIG, formats.CSV, formats.TSV, formats.TWOBIT, formats.HIC, formats.COOL, formats.MCOOL}
)
"""Served in the format that they have, whatever their names end with."""
_BESIDE: Final = ((Kind.ANNOTATION, Kind.ANNOTATION_INDEX), (Kind.SECOND_END, Kind.SECOND_END_INDEX))


@dataclass(frozen=True, slots=True)
class ViewRequest:
    """What to show. Either `files`, or what the query finds."""

    files: Sequence[str] = ()
    query: FileQuery | None = None
    region: str | None = None
    reference: str | None = None
    assembly: str | None = None


class Selecting:
    """Looks up files, their parts and their sequences. Starts nothing."""

    def __init__(self, dependencies: Dependencies, catalog: Catalog, names: Names) -> None:
        self._submissions = dependencies.submissions
        self._jobs = dependencies.jobs
        self._catalog = catalog
        self._names = names

    async def selection(self, wanted: ViewRequest, linking: Linking) -> Selection:
        """What is wanted, as it is served now.

        Raises:
            InvalidInput: a name, region or assembly that cannot be used, or too many files.
            NotFound, Gone: as Catalog.servable, for files that were named.
        """
        region = parse_region(wanted.region) if wanted.region else None
        entries, more = await self._entries(wanted, linking)
        manifests = await asyncio.gather(*map(self._manifest, entries))
        served = [
            self._served(entry, manifest, await linking.of(entry))
            for entry, manifest in zip(entries, manifests, strict=True)
        ]
        reference, of_reference = await self._reference(wanted, region, manifests, served, linking)
        sequences = await asyncio.to_thread(
            together,
            wanted.assembly,
            of_reference.contigs if of_reference is not None else None,
            [
                FileSequences.of(manifest, entry.file_format) if manifest is not None else None
                for entry, manifest in zip(entries, manifests, strict=True)
            ],
        )
        files = [
            replace(file, own_names=renamed, more=[replace(one, own_names=renamed) for one in file.more])
            for file, renamed in zip(served, sequences.renamed, strict=True)
        ]
        region = _by_reference(region, sequences.renamed)
        notes = [*more, *await self._obstacles(entries, manifests, linking)]
        if region is not None and sequences.contigs and not _has(sequences, region.contig):
            notes.append(f"no file here has a sequence {region.contig}: that is what at= names")
        if linking.until is not None:
            ends = linking.until.strftime("%Y-%m-%d %H:%M UTC")
            notes.append(
                f"addresses of what is not public have a download token: who has them reads it until {ends}"
            )
        # Before the files: the sequences are those of the reference, whatever else can be opened.
        named = [await self._named(wanted.reference, "reference", linking)] if wanted.reference else []
        opened, link = await linking.of_several([*named, *entries])
        query = _query([entry for entry in opened if entry in entries] or opened, wanted, region)
        return Selection(
            files=files,
            contigs=sequences.longest(and_also=region.contig if region is not None else None),
            assembly=sequences.assembly or _UNKNOWN,
            is_known=sequences.assembly is not None,
            chromsizes_url=link(f"/tracks/chrom.sizes?{query}"),
            aliases_url=link(f"/tracks/chrom.aliases?{query}") if any(sequences.renamed) else None,
            page_url=linking.context.address_of("/"),
            search_url=_search_url(files, opened, link),
            reference=reference,
            region=region,
            notes=notes,
        )

    async def _entries(
        self, wanted: ViewRequest, linking: Linking
    ) -> tuple[Sequence[SourceFile], Sequence[str]]:
        """They, and in words which were left out."""
        if wanted.query is not None:
            page = await self._catalog.search(wanted.query)
            notes = []
            if page.next is not None:
                first = f"these are the first {MOST_FILES_SHOWN} files that were found"
                notes.append(f"{first}: for those behind them ask with after={page.next}")
            return [entry for entry in page.files if entry.status.lower() == "active"], notes
        if len(wanted.files) > MOST_FILES_SHOWN:
            raise InvalidInput("files", f"at most {MOST_FILES_SHOWN} in one view")
        return [await self._named(name, "files", linking) for name in dict.fromkeys(wanted.files)], ()

    async def _named(self, name: str, field: str, linking: Linking) -> SourceFile:
        dcc, slash, local_id = name.partition("/")
        if not slash:
            raise InvalidInput(field, f"{name!r} is no DCC/ID")
        return await self._catalog.servable(dcc, local_id, linking.context.caller.visible)

    async def _manifest(self, entry: SourceFile) -> Manifest | None:
        if self._submissions is None or entry.is_upstreams_pair:
            return None
        try:
            recipe = self._submissions.recipe(entry, Kind.DATA)
            return await self._submissions.published(entry, recipe)
        except GooseherdError:  # the names it will have are told all the same
            return None

    async def _obstacles(
        self, entries: Sequence[SourceFile], manifests: Sequence[Manifest | None], linking: Linking
    ) -> list[str]:
        """Which files a viewer would wait for in vain, and why."""
        notes: list[str] = []
        recipes: dict[SourceFile, Recipe] = {}
        for entry, manifest in zip(entries, manifests, strict=True):
            if manifest is not None or self._submissions is None or entry.is_upstreams_pair:
                continue
            try:
                recipes[entry] = self._submissions.recipe(entry, Kind.DATA)
            except UnsupportedFormat as error:
                notes.append(f"{entry.name}: {error}")
        keys = {entry: workflow_key(entry.identity, recipe) for entry, recipe in recipes.items()}
        try:
            jobs = await self._jobs.latest_of(set(keys.values())) if keys else {}
        except StoreUnavailable:
            return notes
        caller = linking.context.caller
        for entry, key in keys.items():
            job = jobs.get(key)
            if job is not None and job.status is Status.FAILED:
                why = job.detail_for(entry.dcc, entry.local_id, caller.visible) or job.reason or job.status
                text = f"{entry.name}: it could not be prepared: {why}"
                notes.append(without_paths(text, admin=linking.context.is_admin))
        return notes

    def _served(self, entry: SourceFile, manifest: Manifest | None, link: Link) -> ServedFile:
        try:
            parts = self._names.of(entry, parts=manifest.parts if manifest is not None else None)
        except GooseherdError:
            parts = (NamedPart(Kind.DATA, entry.filename),)
        first: dict[Kind, NamedPart] = {}
        for part in (*parts, *self._on_demand(entry)):
            first.setdefault(part.kind, part)
        urls = {kind: link(part.path(entry)) for kind, part in first.items()}
        made = from_filename(first[Kind.DATA].name)
        served = _one(
            entry.name,
            entry.filename,
            entry.file_format if made is None or entry.file_format in _AS_THEY_ARE else made,
            urls,
            first.get(Kind.INDEX),
        )
        beside = []
        for data, index in _BESIDE:
            if data in first and index in first:
                name = first[data].name
                of_part = {Kind.DATA: urls[data], Kind.INDEX: urls[index]}
                file_format = from_filename(name) or entry.file_format
                beside.append(_one(f"{entry.name}/{data}", name, file_format, of_part, first[index]))
        return replace(served, more=beside)

    def _on_demand(self, entry: SourceFile) -> Sequence[NamedPart]:
        if self._submissions is None:
            return ()
        return [
            part
            for recipe in self._submissions.recipes_on_demand(entry)
            for part in self._names.of(entry, recipe=recipe)
        ]

    async def _reference(
        self,
        wanted: ViewRequest,
        region: Region | None,
        manifests: Sequence[Manifest | None],
        files: Sequence[ServedFile],
        linking: Linking,
    ) -> tuple[ServedFile | None, Manifest | None]:
        """The one that is named, or of the files that with sequences which fits the others best.

        None: the others are about sequences that none of them has, and would not be drawn on it.
        """
        if wanted.reference:
            entry = await self._named(wanted.reference, "reference", linking)
            manifest = await self._manifest(entry)
            served = self._served(entry, manifest, await linking.of(entry))
            if not served.is_sequence:
                raise InvalidInput("reference", f"{entry.name} is {served.format.name}, and has no sequences")
            return served, manifest
        known = list(zip(files, manifests, strict=True))
        candidates = [(file, manifest) for file, manifest in known if file.is_sequence]
        if not candidates:
            return None, None
        others = {name for file, manifest in known if not file.is_sequence for name in _names(manifest)}
        place = {_plain(region.contig)} if region is not None else set()

        def fit(candidate: tuple[ServedFile, Manifest | None]) -> tuple[bool, int]:
            names = _names(candidate[1])
            return bool(names & place), len(names & others)

        best = max(candidates, key=fit)  # the first of several that fit as well
        fits_none = best[1] is not None and others and not any(fit(best))
        return (None, None) if fits_none else best


def _names(manifest: Manifest | None) -> set[str]:
    return set() if manifest is None else {_plain(contig.name) for contig in manifest.contigs}


def _plain(name: str) -> str:
    """As UCSC and Ensembl both mean it; viewers take one for the other."""
    return name.removeprefix("chr")


def _one(
    name: str, title: str, file_format: Format, urls: Mapping[Kind, str], index: NamedPart | None
) -> ServedFile:
    """One whose index, if it is of a kind that viewers read, is the part of that name."""
    suffix = index.name.rpartition(".")[2] if index is not None else ""
    if suffix not in _INDEX_TYPES:
        return ServedFile(
            name, title, file_format, {k: url for k, url in urls.items() if k is not Kind.INDEX}
        )
    return ServedFile(name, title, file_format, urls, suffix)


def _asked(region: Region) -> str:
    """The region as it is read again: a name that looks like one is written in braces."""
    text = str(region)
    return f"{{{text}}}" if text == region.contig and parse_region(text) != region else text


def _by_reference(region: Region | None, renamed: Sequence[Renamed]) -> Region | None:
    """The region by the reference's name of its sequence."""
    if region is None:
        return None
    names = {own: name for of_file in renamed for name, own in of_file.items()}
    return replace(region, contig=names.get(region.contig, region.contig))


def _has(sequences: Together, name: str) -> bool:
    return any(contig.name == name for contig in sequences.contigs)


def _search_url(files: Sequence[ServedFile], opened: Sequence[SourceFile], link: Link) -> str | None:
    """Where the names of features are looked up; the name is to be put in for $FEATURE$."""
    allowed = {entry.name for entry in opened}
    named = [file.name for file in files if file.has_names and file.name in allowed][:MOST_FILES_SEARCHED]
    return link(f"/search?{urlencode({'files': ','.join(named)}, safe='/,:')}&q=$FEATURE$") if named else None


def _query(entries: Sequence[SourceFile], wanted: ViewRequest, region: Region | None) -> str:
    """The same files, for an address of ours."""
    query: Mapping[str, str | None] = {
        "files": ",".join(entry.name for entry in entries),
        "reference": wanted.reference,
        "assembly": wanted.assembly,
        "at": _asked(region) if region is not None else None,
    }
    return urlencode({name: value for name, value in query.items() if value}, safe="/,:")
