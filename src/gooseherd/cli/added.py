"""What registering an entry changed in the catalog."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

_COMPARED: Final = (
    *("access_url", "filename", "file_format", "md5", "size_in_bytes", "version_tag", "data_access_level"),
    "sidecars",
)


_FIELD_NAMES: Final = {
    "md5": "its content",
    "size_in_bytes": "its size",
    "version_tag": "its modification time",
    "access_url": "its address",
    "file_format": "its format",
    "data_access_level": "its access level",
    "filename": "its file name",
    "sidecars": "its index",
}


Entry = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Added:
    """An entry that is in the catalog now; `result` is `added`, `replaced` or `unchanged`."""

    entry: Entry
    result: str
    detail: str = ""

    @property
    def name(self) -> str:
        """DCC/ID."""
        return f"{self.entry['dcc']}/{self.entry['local_id']}"

    @property
    def line(self) -> str:
        """What was done, for people."""
        match self.result:
            case "unchanged":
                return f"{self.name} is in the catalog already, unchanged"
            case "replaced":
                return f"replaced {self.name}: {self.detail}"
            case _:
                more = f"; {self.detail}" if self.detail else ""
                return f"added {self.name} ({self.entry['file_format']}){more}"

    def to_json(self) -> dict[str, Any]:
        """For programs."""
        return {"name": self.name, "result": self.result, **self.entry}


def compare(about: Entry, known: Entry | None, detail: str) -> Added:
    """The outcome of registering `about` over `known`; `detail` is for an entry that is new."""
    if known is None:
        return Added(about, "added", detail)
    changed = [_FIELD_NAMES[name] for name in _COMPARED if not _same(name, about.get(name), known.get(name))]
    if not changed:
        return Added(about, "unchanged")
    if changed == [_FIELD_NAMES["md5"]] and not known.get("md5"):
        return Added(about, "replaced", "its md5 is known now")
    listed = " and ".join(([", ".join(changed[:-1])] if changed[1:] else []) + changed[-1:])
    return Added(about, "replaced", f"{listed} changed")


def _same(name: str, ours: Any, known: Any) -> bool:
    if name == "sidecars":
        return [(one["kind"], one["access_url"]) for one in ours or ()] == [
            (one["kind"], one["access_url"]) for one in known or ()
        ]
    if name in {"size_in_bytes", "version_tag"} and ours is None:
        return True  # of a URL the service finds them out itself
    return bool(ours == known) or (name == "md5" and str(ours).lower() == known)
