"""The names under which a file's parts are served: what the bytes are, as tools read it from a name.

They follow from the entry and the recipe, so they are known before anything is made; which index there is
(.csi for long sequences, .tbi or .bai else) says the manifest, once there is one.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final
from urllib.parse import quote

from gooseherd.control.submission import Submissions
from gooseherd.domain.artifact import OWN_ADDRESS, Kind, Manifest, Part
from gooseherd.domain.errors import GooseherdError
from gooseherd.domain.formats import from_filename
from gooseherd.domain.job import Job
from gooseherd.domain.keys import Recipe
from gooseherd.domain.source import MADE_KINDS, Sidecar, SidecarKind, SourceFile
from gooseherd.domain.states import Status

RESERVED: Final = frozenset({"", "contigs", "events", "hub.txt", "manifest", "search", "status", "tracks"})
"""What stands below /files/{dcc}/{local_id}/ and is no part."""
_PLAIN: Final = "/:@+="
"""What ids have, and a path may have as it is (RFC 3986 §3.3)."""
_INDEXED: Final = {
    Kind.INDEX: Kind.DATA,
    Kind.ANNOTATION_INDEX: Kind.ANNOTATION,
    Kind.SECOND_END_INDEX: Kind.SECOND_END,
}
"""Which part each index is of. A .csi is known only once it is made."""
_RENAMED_KEPT: Final = 4096


@dataclass(frozen=True, slots=True)
class NamedPart:
    """One name of a file."""

    kind: Kind
    name: str
    sidecar: Sidecar | None = None
    """Set where upstream publishes these bytes itself."""

    def path(self, entry: SourceFile) -> str:
        """Where this API serves it, escaped."""
        return f"/files/{quote(entry.name, safe=_PLAIN)}/{quote(self.name, safe='')}"


class Names:
    """What the parts of a catalog entry are called."""

    def __init__(self, submissions: Submissions | None) -> None:
        self._submissions = submissions
        self._renamed: OrderedDict[tuple[Part, str], Part] = OrderedDict()

    def of(
        self, entry: SourceFile, *, recipe: Recipe | None = None, parts: Sequence[Part] | None = None
    ) -> tuple[NamedPart, ...]:
        """The names of `entry`, data first; of `parts` once they are published.

        `recipe` is the job's or the artifact's, if there is one.

        Raises:
            UnsupportedFormat: nothing can be made of it.
            Misconfigured: the recipe is another build's.
        """
        if self._submissions is None or entry.is_upstreams_pair:
            data = _with_suffix(entry.filename, entry)
            return _servable(
                (
                    NamedPart(Kind.DATA, data),
                    *(NamedPart(Kind.INDEX, f"{data}.{sidecar.kind}", sidecar) for sidecar in entry.sidecars),
                )
            )
        found = dict(self._submissions.filenames(entry, recipe))
        if Kind.DATA not in found:  # an artifact of its own beside the usual one
            return tuple(NamedPart(kind, name) for kind, name in found.items())
        found[Kind.DATA] = _with_suffix(found[Kind.DATA], entry)
        published = None if parts is None else {part.kind: part for part in parts}
        names = []
        for kind in Kind:
            if kind not in found or (published is not None and kind not in published):
                continue
            name = found[kind]
            if (of := _INDEXED.get(kind)) and published is not None:
                name = f"{found[of]}.{published[kind].filename.rpartition('.')[2]}"
            names.append(NamedPart(kind, name))
        others = (sidecar for sidecar in entry.sidecars if sidecar.kind not in MADE_KINDS)
        data = found[Kind.DATA]
        names += [NamedPart(Kind.INDEX, f"{data}.{sidecar.kind}", sidecar) for sidecar in others]
        return _servable(tuple(names))

    def served_as(self, entry: SourceFile, recipe: Recipe, manifest: Manifest, part: Part) -> Part:
        """The part under its name for this entry: another entry of the same content may have published it."""
        key = part, entry.filename
        known = self._renamed.get(key)
        if known is None:
            names = {named.kind: named.name for named in self.of(entry, recipe=recipe, parts=manifest.parts)}
            name = names.get(part.kind, part.filename)
            known = self._renamed[key] = part if name == part.filename else replace(part, filename=name)
            while len(self._renamed) > _RENAMED_KEPT:
                self._renamed.popitem(last=False)
        return known

    def paths(
        self, entry: SourceFile, *, recipe: Recipe | None = None, parts: Sequence[Part] | None = None
    ) -> Mapping[Kind, str]:
        """Where each kind is served: by its name where it has one, else by its kind."""
        where = quote(entry.name, safe=_PLAIN)
        paths = {
            kind: f"/{kind}/{where}" if kind in OWN_ADDRESS else f"/data/{where}?part={kind}" for kind in Kind
        }
        return paths | self.named_paths(entry, recipe=recipe, parts=parts)

    def named_paths(
        self, entry: SourceFile, *, recipe: Recipe | None = None, parts: Sequence[Part] | None = None
    ) -> dict[Kind, str]:
        """Of the kinds that there are, or will be, where each is served by its name."""
        try:
            named = self.of(entry, recipe=recipe, parts=parts)
        except GooseherdError:
            return {}
        # Of several indexes the first is the one that viewers take.
        return {part.kind: part.path(entry) for part in reversed(named)}

    def artifact_paths(
        self, entry: SourceFile, recipe: Recipe | None, parts: Sequence[Part]
    ) -> Mapping[Kind, str]:
        """Where the bytes of each part are for good: the address names their digest."""
        try:
            named = {part.kind: part.name for part in self.of(entry, recipe=recipe, parts=parts)}
        except GooseherdError:
            named = {}
        return {part.kind: artifact_path(entry, part, named.get(part.kind, part.filename)) for part in parts}

    def artifact_paths_of_job(self, job: Job) -> Mapping[Kind, str]:
        """Of what `job` has made; nothing before it is completed."""
        made = job.parts if job.status is Status.COMPLETED else ()
        return self.artifact_paths(job.source, job.recipe, made)

    def paths_of_job(self, job: Job) -> Mapping[Kind, str]:
        """Where what `job` makes is served, or will be."""
        made = job.parts if job.status is Status.COMPLETED else None
        return self.paths(job.source, recipe=job.recipe, parts=made)


def artifact_path(entry: SourceFile, part: Part, name: str) -> str:
    """Where the bytes with the part's digest are served for good, to those who may see the entry."""
    where = f"/artifacts/{part.sha256}/{quote(name, safe='')}"
    return f"{where}?of={quote(entry.name, safe=_PLAIN)}"


def _with_suffix(filename: str, entry: SourceFile) -> str:
    """The name with the format's suffix, if it has none that means a format."""
    if from_filename(filename) is not None:
        return filename
    packed = any(sidecar.kind is SidecarKind.TBI for sidecar in entry.sidecars)
    return f"{filename}.{entry.file_format.suffixes[0]}{'.gz' if packed else ''}"


def _servable(parts: tuple[NamedPart, ...]) -> tuple[NamedPart, ...]:
    """Those that a URL can say, each name once."""
    names = {part.name: part for part in reversed(parts)}
    return tuple(
        part
        for part in parts
        if names[part.name] is part and part.name not in RESERVED and part.name not in (".", "..")
    )
