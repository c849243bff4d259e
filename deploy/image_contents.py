"""What is in a container image, read from its archive: layers, packages, licences, digests."""

from __future__ import annotations

import hashlib
import io
import json
import re
import tarfile
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from email.message import Message
from email.parser import Parser
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import IO, Any

_CHUNK = 1 << 20
_GZIP = 31
"""zlib's window bits for the gzip format."""
_KEPT = re.compile(
    r"var/lib/dpkg/status|etc/os-release|usr/lib/os-release|etc/debian_version|usr/share/doc/[^/]+/copyright"
    r"|opt/.*/site-packages/[^/]+\.dist-info/METADATA"
)
"""Files whose content is read; all others are only counted and digested."""
_MOST_KEPT_BYTES = 8 << 20
_DELETED = ".wh."
_EMPTIED = ".wh..wh..opq"


@dataclass(frozen=True, slots=True)
class Layer:
    created_by: str
    digest: str
    bytes: int
    compressed_bytes: int
    """By gzip, which registries hold unless they are asked for another."""
    files: int


@dataclass(frozen=True, slots=True)
class Package:
    kind: str
    """deb or pypi, as package URLs call them."""
    name: str
    version: str
    licences: tuple[str, ...]
    """As the package itself writes them; empty: it does not say in a form that can be read."""
    source: str = ""
    """Debian's source package, where its name is another."""
    architecture: str = ""


class Contents:
    """The one image of a `docker save` archive. Raises ValueError when the file is none."""

    def __init__(self, archive: Path) -> None:
        self.archive = archive
        self._kept: dict[str, bytes] = {}
        layers = []
        try:
            with tarfile.open(archive) as outer:
                (manifest,) = json.load(_member(outer, "manifest.json"))
                config = _member(outer, manifest["Config"]).read()
                self.image_id = "sha256:" + hashlib.sha256(config).hexdigest()
                self.config: dict[str, Any] = json.loads(config)
                steps = [step for step in self.config.get("history", ()) if not step.get("empty_layer")]
                for number, name in enumerate(manifest["Layers"]):
                    step = steps[number] if number < len(steps) else {}
                    layers.append(self._read_layer(outer, name, step.get("created_by", "")))
        except (OSError, tarfile.TarError, KeyError, TypeError) as error:
            raise ValueError(f"{archive}: no archive of one image: {error}") from error
        self.layers: Sequence[Layer] = layers

    @property
    def bytes(self) -> int:
        return sum(layer.bytes for layer in self.layers)

    @property
    def compressed_bytes(self) -> int:
        return sum(layer.compressed_bytes for layer in self.layers)

    @cached_property
    def packages(self) -> Sequence[Package]:
        """By kind and name."""
        return sorted((*self._debian(), *self._python()), key=lambda package: (package.kind, package.name))

    @property
    def system(self) -> str:
        """Name and point release of the distribution."""
        release = self._text("etc/os-release") or self._text("usr/lib/os-release")
        named = re.search(r'^PRETTY_NAME="?([^"\n]*)', release, re.MULTILINE)
        return f"{named[1] if named else 'unknown'}, {self._text('etc/debian_version').strip()}"

    def digests(self) -> Iterator[tuple[str, Mapping[str, str]]]:
        """Per layer its digest, and of each entry all that makes its bytes in the archive."""
        with tarfile.open(self.archive) as outer:
            (manifest,) = json.load(_member(outer, "manifest.json"))
            for layer, name in zip(self.layers, manifest["Layers"], strict=True):
                with tarfile.open(fileobj=_member(outer, name), mode="r|*") as packed:
                    yield layer.digest, {member.name: _described(packed, member) for member in packed}

    def _read_layer(self, outer: tarfile.TarFile, name: str, created_by: str) -> Layer:
        digest, packer, size, packed = hashlib.sha256(), zlib.compressobj(6, zlib.DEFLATED, _GZIP), 0, 0
        stream = _member(outer, name)
        while chunk := stream.read(_CHUNK):
            digest.update(chunk)
            size += len(chunk)
            packed += len(packer.compress(chunk))
        packed += len(packer.flush())
        files = 0
        with tarfile.open(fileobj=_member(outer, name), mode="r|*") as layer:
            for member in layer:
                files += member.isfile()
                self._take(layer, member)
        return Layer(shortened(created_by), "sha256:" + digest.hexdigest(), size, packed, files)

    def _take(self, layer: tarfile.TarFile, member: tarfile.TarInfo) -> None:
        place = PurePosixPath(member.name.removeprefix("./").lstrip("/"))
        if place.name == _EMPTIED:
            self._forget(str(place.parent))
        elif place.name.startswith(_DELETED):
            self._forget(str(place.with_name(place.name.removeprefix(_DELETED))))
        elif member.isfile() and member.size <= _MOST_KEPT_BYTES and _KEPT.fullmatch(str(place)):
            content = layer.extractfile(member)
            self._kept[str(place)] = content.read() if content is not None else b""

    def _forget(self, place: str) -> None:
        for name in [name for name in self._kept if name == place or name.startswith(f"{place}/")]:
            del self._kept[name]

    def _text(self, name: str) -> str:
        return self._kept.get(name, b"").decode(errors="replace")

    def _debian(self) -> Iterator[Package]:
        stanzas = [_fields(stanza) for stanza in self._text("var/lib/dpkg/status").split("\n\n") if stanza]
        installed = [one for one in stanzas if str(one["Status"]).endswith(" installed")]
        # A package may have its texts in the folder of another one of the same source.
        of_source: dict[str, set[str]] = {}
        for one in installed:
            source = str(one.get("Source", one["Package"])).partition(" ")[0]
            of_source.setdefault(source, set()).update(self._debian_licences(str(one["Package"])))
        for one in installed:
            name = str(one["Package"])
            source = str(one.get("Source", name)).partition(" ")[0]
            licences = self._debian_licences(name) or sorted(of_source[source])
            yield Package("deb", name, str(one["Version"]), tuple(licences), source, str(one["Architecture"]))

    def _debian_licences(self, package: str) -> list[str]:
        text = self._text(f"usr/share/doc/{package}/copyright")
        return sorted(set(re.findall(r"^License: *(\S.*?) *$", text, re.MULTILINE)))

    def _python(self) -> Iterator[Package]:
        for name in sorted(self._kept):
            if name.endswith(".dist-info/METADATA"):
                fields = _fields(self._text(name))
                yield Package(
                    "pypi",
                    re.sub(r"[-_.]+", "-", str(fields["Name"])).lower(),
                    str(fields["Version"]),
                    _python_licences(fields),
                )


