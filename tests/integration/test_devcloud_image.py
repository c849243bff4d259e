"""A saved container image: unpacked as its layers say, started read-only, with the task's variables."""

from __future__ import annotations

import io
import json
import os
import signal
import stat
import subprocess
import tarfile
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from gooseherd.devcloud import image
from gooseherd.domain.errors import Misconfigured

if TYPE_CHECKING:
    from conftest import Needs

CONFIG = {
    "config": {
        "Entrypoint": ["/bin/sh", "-c"],
        "Env": ["PATH=/usr/bin:/bin", "MINE=image's", "BOTH=image's"],
        "User": "gooseherd",
        "WorkingDir": "/data",
        "Volumes": {"/data": {}},
    }
}
SYSTEM = ("/bin", "/lib", "/lib64", "/usr")
"""In place of layers with a whole Debian: this machine's programs."""


@pytest.fixture
def bubblewrap(needs: Needs) -> None:
    needs("bwrap")


def layer(**files: str | None) -> bytes:
    """A layer; None is a folder. `_` stands for a slash."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as tar:
        for name, text in files.items():
            member = tarfile.TarInfo(name.replace("_", "/").replace("WH", ".wh."))
            if text is None:
                member.type, member.mode = tarfile.DIRTYPE, 0o755
                tar.addfile(member)
            else:
                member.size, member.uid, member.mode = len(text), 10001, 0o4755
                tar.addfile(member, io.BytesIO(text.encode()))
    return packed.getvalue()


def saved(path: Path, *layers: bytes) -> Path:
    files = {f"{n}.tar": data for n, data in enumerate(layers)}
    manifest = [{"Config": "abc.json", "Layers": list(files)}]
    files |= {"abc.json": json.dumps(CONFIG).encode(), "manifest.json": json.dumps(manifest).encode()}
    with tarfile.open(path, "w") as tar:
        for name, data in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    return path


def test_later_layers_replace_and_remove(tmp_path: Path) -> None:
    archive = saved(
        tmp_path / "image.tar",
        layer(a=None, a_kept="1", a_gone="1", a_changed="1", b=None, b_old="1"),
        layer(**{"a_WHgone": "", "a_changed": "2", "b": None, "b_WHWH.opq": "", "b_new": "2"}),
    )
    root = image.unpack(archive, tmp_path / "images").plan.parent / "root"
    files = {str(path.relative_to(root)): path.read_text() for path in root.rglob("*") if path.is_file()}
    assert {name: text for name, text in files.items() if not name.startswith("etc/")} == {
        "a/kept": "1",
        "a/changed": "2",
        "b/new": "2",
    }
    assert (root / "a/kept").stat().st_uid == os.getuid()


def test_a_second_unpacking_takes_what_is_there(tmp_path: Path) -> None:
    archive = saved(tmp_path / "image.tar", layer(a="1"))
    first = image.unpack(archive, tmp_path / "images")
    (first.plan.parent / "root" / "mark").touch()
    assert image.unpack(archive, tmp_path / "images") == first
    assert (first.plan.parent / "root" / "mark").exists()


@pytest.mark.parametrize("name", ["out/file", "out/.wh.file", "../../../file", "out/.wh..wh..opq"])
def test_a_layer_cannot_reach_out_of_its_root(tmp_path: Path, name: str) -> None:
    (tmp_path / "file").write_text("mine")
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as tar:
        link = tarfile.TarInfo("out")
        link.type, link.linkname = tarfile.SYMTYPE, str(tmp_path)
        tar.addfile(link)
        tar.addfile(tarfile.TarInfo(name))
    with pytest.raises(Misconfigured, match="worker image"):
        image.unpack(saved(tmp_path / "image.tar", packed.getvalue()), tmp_path / "images")
    assert (tmp_path / "file").read_text() == "mine"


@pytest.mark.parametrize("kind", [tarfile.DIRTYPE, tarfile.LNKTYPE])
@pytest.mark.parametrize("name", ["out", "out/x", "../outside/x"])
def test_neither_a_folder_nor_a_second_name_reaches_out_of_the_root(
    tmp_path: Path, kind: bytes, name: str
) -> None:
    """A folder's mode would be set, a file outside would be written through its second name."""
    outside = tmp_path / "outside"
    outside.mkdir(mode=0o700)
    (outside / "x").write_text("mine")
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as tar:
        link = tarfile.TarInfo("out")
        link.type, link.linkname = tarfile.SYMTYPE, str(outside)
        tar.addfile(link)
        member = tarfile.TarInfo(name if kind == tarfile.DIRTYPE else "second")
        member.type, member.linkname, member.mode = kind, "" if kind == tarfile.DIRTYPE else name, 0o755
        tar.addfile(member)
    archive = saved(tmp_path / "image.tar", packed.getvalue())
    if (kind, name) == (tarfile.LNKTYPE, "out"):
        image.unpack(archive, tmp_path / "images")  # A second name of the link itself: nothing is followed.
    else:
        with pytest.raises(Misconfigured, match="worker image"):
            image.unpack(archive, tmp_path / "images")
    assert stat.S_IMODE(outside.stat().st_mode) == 0o700
    assert sorted(path.name for path in outside.iterdir()) == ["x"]
    assert (outside / "x").stat().st_nlink == 1


