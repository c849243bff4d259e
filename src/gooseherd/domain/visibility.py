"""Which catalog entries somebody may see: public ones always, others by collection (dcc) or one by name."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from gooseherd.domain.source import AccessLevel, Dcc, LocalId, SourceFile


@dataclass(frozen=True, slots=True)
class Visibility:
    """What is seen beside public entries. Consortium and protected ones are seen alike."""

    everything: bool = False
    collections: frozenset[Dcc] = frozenset()
    file: tuple[Dcc, LocalId] | None = None
    """One entry, of a token for a single file."""

    def shows(self, entry: SourceFile) -> bool:
        """Whether the entry, and whatever is made of it, is seen."""
        return (
            entry.access_level is AccessLevel.PUBLIC
            or self.everything
            or entry.dcc in self.collections
            or self.file == (entry.dcc, entry.local_id)
        )

    def covers(self, other: Visibility) -> bool:
        """Whether all is seen that `other` sees."""
        if self.everything:
            return True
        if other.everything or not other.collections <= self.collections:
            return False
        return other.file is None or other.file == self.file or other.file[0] in self.collections

    @property
    def public_only(self) -> bool:
        """Nothing is seen beside public entries."""
        return not (self.everything or self.collections or self.file)


PUBLIC_ONLY: Final = Visibility()
EVERYTHING: Final = Visibility(everything=True)


def to_plain(visible: Visibility) -> dict[str, Any] | None:
    """As it is stored; None: public entries only."""
    if visible.public_only:
        return None
    return {
        "everything": visible.everything,
        "collections": sorted(visible.collections),
        "file": list(visible.file) if visible.file else None,
    }


def from_plain(data: Mapping[str, Any] | None) -> Visibility:
    """The inverse of `to_plain`."""
    if data is None:
        return PUBLIC_ONLY
    file = data["file"]
    return Visibility(
        everything=data["everything"],
        collections=frozenset(map(Dcc, data["collections"])),
        file=(Dcc(file[0]), LocalId(file[1])) if file else None,
    )