def shortened(created_by: str, most: int = 90) -> str:
    """What made a layer, in one line."""
    words = re.sub(r"--mount=\S+", "", created_by.removeprefix("/bin/sh -c "))
    words = re.sub(r"^\|\d+ .*?/bin/sh -c|#\(nop\)|\b(dir|file|multi):[0-9a-f]{64} in", "", words)
    words = " ".join(words.split())
    return words if len(words) <= most else f"{words[: most - 1]}…"


def _python_licences(fields: Message) -> tuple[str, ...]:
    expression = fields.get("License-Expression")
    if expression:
        return (str(expression),)
    classifiers = [
        str(one).rpartition(" :: ")[2] for one in fields.get_all("Classifier", ()) if "License ::" in one
    ]
    if classifiers:
        return tuple(sorted(classifiers))
    first_line = str(fields.get("License") or "").strip().partition("\n")[0]
    return (first_line,) if first_line else ()


def _fields(stanza: str) -> Message:
    return Parser().parsestr(stanza, headersonly=True)


def _member(archive: tarfile.TarFile, name: str) -> Any:
    found = archive.extractfile(name)
    if found is None:
        raise KeyError(name)
    return found


def _described(packed: tarfile.TarFile, member: tarfile.TarInfo) -> str:
    content = packed.extractfile(member) if member.isfile() else None
    digest = hashlib.sha256()
    while content is not None and (chunk := content.read(_CHUNK)):
        digest.update(chunk)
    return (
        f"type {member.type.decode()} mode {member.mode:o} owner {member.uid}:{member.gid} "
        f"size {member.size} mtime {member.mtime:.0f} link {member.linkname!r} "
        f"sha256 {digest.hexdigest()[:16]}"
    )


def normalise(saved: Path, archive: Path, created: int) -> None:
    """Write the image that an engine saved without what differs at each build: names of its containers.

    The same layers and the same configuration give the same file, to the last byte.
    """
    draft = archive.with_name(f".{archive.name}")
    with tarfile.open(saved) as outer, tarfile.open(draft, "w", format=tarfile.GNU_FORMAT) as made:
        (manifest,) = json.load(_member(outer, "manifest.json"))
        config = json.load(_member(outer, manifest["Config"]))
        for key in ("container", "container_config", "parent", "docker_version"):
            config.pop(key, None)
        for key in ("Hostname", "Image"):
            config.get("config", {}).pop(key, None)
        for step in config.get("history", ()):
            step.pop("comment", None)
        layers = []
        for name, digest in zip(manifest["Layers"], config["rootfs"]["diff_ids"], strict=True):
            layers.append(f"{digest.removeprefix('sha256:')}.tar")
            # The same layer twice is one file.
            if layers[-1] not in layers[:-1]:
                _append(made, layers[-1], _member(outer, name), outer.getmember(name).size, created)
        packed = json.dumps(config, sort_keys=True).encode()
        config_name = f"{hashlib.sha256(packed).hexdigest()}.json"
        _append(made, config_name, io.BytesIO(packed), len(packed), created)
        entry = {"Config": config_name, "RepoTags": sorted(manifest.get("RepoTags") or ()), "Layers": layers}
        packed = json.dumps([entry]).encode()
        _append(made, "manifest.json", io.BytesIO(packed), len(packed), created)
    draft.replace(archive)


def _append(archive: tarfile.TarFile, name: str, content: IO[bytes], size: int, mtime: int) -> None:
    member = tarfile.TarInfo(name)
    member.size, member.mtime, member.mode = size, mtime, 0o644
    archive.addfile(member, content)


def differences(one: Contents, other: Contents, most: int = 40) -> list[str]:
    """Where two builds of an image differ, in lines; empty: nowhere, to the last byte."""
    if one.image_id == other.image_id:
        return []
    lines = []
    for number, ((mine, entries), (theirs, others)) in enumerate(
        zip(one.digests(), other.digests(), strict=False), 1
    ):
        if mine == theirs:
            continue
        changed = [
            name for name in sorted(entries.keys() | others.keys()) if entries.get(name) != others.get(name)
        ]
        for name in changed:
            lines += [f"layer {number}: {name}", f"    {entries.get(name)}", f"    {others.get(name)}"]
        if not changed:
            lines.append(f"layer {number}: the same entries in another order")
    for key in sorted(one.config.keys() | other.config.keys()):
        if key != "rootfs" and one.config.get(key) != other.config.get(key):
            lines.append(f"configuration: {key}")
    more = len(lines) - most
    return [*lines[:most], *([f"… and {more} more lines"] if more > 0 else [])]
