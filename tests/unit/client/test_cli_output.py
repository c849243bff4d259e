"""`get -o` writes through devices, FIFOs, symlinks and open files, and replaces regular files whole."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import random
import stat
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from gooseherd.client import GooseherdClient
from gooseherd.client.destination import Stream, destination, writing

CONTENT = random.Random(5).randbytes(300_000)
INDEX = b"the index"


@pytest.fixture
def artifact(service: Any, reply: Any) -> None:
    for path, content, name in (
        ("data", CONTENT, "r.bam"),
        ("index", INDEX, "r.bam.bai"),
        ("density", b"density", "r.density.bw"),
    ):
        headers = {
            "ETag": f'"{hashlib.sha256(content).hexdigest()}"',
            "Content-Disposition": f'attachment; filename="{name}"',
        }
        for method in ("GET", "HEAD"):
            service.on(f"{method} /{path}/d/f", reply(200, content, headers))


@pytest.fixture
def start(service: Any, tmp_path: Path, artifact: None) -> Callable[..., subprocess.Popen[bytes]]:
    """Starts the command as a program of its own: its descriptors are real."""

    def run(*arguments: str, **how: Any) -> subprocess.Popen[bytes]:
        how = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **how}
        command = [sys.executable, "-m", "gooseherd.cli", "get", "d/f", "--url", service.url, *arguments]
        return subprocess.Popen(command, cwd=tmp_path, **how)

    return run


@pytest.fixture
def get(start: Any) -> Callable[..., tuple[int, bytes, str]]:
    def run(*arguments: str, **how: Any) -> tuple[int, bytes, str]:
        with start(*arguments, **how) as process:
            out, words = process.communicate(timeout=60)
            return process.returncode, out, words.decode()

    return run


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_device_stays_a_device_and_nothing_lies_beside_it(get: Any, tmp_path: Path) -> None:
    try:
        os.mknod(tmp_path / "null", stat.S_IFCHR | 0o666, Path("/dev/null").stat().st_rdev)
        (tmp_path / "null").open("wb").close()
    except PermissionError:
        pytest.skip("no device can be made here")
    code, _, words = get("-o", "null")
    assert code == 0, words
    assert stat.S_ISCHR((tmp_path / "null").stat().st_mode)
    assert names(tmp_path) == ["null"]


def test_a_fifo_takes_the_bytes(start: Any, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    with start("-o", "fifo", "--index-out", "i.bai") as process:
        assert (tmp_path / "fifo").read_bytes() == CONTENT
        _, words = process.communicate(timeout=60)
    assert process.returncode == 0, words
    assert names(tmp_path) == ["fifo", "i.bai"]
    assert (tmp_path / "i.bai").read_bytes() == INDEX


def test_a_fifo_whose_reader_goes_ends_as_a_closed_pipe(start: Any, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    with start("-o", "fifo") as process:
        (tmp_path / "fifo").open("rb").close()
        _, words = process.communicate(timeout=60)
    assert (process.returncode, words) == (141, b"")


@pytest.mark.parametrize("there", [True, False])
def test_a_symlink_is_written_through(get: Any, tmp_path: Path, there: bool) -> None:
    (tmp_path / "far").mkdir()
    if there:
        (tmp_path / "far" / "x.bam").write_bytes(b"old")
    (tmp_path / "a.bam").symlink_to("b.bam")
    (tmp_path / "b.bam").symlink_to("far/x.bam")
    assert get("-o", "a.bam")[0] == 0
    assert (tmp_path / "a.bam").is_symlink()
    assert (tmp_path / "far" / "x.bam").read_bytes() == CONTENT
    assert names(tmp_path) == ["a.bam", "a.bam.bai", "b.bam", "far"]
    assert names(tmp_path / "far") == ["x.bam"]


def test_a_symlink_that_leads_to_itself_is_told(get: Any, tmp_path: Path, service: Any) -> None:
    (tmp_path / "loop").symlink_to("loop")
    code, _, words = get("-o", "loop")
    assert (code, service.asked, names(tmp_path)) == (1, [], ["loop"])
    assert "loop: Too many levels of symbolic links" in words


@pytest.mark.parametrize("name", ["-", "/dev/stdout", "/dev/fd/1", "/proc/self/fd/1"])
def test_standard_output_has_several_names(get: Any, tmp_path: Path, name: str) -> None:
    code, out, words = get("-o", name)
    assert (code, out, words, names(tmp_path)) == (0, CONTENT, "", [])


def test_standard_output_that_is_a_file_is_written_on(get: Any, tmp_path: Path) -> None:
    with (tmp_path / "log").open("ab") as log:
        log.write(b"before")
        log.flush()
        assert get("-o", "/dev/stdout", stdout=log)[0] == 0
        log.write(b"after")
    assert (tmp_path / "log").read_bytes() == b"before" + CONTENT + b"after"


def test_another_open_file_is_written_on(get: Any, tmp_path: Path) -> None:
    with (tmp_path / "log").open("wb") as log:
        log.write(b"before")
        log.flush()
        code, out, words = get("-o", f"/dev/fd/{log.fileno()}", pass_fds=[log.fileno()])
        assert (code, out) == (0, b""), words
    assert (tmp_path / "log").read_bytes() == b"before" + CONTENT


def test_data_to_standard_output_and_the_index_to_a_file(get: Any, tmp_path: Path) -> None:
    code, out, _ = get("-o", "-", "--index-out", "i")
    assert (code, out, (tmp_path / "i").read_bytes()) == (0, CONTENT, INDEX)
    code, out, _ = get("-o", "x", "--index-out", "-")
    assert (code, out, (tmp_path / "x").read_bytes()) == (0, INDEX, CONTENT)


def test_in_a_folder_files_have_their_own_names(get: Any, tmp_path: Path) -> None:
    (tmp_path / "into").mkdir()
    (tmp_path / "indexes").mkdir()
    assert get("-o", "into", "--density", "--index-out", "indexes/")[0] == 0
    assert (names(tmp_path / "into"), names(tmp_path / "indexes")) == (["r.bam", "r.bam.bw"], ["r.bam.bai"])
    assert get("-o", "into/")[0] == 0
    assert names(tmp_path / "into") == ["r.bam", "r.bam.bai", "r.bam.bw"]


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("-o", "nothing/"), 2, "nothing/: no such folder"),
        (("-o", "nothing/x"), 1, "nothing: No such file or directory"),
        (("-o", "file/x"), 1, "file: Not a directory"),
        (("-o", ""), 2, "names no file"),
        (("-o", "-", "--index-out", "-"), 2, "one place"),
        (("-o", "x", "--index-out", "x"), 2, "one place"),
        (("-o", "/dev/stdout", "--json"), 2, "standard output"),
        (("--index-out", "-", "--json"), 2, "standard output"),
        (("-o", "/dev/stdout", "--density"), 2, "--density"),
        (("--region", "c1", "-o", "."), 2, "is a folder"),
        (("--region", "c1", "--index-out", "x"), 2, "--index-out"),
    ],
)
def test_what_cannot_be_is_told_before_any_work(
    get: Any, tmp_path: Path, service: Any, arguments: tuple[str, ...], code: int, words: str
) -> None:
    (tmp_path / "file").write_bytes(b"")
    ended = get(*arguments)
    body = json.loads(ended[1])["error"]["detail"] if "--json" in arguments else ended[2]
    assert (ended[0], words in body, service.asked) == (code, True, []), ended
    assert names(tmp_path) == ["file"]


def test_a_reader_that_goes_ends_the_command_without_a_word(start: Any) -> None:
    with start("-o", "-") as process:
        process.stdout.read(10)
        process.stdout.close()
        assert (process.stderr.read(), process.wait(60)) == (b"", 141)


def test_a_full_disk_is_told_once(get: Any) -> None:
    with Path("/dev/full").open("wb", buffering=0) as full:
        code, _, words = get("-o", "-", stdout=full)
        assert (code, words) == (1, "gooseherd: standard output: No space left on device\n")
        name = f"/dev/fd/{full.fileno()}"
        code, _, words = get("-o", name, pass_fds=[full.fileno()])
        assert (code, words) == (1, f"gooseherd: {name}: No space left on device\n")
        code, _, words = get("-o", "x", "--json", stdout=full)
        assert (code, words) == (1, "gooseherd: No space left on device\n")


def test_closed_standard_output_is_told(get: Any) -> None:
    code, _, words = get("-o", "-", stdout=None, preexec_fn=lambda: os.close(1))
    assert (code, words) == (2, "gooseherd: standard output is closed\n")


def test_what_was_there_keeps_its_permissions(
    artifact: None, client: GooseherdClient, service: Any, tmp_path: Path
) -> None:
    (tmp_path / "x").write_bytes(b"old")
    (tmp_path / "x").chmod(0o604)
    client.download(f"{service.url}/data/d/f", tmp_path / "x")
    assert (tmp_path / "x").read_bytes() == CONTENT
    assert stat.S_IMODE((tmp_path / "x").stat().st_mode) == 0o604


@contextlib.contextmanager
def nobody() -> Iterator[None]:
    """Without the rights of root, should the tests have them."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


