"""A container image as a file (`docker save`, `podman save`), unpacked so that tasks can be started from it.

No engine is needed to run it: what it needs of one, image_process.py does by bubblewrap.
"""

from __future__ import annotations

import copy
import json
import os
import shutil
import sys
import tarfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, Final

from gooseherd.devcloud.cloud_configuration import OF_THE_MACHINE
from gooseherd.domain.errors import Misconfigured

_RUNTIME: Final = Path(__file__).with_name("image_process.py")
_SETTING: Final = "worker image"
_SHARED: Final = ("/proc", "/dev", "/etc/resolv.conf", "/etc/hosts")
"""What the program sees of this machine. There is one network, so its names are those of the machine."""
_DELETED: Final = ".wh."
_EMPTIED: Final = ".wh..wh..opq"
_USER: Final = 10001
"""When the image names its user instead of counting him, as ours does."""


@dataclass(frozen=True, slots=True)
class UnpackedImage:
    """An image on disk; `plan` tells image_process.py how to start it."""

    plan: Path
    environment: Mapping[str, str]

    @property
    def argv(self) -> list[str]:
        """Starts it, in the task's folder and with the task's environment.

        Raises:
            Misconfigured: bubblewrap is not installed.
        """
        # Found here: the task's PATH is that of its image.
        bubblewrap = shutil.which("bwrap")
        if bubblewrap is None:
            raise Misconfigured(_SETTING, "needs bubblewrap to run, which is not installed")
        return [sys.executable, "-I", "-S", str(_RUNTIME), bubblewrap, str(self.plan)]


def unpack(archive: Path, folder: Path) -> UnpackedImage:
    """Unpack the one image of `archive` below `folder`, unless it is there. Blocks for seconds.

    Raises:
        Misconfigured: the file is no archive of one image, or reaches out of its own tree.
    """
    try:
        with tarfile.open(archive) as outer:
            (manifest,) = json.load(_member(outer, "manifest.json"))
            config = json.load(_member(outer, manifest["Config"]))
            mine = folder / PurePosixPath(manifest["Config"]).stem.removesuffix(".json")[:16]
            if not (mine / "plan.json").exists():
                shutil.rmtree(mine, ignore_errors=True)
                _unpack_layers(outer, manifest["Layers"], mine / "root")
                _write_plan(config, mine)
    except (OSError, tarfile.TarError, KeyError, TypeError, ValueError) as error:
        raise Misconfigured(_SETTING, f"{archive.name} cannot be unpacked: {error}") from error
    plan = json.loads((mine / "plan.json").read_text())
    return UnpackedImage(mine / "plan.json", plan["environment"])


def _member(archive: tarfile.TarFile, name: str) -> Any:
    found = archive.extractfile(name)
    if found is None:
        raise KeyError(name)
    return found


def _unpack_layers(outer: tarfile.TarFile, names: Sequence[str], root: Path) -> None:
    root.mkdir(parents=True)
    for name in names:
        with _member(outer, name) as packed, tarfile.open(fileobj=packed, mode="r|*") as layer:
            # `extract(filter=...)` is of Python 3.11.4; whatever version this is leaves the members to us.
            layer.extraction_filter = lambda member, _: member
            for member in layer:
                place = PurePosixPath(member.name)
                if place.name == _EMPTIED:
                    for found in _inside(root, place).parent.glob("*"):
                        _remove(found)
                elif place.name.startswith(_DELETED):
                    _remove(_inside(root, place.with_name(place.name.removeprefix(_DELETED))))
                elif place.name and not member.isdev():
                    if not member.isdir():
                        _remove(_inside(root, place))
                    if member.islnk():
                        _link(_inside(root, PurePosixPath(member.linkname)), _inside(root, place))
                    else:
                        layer.extract(_as_ours(member, root), root)


def _link(target: Path, name: Path) -> None:
    """A second name. Not by `extract`, which also sets the mode of what a link of that name points to."""
    name.parent.mkdir(parents=True, exist_ok=True)
    name.hardlink_to(target)


def _as_ours(member: tarfile.TarInfo, root: Path) -> tarfile.TarInfo:
    """Within `root`, owned by whoever unpacks (there is one user in a task), without set-user-id."""
    kept = copy.copy(member)
    place = _inside(root, PurePosixPath(member.name))
    if member.isdir() and not place.resolve().is_relative_to(root.resolve()):
        raise ValueError(f"{member.name} reaches out of the image")
    kept.name = str(place.relative_to(root.resolve()))
    kept.mode &= 0o755
    # No name: the numbers count.
    kept.uid, kept.gid, kept.uname, kept.gname = os.getuid(), os.getgid(), "", ""
    return kept


def _inside(root: Path, place: PurePosixPath) -> Path:
    """Where that is on disk. ValueError when its folder is outside, be it by a link."""
    folder = (root / str(place.parent).lstrip("/")).resolve()
    if not folder.is_relative_to(root.resolve()) or place.name in ("", ".."):
        raise ValueError(f"{place} reaches out of the image")
    return folder / place.name


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _write_plan(config: Mapping[str, Any], mine: Path) -> None:
    image_config = config["config"]
    root = mine / "root"
    volumes = sorted(image_config.get("Volumes") or {})
    for place in (*volumes, "/proc", "/dev"):
        (root / place.lstrip("/")).mkdir(parents=True, exist_ok=True)
    (root / "etc").mkdir(exist_ok=True)
    for place in ("etc/resolv.conf", "etc/hosts"):
        _remove(_inside(root, PurePosixPath(place)))
        (root / place).touch()
    user = str(image_config.get("User") or _USER).partition(":")[0]
    plan = {
        "root": str(root),
        "argv": [*(image_config.get("Entrypoint") or ()), *(image_config.get("Cmd") or ())],
        "environment": dict(variable.split("=", 1) for variable in image_config.get("Env") or ()),
        "folder": image_config.get("WorkingDir") or "/",
        "volumes": volumes,
        "user": int(user) if user.isdigit() else _USER,
        "shared": _SHARED,
        "not_for_images": [*sorted(OF_THE_MACHINE), "TMPDIR"],
    }
    draft = mine / ".plan.json"
    draft.write_text(json.dumps(plan, indent=1))
    draft.replace(mine / "plan.json")