def test_a_second_name_is_the_same_file(tmp_path: Path) -> None:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as tar:
        first = tarfile.TarInfo("/usr/first")
        first.size = 1
        tar.addfile(first, io.BytesIO(b"1"))
        second = tarfile.TarInfo("second")
        second.type, second.linkname = tarfile.LNKTYPE, "/usr/first"
        tar.addfile(second)
    unpacked = image.unpack(saved(tmp_path / "image.tar", packed.getvalue()), tmp_path / "images")
    root = unpacked.plan.parent / "root"
    assert (root / "second").samefile(root / "usr/first")


def test_what_is_no_image_is_named(tmp_path: Path) -> None:
    (tmp_path / "image.tar").write_bytes(b"no archive")
    with pytest.raises(Misconfigured, match=r"image\.tar cannot be unpacked"):
        image.unpack(tmp_path / "image.tar", tmp_path / "images")


@pytest.mark.usefixtures("bubblewrap")
def test_the_program_sees_its_image_its_user_and_its_variables(tmp_path: Path) -> None:
    folders = {name.strip("/"): None for name in SYSTEM}
    unpacked = image.unpack(saved(tmp_path / "image.tar", layer(**folders)), tmp_path / "images")
    plan = json.loads(unpacked.plan.read_text())
    unpacked.plan.write_text(json.dumps({**plan, "shared": [*plan["shared"], *SYSTEM]}))
    task = tmp_path / "task"
    task.mkdir()
    script = (
        "id -u; pwd; touch /x 2>/dev/null || echo read-only; touch y; echo $MINE/$BOTH/$HOME; kill -TERM $$"
    )
    done = subprocess.run(
        [*unpacked.argv, script],
        cwd=task,
        env={"HOME": "/nowhere", "PATH": "/nowhere", "BOTH": "task's", "TMPDIR": str(task)},
        capture_output=True,
        text=True,
        check=False,
    )
    if "user namespaces may not be allowed here" in done.stderr:
        pytest.skip(done.stderr.strip())
    assert done.stdout.splitlines() == ["10001", "/data", "read-only", "image's/task's/"], done.stderr
    assert done.returncode == -15, "a signal to the process is one to the program"
    assert (task / "volume0" / "y").exists()
    assert stat.S_IMODE((task / "volume0").stat().st_mode) == 0o700


def started(tmp_path: Path, script: str, roots: Path) -> subprocess.CompletedProcess[str]:
    """What `script` does in a task of an image with this machine's programs."""
    folders = {name.strip("/"): None for name in SYSTEM}
    unpacked = image.unpack(saved(tmp_path / "image.tar", layer(**folders)), tmp_path / "images")
    plan = json.loads(unpacked.plan.read_text())
    shared = plan["shared"] if "/usr" in plan["shared"] else [*plan["shared"], *SYSTEM]
    unpacked.plan.write_text(json.dumps({**plan, "shared": shared}))
    task = Path(tempfile.mkdtemp(dir=tmp_path))
    done = subprocess.run(
        [*unpacked.argv, script],
        cwd=task,
        env={"TMPDIR": str(task), "SOURCE_FILE_ROOTS": str(roots)},
        capture_output=True,
        text=True,
        check=False,
    )
    if "user namespaces may not be allowed here" in done.stderr:
        pytest.skip(done.stderr.strip())
    return done


