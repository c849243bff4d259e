"""deploy/image_contents.py and image_report.py: what is in an image, and that its bytes are the same."""

from __future__ import annotations

import importlib
import io
import json
import sys
import tarfile
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

DEPLOY = Path(__file__).parents[2] / "deploy"
STATUS = """Package: tabix
Status: install ok installed
Architecture: amd64
Version: 1.21+ds-1
Source: htslib

Package: libhts3t64
Status: install ok installed
Architecture: amd64
Version: 1.21+ds-1
Source: htslib

Package: gone
Status: deinstall ok config-files
Architecture: amd64
Version: 1
"""
COPYRIGHT = "Files: *\nLicense: Expat\n text\n\nFiles: cram/*\nLicense: BSD-3-clause\n"
METADATA = (
    "Metadata-Version: 2.4\nName: Wool_Like\nVersion: 1.2\nLicense-Expression: Apache-2.0\n\nLong text\n"
)


@pytest.fixture
def contents(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(DEPLOY))
    return importlib.import_module("image_contents")


@pytest.fixture
def report(contents: ModuleType) -> ModuleType:
    return importlib.import_module("image_report")


@pytest.fixture(autouse=True)
def forgotten() -> Any:
    yield
    for name in ("image_contents", "image_report"):
        sys.modules.pop(name, None)


def layer(files: Mapping[str, str], mtime: int = 7) -> bytes:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as archive:
        for name, text in files.items():
            member = tarfile.TarInfo(name)
            member.size, member.mtime = len(text.encode()), mtime
            archive.addfile(member, io.BytesIO(text.encode()))
    return packed.getvalue()


def saved(path: Path, *layers: bytes, container: str = "c1") -> Path:
    """As an engine saves it."""
    import hashlib

    config = {
        "container": container,
        "parent": f"sha256:{container}",
        "config": {"Hostname": container, "Env": ["A=1"], "Labels": {}},
        "history": [{"created_by": f"COPY {n}", "comment": f"FROM {container}"} for n in range(len(layers))],
        "rootfs": {"type": "layers", "diff_ids": ["sha256:" + hashlib.sha256(x).hexdigest() for x in layers]},
    }
    with tarfile.open(path, "w") as archive:
        names = [f"{container}-{number}/layer.tar" for number in range(len(layers))]
        manifest = [{"Config": "config.json", "Layers": names, "RepoTags": ["gooseherd-api:dev"]}]
        entries = {"config.json": json.dumps(config).encode(), "manifest.json": json.dumps(manifest).encode()}
        for name, content in {**dict(zip(names, layers, strict=True)), **entries}.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return path


def test_packages_and_licences_are_those_of_the_last_layers(contents: ModuleType, tmp_path: Path) -> None:
    first = layer(
        {
            "./var/lib/dpkg/status": STATUS.replace("tabix", "old"),
            "usr/share/doc/tabix/copyright": COPYRIGHT,
            "opt/gooseherd/lib/python3.13/site-packages/left_out-1.dist-info/METADATA": METADATA,
        }
    )
    second = layer(
        {
            "var/lib/dpkg/status": STATUS,
            "opt/gooseherd/lib/python3.13/site-packages/.wh.left_out-1.dist-info": "",
            "opt/gooseherd/lib/python3.13/site-packages/wool-1.dist-info/METADATA": METADATA,
        }
    )
    image = contents.Contents(saved(tmp_path / "a.tar", first, second))
    assert [(one.kind, one.name, one.version, one.licences, one.source) for one in image.packages] == [
        # It has no text of its own: that of its source.
        ("deb", "libhts3t64", "1.21+ds-1", ("BSD-3-clause", "Expat"), "htslib"),
        ("deb", "tabix", "1.21+ds-1", ("BSD-3-clause", "Expat"), "htslib"),
        ("pypi", "wool-like", "1.2", ("Apache-2.0",), ""),
    ]
    assert [one.files for one in image.layers] == [3, 3]
    assert image.bytes == len(first) + len(second)


def test_what_only_names_the_builder_s_containers_is_not_in_the_archive(
    contents: ModuleType, tmp_path: Path
) -> None:
    files = layer({"a": "1"})
    for name in ("c1", "c2"):
        contents.normalise(saved(tmp_path / f"{name}.saved", files, container=name), tmp_path / name, 5)
    assert (tmp_path / "c1").read_bytes() == (tmp_path / "c2").read_bytes()
    assert contents.differences(contents.Contents(tmp_path / "c1"), contents.Contents(tmp_path / "c2")) == []
    assert contents.Contents(tmp_path / "c1").config["config"] == {"Env": ["A=1"], "Labels": {}}


def test_a_file_that_differs_between_two_builds_is_named(contents: ModuleType, tmp_path: Path) -> None:
    one, other = (
        contents.Contents(
            saved(tmp_path / f"{mtime}", layer({"kept": "x"}), layer({"var/log/x": "y"}, mtime))
        )
        for mtime in (7, 8)
    )
    lines = contents.differences(one, other)
    assert lines[0] == "layer 2: var/log/x"
    assert "mtime 7" in lines[1]
    assert "mtime 8" in lines[2]
    assert not any("kept" in line for line in lines)


def test_a_file_that_is_no_image_is_refused(contents: ModuleType, tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"no archive")
    with pytest.raises(ValueError, match="no archive of one image"):
        contents.Contents(tmp_path / "x")


def test_the_list_of_packages_is_cyclonedx_and_the_same_each_time(report: ModuleType, tmp_path: Path) -> None:
    contents = importlib.import_module("image_contents")
    image = contents.Contents(
        saved(
            tmp_path / "a.tar",
            layer({"var/lib/dpkg/status": STATUS, "usr/share/doc/tabix/copyright": COPYRIGHT}),
        )
    )
    text = report.sbom(image, "gooseherd-worker", 1_790_000_000)
    assert text == report.sbom(image, "gooseherd-worker", 1_790_000_000)
    listed = json.loads(text)
    assert (listed["bomFormat"], listed["specVersion"]) == ("CycloneDX", "1.6")
    assert listed["metadata"]["component"]["name"] == "gooseherd-worker"
    assert {one["purl"] for one in listed["components"]} == {
        f"pkg:deb/debian/{name}@1.21%2Bds-1?arch=amd64&distro=debian-13&upstream=htslib"
        for name in ("tabix", "libhts3t64")
    }
    assert "deb\ttabix\t1.21+ds-1\tBSD-3-clause, Expat\n" in report.licences(image)


def test_the_table_of_the_docs_is_replaced_between_its_marks(report: ModuleType, tmp_path: Path) -> None:
    contents = importlib.import_module("image_contents")
    image = contents.Contents(saved(tmp_path / "a.tar", layer({"a": "1"})))
    page = tmp_path / "images.md"
    page.write_text(f"before\n{report.BEGIN}\nold\n{report.END}\nafter\n")
    report.write_table(page, {"api": image})
    text = page.read_text()
    assert text.startswith("before\n")
    assert text.endswith(f"{report.END}\nafter\n")
    assert "old" not in text
    assert "| api | `COPY 0` | 1 |" in text
    page.write_text("no marks")
    with pytest.raises(ValueError, match="no place for the table"):
        report.write_table(page, {"api": image})
