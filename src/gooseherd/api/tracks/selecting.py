"""From the names of files, or a search, to what viewers are told of them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlencode

from gooseherd.api.catalog import Catalog
from gooseherd.api.names import NamedPart, Names
from gooseherd.api.tracks.selection import Selection, ServedFile
from gooseherd.control.submission import Submissions
from gooseherd.domain.artifact import Kind, Manifest
from gooseherd.domain.assemblies import assembly_of, known_assemblies, sequences_of
from gooseherd.domain.contig import Contig, in_natural_order
from gooseherd.domain.errors import GooseherdError, InvalidInput
from gooseherd.domain.formats import BIGBED, BIGWIG, DECLARES_LENGTHS, Format, from_filename
from gooseherd.domain.ports.store import FileQuery
from gooseherd.domain.region import Region, parse_region
from gooseherd.domain.source import SourceFile
from gooseherd.domain.visibility import Visibility

MOST_FILES_SHOWN: Final = 100
"""In one view: browsers draw some ten well, a hub offers more."""
MOST_CONTIGS: Final = 2_000
"""The longest: a viewer keeps them all in memory and draws a menu of them."""
MOST_FILES_SEARCHED: Final = 20
"""For a name."""
_UNKNOWN: Final = "custom"
_INDEX_TYPES: Final = frozenset({"bai", "csi", "tbi", "fai", "crai"})

Link = Callable[[str], str]


@dataclass(frozen=True, slots=True)
class ViewRequest:
    """What to show, of what the caller may see. Either `files`, or what the query finds."""

    visible: Visibility
    files: Sequence[str] = ()
    query: FileQuery | None = None
    region: str | None = None
    reference: str | None = None
    assembly: str | None = None


class Selecting:
    """Looks up files, their parts and their sequences. Starts nothing."""

    def __init__(self, submissions: Submissions | None, catalog: Catalog, names: Names) -> None:
        self._submissions = submissions
        self._catalog = catalog
        self._names = names

    async def selection(self, wanted: ViewRequest, link: Link) -> Selection:
        """What is wanted, as it is served now.

        Raises:
            InvalidInput: a name, region or assembly that cannot be used, or too many files.
            NotFound, Gone: as Catalog.servable, for files that were named.
        """
        region = parse_region(wanted.region) if wanted.region else None
        entries = await self._entries(wanted)
        manifests = await asyncio.gather(*map(self._manifest, entries))
        files = [
            self._served(entry, manifest, link) for entry, manifest in zip(entries, manifests, strict=True)
        ]
        reference, of_reference = await self._reference(wanted, region, manifests, files, link)
        contigs, assembly = _sequences(wanted.assembly, of_reference, entries, manifests)
        return Selection(
            files=files,
            contigs=contigs,
            assembly=assembly or _UNKNOWN,
            is_known=assembly is not None,
            chromsizes_url=link(f"/tracks/chrom.sizes?{_query(entries, wanted, region)}"),
            search_url=_search_url(files, link),
            reference=reference,
            region=region,
        )

    async def _entries(self, wanted: ViewRequest) -> Sequence[SourceFile]:
        if wanted.query is not None:
            page = await self._catalog.search(wanted.query)
            return [entry for entry in page.files if entry.status.lower() == "active"]
        if len(wanted.files) > MOST_FILES_SHOWN:
            raise InvalidInput("files", f"at most {MOST_FILES_SHOWN} in one view")
        return [await self._named(name, "files", wanted.visible) for name in dict.fromkeys(wanted.files)]

    async def _named(self, name: str, field: str, visible: Visibility) -> SourceFile:
        dcc, slash, local_id = name.partition("/")
        if not slash:
            raise InvalidInput(field, f"{name!r} is no DCC/ID")
        return await self._catalog.servable(dcc, local_id, visible)

    async def _manifest(self, entry: SourceFile) -> Manifest | None:
        if self._submissions is None or entry.is_upstreams_pair:
            return None
        try:
            recipe = self._submissions.recipe(entry, Kind.DATA)
            return await self._submissions.published(entry, recipe)
        except GooseherdError:  # the names it will have are told all the same
            return None

    def _served(self, entry: SourceFile, manifest: Manifest | None, link: Link) -> ServedFile:
        try:
            parts = self._names.of(entry, parts=manifest.parts if manifest is not None else None)
        except GooseherdError:
            parts = (NamedPart(Kind.DATA, entry.filename),)
        first: dict[Kind, NamedPart] = {}
        for part in parts:
            first.setdefault(part.kind, part)
        for part in self._on_demand(entry):
            first.setdefault(part.kind, part)
        suffix = first[Kind.INDEX].name.rpartition(".")[2] if Kind.INDEX in first else ""
        if suffix not in _INDEX_TYPES:
            first.pop(Kind.INDEX, None)
        return ServedFile(
            name=entry.name,
            title=entry.filename,
            format=from_filename(first[Kind.DATA].name) or entry.file_format,
            urls={kind: link(part.path(entry)) for kind, part in first.items()},
            index_type=suffix if suffix in _INDEX_TYPES else None,
        )

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
        link: Link,
    ) -> tuple[ServedFile | None, Manifest | None]:
        """The one that is named, or of the files that with sequences which fits the others best.

        None: the others are about sequences that none of them has, and would not be drawn on it.
        """
        if wanted.reference:
            entry = await self._named(wanted.reference, "reference", wanted.visible)
            manifest = await self._manifest(entry)
            served = self._served(entry, manifest, link)
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


def contigs_of(manifest: Manifest, source_format: Format) -> Sequence[Contig]:
    """The sequences of an artifact in the order that people expect."""
    # Files that declare their sequences do so in an order of their own; in others it is that of bytes, and so
    # it is in the trees of bigWig and bigBed.
    ordered = source_format in DECLARES_LENGTHS and source_format not in (BIGBED, BIGWIG)
    return manifest.contigs if ordered else in_natural_order(manifest.contigs)


def _sequences(
    assembly: str | None,
    of_reference: Manifest | None,
    entries: Sequence[SourceFile],
    manifests: Sequence[Manifest | None],
) -> tuple[Sequence[Contig], str | None]:
    """The sequences to draw on, the longest of them, and the assembly that they are of.

    The reference's own, or an assembly's where one is named or recognized and the files use its names,
    or all that the files have together.
    """
    if assembly is not None and sequences_of(assembly) is None and of_reference is None:
        known = ", ".join(sorted(known_assemblies()))
        raise InvalidInput("assembly", f"{assembly!r} is none of {known}: name a reference instead")
    if assembly is not None:
        assembly = assembly_of(sequences_of(assembly) or ()) or assembly  # as UCSC spells it
    if of_reference is not None:
        found: Sequence[Contig] = of_reference.contigs
        return _longest(found), assembly or assembly_of(found)
    made = [
        (contigs_of(manifest, entry.file_format), entry.file_format in DECLARES_LENGTHS)
        for entry, manifest in zip(entries, manifests, strict=True)
        if manifest is not None
    ]
    lengths: dict[str, int | None] = {}
    for contigs, _ in made:
        for contig in contigs:
            lengths[contig.name] = max(contig.length or 0, lengths.get(contig.name) or 0) or None
    together = [Contig(name, length) for name, length in lengths.items()]
    if assembly is None:
        measured = not any(declared for _, declared in made)
        assembly = assembly_of(together, measured=measured)
    molecules = (sequences_of(assembly) if assembly is not None else None) or ()
    if not together:
        return molecules, assembly
    whole = {contig.name: contig.length for contig in molecules}
    if any(name in whole for name in lengths):
        more = [contig for contig in together if contig.name not in whole]
        return _longest([*molecules, *more]), assembly
    return _longest(together), assembly


def _longest(contigs: Sequence[Contig]) -> Sequence[Contig]:
    if len(contigs) <= MOST_CONTIGS:
        return contigs
    kept = set(sorted(contigs, key=lambda contig: -(contig.length or 0))[:MOST_CONTIGS])
    return [contig for contig in contigs if contig in kept]


def _search_url(files: Sequence[ServedFile], link: Link) -> str | None:
    """Where the names of features are looked up; the name is to be put in for $FEATURE$."""
    named = [file.name for file in files if file.has_names][:MOST_FILES_SEARCHED]
    return link(f"/search?{urlencode({'files': ','.join(named)}, safe='/,:')}&q=$FEATURE$") if named else None


def _query(entries: Sequence[SourceFile], wanted: ViewRequest, region: Region | None) -> str:
    """The same files, for an address of ours."""
    query: Mapping[str, str | None] = {
        "files": ",".join(entry.name for entry in entries),
        "reference": wanted.reference,
        "assembly": wanted.assembly,
        "at": str(region) if region is not None else None,
    }
    return urlencode({name: value for name, value in query.items() if value}, safe="/,:")