@pytest.mark.usefixtures("bubblewrap")
def test_folders_of_local_sources_are_there_to_be_read_in_every_task(tmp_path: Path) -> None:
    files = tmp_path / "files"
    files.mkdir()
    (files / "a.bed").write_text("chr1")
    for _ in range(2):
        done = started(
            tmp_path, f"cat {files}/a.bed; touch {files}/b 2>/dev/null || echo; ls {tmp_path}", files
        )
        assert done.stdout.splitlines() == ["chr1", "files"], done.stderr
    assert not (files / "b").exists()
    assert sorted(path.name for path in files.iterdir()) == ["a.bed"]


@pytest.mark.usefixtures("bubblewrap")
@pytest.mark.parametrize("roots", ["/", "/data"])
def test_folders_of_local_sources_do_not_hide_the_image(tmp_path: Path, roots: str) -> None:
    done = started(tmp_path, "echo started", Path(roots))
    assert (done.returncode, "would hide" in done.stderr) == (127, True)


@pytest.mark.usefixtures("bubblewrap")
def test_a_folder_of_local_sources_does_not_hide_files_of_the_image(tmp_path: Path) -> None:
    done = started(tmp_path, "echo started", Path("/etc"))
    assert (done.returncode, "would hide files of the image" in done.stderr) == (127, True)


@pytest.mark.usefixtures("bubblewrap")
def test_a_folder_of_local_sources_may_lie_in_a_volume(tmp_path: Path) -> None:
    files = tmp_path / "files"
    files.mkdir()
    (files / "a.bed").write_text("chr1")
    folders = {name.strip("/"): None for name in SYSTEM}
    unpacked = image.unpack(saved(tmp_path / "image.tar", layer(**folders)), tmp_path / "images")
    plan = json.loads(unpacked.plan.read_text())
    volume = str(tmp_path)
    changed = {"shared": [*plan["shared"], *SYSTEM], "volumes": [volume], "folder": "/"}
    (unpacked.plan.parent / "root" / volume.lstrip("/")).mkdir(parents=True)
    unpacked.plan.write_text(json.dumps({**plan, **changed}))
    task = tmp_path / "task"
    task.mkdir()
    done = subprocess.run(
        [*unpacked.argv, f"cat {files}/a.bed; touch {files}/b 2>/dev/null || touch {volume}/c"],
        cwd=task,
        env={"TMPDIR": str(task), "SOURCE_FILE_ROOTS": str(files)},
        capture_output=True,
        text=True,
        check=False,
    )
    if "user namespaces may not be allowed here" in done.stderr:
        pytest.skip(done.stderr.strip())
    assert (done.stdout, done.returncode) == ("chr1", 0), done.stderr
    assert sorted(path.name for path in (task / "volume0").iterdir()) == ["c", "files"]


@pytest.mark.usefixtures("bubblewrap")
def test_a_signal_reaches_the_program_which_may_end_in_its_own_way(tmp_path: Path) -> None:
    folders = {name.strip("/"): None for name in SYSTEM}
    unpacked = image.unpack(saved(tmp_path / "image.tar", layer(**folders)), tmp_path / "images")
    plan = json.loads(unpacked.plan.read_text())
    unpacked.plan.write_text(json.dumps({**plan, "shared": [*plan["shared"], *SYSTEM]}))
    task = tmp_path / "task"
    task.mkdir()
    script = "trap 'echo told; exit 3' TERM; echo ready; while :; do sleep 0.05; done"
    with subprocess.Popen(
        [*unpacked.argv, script],
        cwd=task,
        env={"TMPDIR": str(task)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as running:
        assert running.stdout is not None
        if running.stdout.readline() != "ready\n":
            assert running.stderr is not None
            error = running.stderr.read()
            assert "user namespaces may not be allowed here" in error
            pytest.skip(error.strip())
        running.send_signal(signal.SIGTERM)
        assert (running.stdout.read(), running.wait(60)) == ("told\n", 3)
