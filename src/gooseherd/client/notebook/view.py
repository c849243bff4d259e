"""Files in the output of a cell: a widget with igv.js inside, which the kernel brings along."""

from __future__ import annotations

import functools
import gzip
import logging
from collections.abc import Callable, Mapping, Sequence
from importlib.resources import files as package_files
from typing import Any, Final

import anywidget
import traitlets

from gooseherd.client.endpoint import Endpoint
from gooseherd.client.http_client import GooseherdClient
from gooseherd.client.models import File
from gooseherd.client.notebook.addresses import browser_address, file_at, rewritten, with_token
from gooseherd.domain.errors import GooseherdError

_log: Final = logging.getLogger("gooseherd.client")
_STATIC: Final = package_files("gooseherd") / "api" / "static"
"""Where the build of web/ is; the service serves it from there, too."""


@functools.cache
def packed_igv() -> bytes:
    """igv.js, with gzip: a third of it travels to browsers of far hubs."""
    (script,) = (one for one in _STATIC.iterdir() if one.name.startswith("igv-") and one.name.endswith(".js"))
    return gzip.compress(script.read_bytes(), mtime=0)


Reply = Callable[[Mapping[str, Any]], tuple[dict[str, Any], list[bytes]]]


def _igv(_: Mapping[str, Any]) -> tuple[dict[str, Any], list[bytes]]:
    return {}, [packed_igv()]


class FilesView(anywidget.AnyWidget):
    """Files drawn by igv.js. `files` and `at` may be set, and `at` is where the person went."""

    _esm = (_STATIC / "widget.js").read_text(encoding="utf-8")

    files = traitlets.List(traitlets.Unicode()).tag(sync=True)
    at = traitlets.Unicode("").tag(sync=True)

    def __init__(
        self,
        endpoint: Endpoint,
        names: Sequence[str],
        environ: Mapping[str, str],
        *,
        at: str | None,
        reference: str | None,
        assembly: str | None,
        browser_url: str | None,
    ) -> None:
        self._client = GooseherdClient.to(endpoint)
        self._reference, self._assembly = reference, assembly
        self._browser_url = browser_url.rstrip("/") if browser_url else None
        self._browser_base = self._browser_url or browser_address(endpoint.base_url, environ)
        super().__init__(files=list(names), at=at or "")
        self.on_msg(self._on_message)

    def close(self) -> None:
        """End it, in all outputs."""
        super().close()
        self._client.close()

    def _on_message(self, _: Any, content: Mapping[str, Any], buffers: Any) -> None:
        del buffers
        replies: dict[str, Reply] = {"files": self._of_files, "spec": self._spec, "igv": _igv}
        asked = replies.get(content.get("what", ""))
        if asked is None:
            return
        try:
            reply, attached = asked(content)
        except GooseherdError as error:
            reply, attached = {"error": str(error)}, []
        except Exception as error:
            # Else the view would wait for ever.
            _log.exception("a view cannot be drawn")
            reply, attached = {"error": f"{type(error).__name__}: {error}"}, []
        self.send({**reply, "id": content.get("id")}, attached)

    def _of_files(self, _: Mapping[str, Any]) -> tuple[dict[str, Any], list[bytes]]:
        reference = self._named(self._reference) if self._reference else None
        return {"files": [self._named(name) for name in self.files], "reference": reference}, []

    def _named(self, name: str) -> dict[str, str]:
        entry = self._entry(name)
        return {"name": name, "url": self._address(entry.data_url, entry, self._root(entry))}

    def _spec(self, content: Mapping[str, Any]) -> tuple[dict[str, Any], list[bytes]]:
        names = [name for name in self.files if name in content.get("files", ())]
        if not names:
            return {"spec": None, "notes": []}, []
        options = {"at": self.at or None, "reference": self._reference, "assembly": self._assembly}
        tracks = self._client.tracks(names, viewer="igv", **options)
        spec = dict(tracks.spec or {})
        reference = dict(spec.get("reference") or {})
        shown = [*names, *([self._reference] if self._reference else [])]
        entries = {entry.name: entry for entry in map(self._entry, shown)}
        root = self._root(entries[next(iter(entries))])

        def address(url: str) -> str:
            return self._address(url, entries.get(file_at(url, root) or ""), root)

        sizes = ""
        if reference.get("format") == "chromsizes":
            sizes = self._client.track_document("chrom.sizes", names, **options)
            reference.pop("fastaURL", None)
        return {
            "spec": rewritten(spec, address),
            # To compare with: the same sequences are no reason to begin anew.
            "reference": [rewritten(reference, lambda url: url.partition("?")[0]), len(sizes)],
            "sizes": sizes,
            "notes": list(tracks.notes),
        }, []

    def _entry(self, name: str) -> File:
        dcc, _, local_id = name.partition("/")
        return self._client.file(dcc, local_id)

    def _root(self, entry: File) -> str:
        """What the service calls itself in its links."""
        return entry.names_url.partition("/files/")[0]

    def _address(self, url: str, entry: File | None, root: str) -> str:
        if entry is not None and entry.data_access_level != "public" and self._client.endpoint.api_key:
            url = with_token(url, self._client.token(entry.name).token)
        # A service that says where browsers see it (API_PUBLIC_URL) is right.
        if root != self._client.base_url and self._browser_url is None:
            return url
        return self._browser_base + url.removeprefix(root) if url.startswith(f"{root}/") else url
