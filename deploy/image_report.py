"""What `./dev images` writes about images: packages as CycloneDX, licences, sizes, the table in docs."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from image_contents import Contents, Package

BUDGETS: Mapping[str, int] = {"api": 130_000_000, "worker": 150_000_000}
"""Bytes compressed by gzip: what each start of a task may have to pull."""
BEGIN, END = "<!-- made by ./dev images --docs -->", "<!-- end -->"


def write(contents: Contents, stem: Path, created: int) -> None:
    """STEM.cdx.json and STEM.licences.txt; the same bytes for the same image."""
    stem.with_name(f"{stem.name}.cdx.json").write_text(sbom(contents, stem.name, created), encoding="utf-8")
    stem.with_name(f"{stem.name}.licences.txt").write_text(licences(contents), encoding="utf-8")


def sbom(contents: Contents, name: str, created: int) -> str:
    """CycloneDX 1.6, JSON."""
    from cyclonedx.model.bom import Bom
    from cyclonedx.model.component import Component, ComponentType
    from cyclonedx.output import make_outputter
    from cyclonedx.schema import OutputFormat, SchemaVersion

    version = contents.config.get("config", {}).get("Labels", {}).get("org.opencontainers.image.version")
    image = Component(
        name=name,
        version=version,
        type=ComponentType.CONTAINER,
        bom_ref=contents.image_id,
        description=contents.system,
    )
    bom = Bom(
        components=[_component(package) for package in contents.packages],
        serial_number=uuid.uuid5(uuid.NAMESPACE_OID, contents.image_id),
    )
    bom.metadata.component = image
    bom.metadata.timestamp = datetime.fromtimestamp(created, UTC)
    bom.register_dependency(image, bom.components)
    return make_outputter(bom, OutputFormat.JSON, SchemaVersion.V1_6).output_as_string(indent=1) + "\n"


def _component(package: Package) -> Any:
    from cyclonedx.model.component import Component, ComponentType
    from cyclonedx.model.license import DisjunctiveLicense
    from packageurl import PackageURL

    qualifiers = {"arch": package.architecture, "distro": "debian-13"} if package.kind == "deb" else {}
    if package.source and package.source != package.name:
        # By which vulnerability data of Debian is kept.
        qualifiers["upstream"] = package.source
    url = PackageURL(
        package.kind, "debian" if package.kind == "deb" else None, package.name, package.version, qualifiers
    )
    return Component(
        name=package.name,
        version=package.version,
        type=ComponentType.LIBRARY,
        purl=url,
        bom_ref=str(url),
        licenses=[DisjunctiveLicense(name=licence) for licence in package.licences],
    )


def licences(contents: Contents) -> str:
    """A line per package; the texts are in the image (/usr/share/doc/*/copyright, *.dist-info)."""
    lines = []
    for package in contents.packages:
        named = ", ".join(package.licences) or "(free text: see its copyright file)"
        lines.append(f"{package.kind}\t{package.name}\t{package.version}\t{named}\n")
    return "".join(lines)


def summary(contents: Mapping[str, Contents], *, build: str, base: str, engine: str) -> dict[str, Any]:
    """images.json."""
    return {
        "build": build,
        "engine": engine,
        "base": base,
        "images": {
            name: {
                "id": content.image_id,
                "archive": content.archive.name,
                "system": content.system,
                "bytes": content.bytes,
                "compressed_bytes": content.compressed_bytes,
                "budget_bytes": BUDGETS[name],
                "layers": [
                    {"digest": layer.digest, "bytes": layer.bytes, "compressed_bytes": layer.compressed_bytes}
                    for layer in content.layers
                ],
                "packages": {
                    kind: {one.name: one.version for one in content.packages if one.kind == kind}
                    for kind in ("deb", "pypi")
                },
            }
            for name, content in contents.items()
        },
    }


def table(contents: Mapping[str, Contents]) -> str:
    """Each layer with its size, as `docker history` has it."""
    lines = ["| image | layer | files | MB | MB compressed |", "| --- | --- | --- | --- | --- |"]
    for name, content in contents.items():
        for layer in content.layers:
            made = _as_text(layer.created_by) or "base image"
            lines.append(_row(name, made, layer.files, layer.bytes, _megabytes(layer.compressed_bytes)))
        counted = ", ".join(
            f"{sum(package.kind == kind for package in content.packages)} {what}"
            for kind, what in (("deb", "Debian packages"), ("pypi", "Python packages"))
        )
        files = sum(layer.files for layer in content.layers)
        compressed = f"{_megabytes(content.compressed_bytes)} of {BUDGETS[name] / 1e6:.0f}"
        lines.append(_row(name, f"together: {content.system}, {counted}", files, content.bytes, compressed))
    return "\n".join(lines)


def _row(image: str, layer: str, files: int, size: int, compressed: str) -> str:
    return f"| {image} | {layer} | {files:,} | {_megabytes(size)} | {compressed} |"


def _megabytes(size: int) -> str:
    return f"{size / 1e6:.1f}"


def _as_text(created_by: str) -> str:
    if created_by in {"", "/bin/sh"}:
        return ""
    return f"`{created_by.replace('|', '/').replace('`', '')}`"


def write_table(page: Path, contents: Mapping[str, Contents]) -> None:
    """Replace the table between the two marks."""
    text = page.read_text(encoding="utf-8")
    before, _, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not end:
        raise ValueError(f"{page.name} has no place for the table ({BEGIN} … {END})")
    page.write_text(f"{before}{BEGIN}\n{table(contents)}\n{END}{after}", encoding="utf-8")