@pytest.fixture
def anybodys() -> Iterator[Path]:
    """A folder that others reach, too: pytest's own are closed to them."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        yield Path(folder)


def test_where_nothing_may_be_written_is_told(
    artifact: None, client: GooseherdClient, service: Any, anybodys: Path
) -> None:
    for name, mode in (("closed", 0o555), ("open", 0o777)):
        (anybodys / name).mkdir()
        (anybodys / name / "x").write_bytes(b"mine")
        (anybodys / name / "x").chmod(0o444 if name == "open" else 0o666)
        (anybodys / name).chmod(mode)
    url = f"{service.url}/data/d/f"
    with nobody():
        for path in ("closed/x", "closed/new", "open/x"):
            with pytest.raises(PermissionError):
                client.download(url, anybodys / path)
        client.download(url, anybodys / "open" / "new")
    assert (names(anybodys / "closed"), names(anybodys / "open")) == (["x"], ["new", "x"])
    assert (anybodys / "open" / "x").read_bytes() == b"mine"
    (anybodys / "closed").chmod(0o755)


def test_a_file_is_written_whole_or_left_as_it_was(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"old")
    with pytest.raises(RuntimeError), writing(tmp_path / "x") as sink:
        sink.write(b"half")
        raise RuntimeError
    assert ((tmp_path / "x").read_bytes(), names(tmp_path)) == (b"old", ["x"])
    with writing(tmp_path / "x") as sink:
        sink.write(b"new")
        assert (tmp_path / "x").read_bytes() == b"old"
    assert ((tmp_path / "x").read_bytes(), names(tmp_path)) == (b"new", ["x"])


def test_another_process_s_open_file_is_the_path_behind_it(tmp_path: Path) -> None:
    with (tmp_path / "x").open("wb") as held:
        child = subprocess.Popen(["sleep", "60"], stdout=held)
        try:
            assert destination(Path(f"/proc/{child.pid}/fd/1")) == tmp_path / "x"
            assert destination(Path(f"/proc/self/fd/{held.fileno()}")) == Stream(
                Path(f"/proc/self/fd/{held.fileno()}"), held.fileno()
            )
        finally:
            child.kill()
            child.wait()


def test_a_folder_is_no_file(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    with pytest.raises(IsADirectoryError, match="folder"):
        destination(tmp_path / "folder")
