"""What only the cache in a folder promises: no escape, no leftovers, durable and bounded."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import subprocess
import sys
import textwrap
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path

import pytest

from gooseherd.domain.byterange import ByteRange
from gooseherd.domain.errors import CacheUnavailable, InvalidInput
from gooseherd.domain.keys import CacheKey
from gooseherd.storage.local import LocalFsCache

MIB = 1 << 20
KEY = CacheKey("p1/ab/data")


@pytest.fixture
async def cache(tmp_path: Path) -> AsyncIterator[LocalFsCache]:
    backend = LocalFsCache(tmp_path / "cache")
    yield backend
    await backend.close()


async def read(cache: LocalFsCache, key: str = KEY, span: ByteRange | None = None) -> bytes:
    return b"".join([chunk async for chunk in cache.get(CacheKey(key), span)])


def everything(root: Path) -> list[str]:
    return sorted(str(path.relative_to(root)) for path in root.rglob("*"))


def script(body: str, *args: object, prefix: tuple[str, ...] = ()) -> subprocess.Popen[str]:
    """A real second process that uses the cache in the folder `argv[1]`."""
    head = """
        import asyncio, os, resource, sys
        from pathlib import Path
        from gooseherd.domain.errors import *
        from gooseherd.storage.local import LocalFsCache
    """
    code = textwrap.dedent(head) + textwrap.dedent(body)
    return subprocess.Popen(
        [*prefix, sys.executable, "-c", code, *map(str, args)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(process: subprocess.Popen[str], stdin: str = "") -> str:
    out, err = process.communicate(stdin, timeout=60)
    assert process.returncode == 0, err
    return out


async def test_a_symlinked_folder_leads_nowhere(cache: LocalFsCache, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "data").write_text("secret")
    (tmp_path / "cache/p1").mkdir()
    (tmp_path / "cache/p1/ab").symlink_to(outside)
    assert await cache.head(KEY) is None
    assert await read(cache) == b""
    assert await cache.delete(KEY) is False
    assert [found async for found in cache.list()] == []
    with pytest.raises(InvalidInput):
        await cache.put_if_absent(KEY, b"x")
    with pytest.raises(InvalidInput):
        await cache.put_if_absent(CacheKey("p1/ab/new"), b"x")
    assert everything(outside) == ["data"]


async def test_a_symlink_a_fifo_and_a_folder_are_no_objects(cache: LocalFsCache, tmp_path: Path) -> None:
    folder = tmp_path / "cache/p1"
    folder.mkdir()
    (folder / "link").symlink_to("/etc/passwd")
    os.mkfifo(folder / "fifo")
    (folder / "folder").mkdir()
    for name in ("link", "fifo", "folder"):
        key = CacheKey(f"p1/{name}")
        assert await cache.head(key) is None
        assert await read(cache, key) == b""
        assert await cache.delete(key) is False
        with pytest.raises(InvalidInput):
            await cache.put_if_absent(key, b"x")
    assert [found async for found in cache.list()] == []


async def test_a_key_cannot_be_an_object_and_a_folder(cache: LocalFsCache) -> None:
    await cache.put_if_absent(KEY, b"x")
    assert await cache.head(CacheKey(KEY + "/deeper")) is None
    with pytest.raises(InvalidInput):
        await cache.put_if_absent(CacheKey(KEY + "/deeper"), b"x")
    with pytest.raises(InvalidInput):
        await cache.put_if_absent(CacheKey("p1/ab"), b"x")


async def test_nothing_but_objects_is_left_after_puts_and_nothing_after_deletes(
    cache: LocalFsCache, tmp_path: Path
) -> None:
    async def broken() -> AsyncIterator[bytes]:
        yield b"x" * (2 * MIB)
        raise RuntimeError

    await cache.put_if_absent(KEY, b"x")
    await cache.put_if_absent(KEY, b"y")
    with suppress(RuntimeError):
        await cache.put_if_absent(CacheKey("p1/ab/other"), broken())
    root = tmp_path / "cache"
    assert everything(root) == [".gooseherd-tmp", "p1", "p1/ab", "p1/ab/data"]
    assert (root / KEY).stat().st_mode & 0o777 == 0o444
    await cache.delete(KEY)
    assert everything(root) == [".gooseherd-tmp"]


async def test_deleting_leaves_folders_that_hold_something(cache: LocalFsCache, tmp_path: Path) -> None:
    await cache.put_if_absent(CacheKey("p1/a/b/c"), b"x")
    await cache.put_if_absent(CacheKey("p1/a/x"), b"x")
    await cache.delete(CacheKey("p1/a/b/c"))
    assert everything(tmp_path / "cache") == [".gooseherd-tmp", "p1", "p1/a", "p1/a/x"]


async def test_puts_and_deletes_of_neighbours_do_not_trip_over_each_others_folders(
    cache: LocalFsCache,
) -> None:
    async def churn(n: int) -> None:
        for _ in range(30):
            key = CacheKey(f"p1/deep/folder/{n}")
            assert await cache.put_if_absent(key, b"x")
            assert await cache.delete(key)

    await asyncio.gather(*(churn(n) for n in range(4)))


async def test_an_object_deleted_by_another_process_is_gone_here(cache: LocalFsCache, tmp_path: Path) -> None:
    await cache.put_if_absent(KEY, b"old")
    assert await read(cache) == b"old"
    (tmp_path / "cache" / KEY).unlink()
    assert await cache.head(KEY) is None
    assert await read(cache) == b""
    assert await cache.put_if_absent(KEY, b"new!")
    assert await read(cache) == b"new!"


async def test_a_reader_finishes_an_object_that_is_deleted_meanwhile(cache: LocalFsCache) -> None:
    data = os.urandom(3 * MIB)
    await cache.put_if_absent(KEY, data)
    reader = cache.get(KEY)
    chunks = [await anext(reader)]
    await cache.delete(KEY)
    chunks += [chunk async for chunk in reader]
    assert b"".join(chunks) == data


async def test_descriptors_are_bounded_and_freed(tmp_path: Path) -> None:
    def descriptors() -> int:
        return sum(1 for _ in Path("/proc/self/fd").iterdir())

    before = descriptors()
    cache = LocalFsCache(tmp_path, open_files=4)
    keys = [CacheKey(f"p1/{n}") for n in range(20)]
    await asyncio.gather(*(cache.put_if_absent(key, b"x" * 2 * MIB) for key in keys))
    readers = [cache.get(key) for key in keys]
    for reader in readers:
        await anext(reader)
    for reader in readers:
        await reader.aclose()  # type: ignore[attr-defined]
    assert descriptors() <= before + 4 + 2
    assert [await read(cache, key, ByteRange(0, 1)) for key in keys] == [b"x"] * 20
    assert descriptors() <= before + 4 + 2
    await cache.close()
    assert descriptors() == before
    with pytest.raises(CacheUnavailable):
        await cache.head(KEY)


async def test_cached_small_ranges_are_read_without_a_thread(
    cache: LocalFsCache, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = os.urandom(MIB)
    await cache.put_if_absent(KEY, data)
    assert await read(cache, span=ByteRange(0, 10)) == data[:10]
    with (tmp_path / "probe").open("wb+") as file:
        file.write(b"x")
        file.flush()
        try:
            os.preadv(file.fileno(), [bytearray(1)], 0, os.RWF_NOWAIT)
        except (AttributeError, OSError):
            pytest.skip("this file system cannot read without waiting")

    def no_threads(*_: object) -> None:
        raise AssertionError("handed over to a thread")

    monkeypatch.setattr(asyncio.get_running_loop(), "run_in_executor", no_threads)
    assert await read(cache, span=ByteRange(1000, 66_536)) == data[1000:66_536]


@pytest.mark.parametrize("refusal", ["EAGAIN", "EOPNOTSUPP", "short"])
async def test_what_is_not_in_page_cache_is_read_by_a_thread(
    cache: LocalFsCache, monkeypatch: pytest.MonkeyPatch, refusal: str
) -> None:
    import errno

    real = os.preadv

    def refuse(fd: int, buffers: list[memoryview], at: int, flags: int) -> int:
        if refusal == "short" and at == 0:
            return real(fd, [buffers[0][:100]], at)
        raise OSError(getattr(errno, "EAGAIN" if refusal == "short" else refusal), "refused")

    data = os.urandom(70_000)
    await cache.put_if_absent(KEY, data)
    monkeypatch.setattr(os, "preadv", refuse)
    assert await read(cache) == data


async def test_a_root_that_was_removed_is_unavailable_not_empty(cache: LocalFsCache, tmp_path: Path) -> None:
    await cache.put_if_absent(KEY, b"x")
    shutil.rmtree(tmp_path / "cache")
    with pytest.raises(CacheUnavailable):
        await cache.head(KEY)
    with pytest.raises(CacheUnavailable):
        [found async for found in cache.list()]
    with pytest.raises(CacheUnavailable):
        await cache.put_if_absent(KEY, b"x")


def test_a_root_that_cannot_be_made_is_unavailable(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(CacheUnavailable):
        LocalFsCache(tmp_path / "file/cache")


async def test_a_body_file_that_is_missing_is_the_callers_error(cache: LocalFsCache, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        await cache.put_if_absent(KEY, tmp_path / "nothing")
    with pytest.raises(OSError, match="not a regular file"):
        await cache.put_if_absent(KEY, tmp_path)
    assert everything(tmp_path / "cache") == [".gooseherd-tmp"]


@pytest.mark.fault
async def test_a_killed_writer_leaves_nothing_visible_and_its_draft_is_swept(
    cache: LocalFsCache, tmp_path: Path
) -> None:
    writer = script(
        """
        async def body():
            yield b"x" * (4 << 20)
            yield b"x" * (4 << 20)
            print("half way", flush=True)
            await asyncio.Event().wait()

        async def main():
            await LocalFsCache(Path(sys.argv[1])).put_if_absent("p1/ab/data", body())

        asyncio.run(main())
        """,
        tmp_path / "cache",
    )
    with writer:
        assert writer.stdout is not None
        assert await asyncio.to_thread(writer.stdout.readline) == "half way\n"
        assert await cache.sweep(0) == 0  # a living writer's draft is left alone
        writer.send_signal(signal.SIGKILL)
        writer.wait()
    assert await cache.head(KEY) is None
    assert len(everything(tmp_path / "cache")) == 2
    assert await cache.sweep(3600) == 0
    assert await cache.sweep(0) == 1
    assert everything(tmp_path / "cache") == [".gooseherd-tmp"]
    assert await cache.put_if_absent(KEY, b"the retry")


@pytest.mark.fault
async def test_old_drafts_are_swept_when_the_cache_is_opened(cache: LocalFsCache, tmp_path: Path) -> None:
    drafts = tmp_path / "cache/.gooseherd-tmp"
    for name, age in {"old": 7200, "young": 60}.items():
        (drafts / name).touch()
        now = (drafts / name).stat().st_mtime
        os.utime(drafts / name, (now - age, now - age))
    await LocalFsCache(tmp_path / "cache").close()
    assert [path.name for path in drafts.iterdir()] == ["young"]


@pytest.mark.fault
def test_of_many_processes_one_wins_and_its_bytes_are_the_object(tmp_path: Path) -> None:
    body = """
        async def main():
            cache = LocalFsCache(Path(sys.argv[1]))
            print("ready", flush=True)
            sys.stdin.readline()
            won = [await cache.put_if_absent(f"p1/{n}", sys.argv[2].encode() * 100_000) for n in range(20)]
            print(*map(int, won))

        asyncio.run(main())
        """
    writers = [script(body, tmp_path, name) for name in "abcd"]
    for writer in writers:
        assert writer.stdout is not None
        assert writer.stdout.readline() == "ready\n"
    for writer in writers:
        assert writer.stdin is not None
        writer.stdin.write("go\n")
        writer.stdin.flush()
    won = [finish(writer).split() for writer in writers]
    for n in range(20):
        column = [row[n] for row in won]
        assert column.count("1") == 1
        assert (tmp_path / f"p1/{n}").read_bytes() == b"abcd"[column.index("1")].to_bytes() * 100_000


SPACE_IS_OUT = """
    async def chunks():
        for _ in range(8):
            yield b"x" * (1 << 20)

    async def main():
        root = Path(sys.argv[1])
        cache = LocalFsCache(root)
        Path(sys.argv[2]).write_bytes(b"x" * (8 << 20))
        for body in (b"x" * (8 << 20), chunks(), Path(sys.argv[2])):
            try:
                await cache.put_if_absent("p1/ab/data", body)
            except CacheUnavailable as error:
                print(error)
        assert await cache.head("p1/ab/data") is None
        print(sorted(path.name for path in root.rglob("*")))
        assert await cache.put_if_absent("p1/ab/data", b"small")

    asyncio.run(main())
    """


@pytest.mark.fault
def test_a_full_disk_is_unavailable_and_the_draft_is_gone(tmp_path: Path) -> None:
    (tmp_path / "small").mkdir()
    mount = (
        "unshare",
        "-rm",
        "sh",
        "-c",
        'mount -t tmpfs -o size=4m none "$0" && exec "$@"',
        str(tmp_path / "small"),
    )
    if (
        not shutil.which("unshare")
        or subprocess.run([*mount, "true"], check=False, capture_output=True).returncode
    ):
        pytest.skip("needs user namespaces to mount a small file system")
    out = finish(script(SPACE_IS_OUT, tmp_path / "small", tmp_path / "body", prefix=mount))
    assert out.splitlines() == [
        *["artifact cache unavailable during put_if_absent"] * 3,
        "['.gooseherd-tmp']",
    ]


@pytest.mark.fault
def test_a_file_size_limit_is_told_like_a_full_disk(tmp_path: Path) -> None:
    limited = SPACE_IS_OUT.replace(
        "for body in", "resource.setrlimit(resource.RLIMIT_FSIZE, (2 << 20, 2 << 20))\n        for body in"
    )
    out = finish(script(limited, tmp_path / "cache", tmp_path / "body"))
    assert out.count("artifact cache unavailable during put_if_absent") == 3
    assert out.endswith("['.gooseherd-tmp']\n")


@pytest.mark.fault
def test_a_large_object_passes_through_little_memory(tmp_path: Path) -> None:
    out = finish(
        script(
            """
            def peak():
                return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

            async def body():
                chunk = bytes(100_000)
                for _ in range(2000):
                    yield chunk

            async def main():
                cache = LocalFsCache(Path(sys.argv[1]))
                await cache.put_if_absent("p1/small", bytes(4 << 20))
                async for chunk in cache.get("p1/small"):
                    pass
                before = peak()
                assert await cache.put_if_absent("p1/large", body())
                assert await cache.put_if_absent("p1/copy", Path(sys.argv[1]) / "p1/large")
                size = 0
                async for chunk in cache.get("p1/copy"):
                    size += len(chunk)
                assert size == 200_000_000
                print(peak() - before)

            asyncio.run(main())
            """,
            tmp_path,
        )
    )
    assert int(out) < 32 << 10  # KiB


async def test_a_cancelled_copy_ends_and_leaves_nothing(cache: LocalFsCache, tmp_path: Path) -> None:
    source = tmp_path / "source"
    with source.open("wb") as file:
        file.truncate(1 << 40)  # a hole: copying it would take hours
    writer = asyncio.create_task(cache.put_if_absent(KEY, source))
    drafts = tmp_path / "cache/.gooseherd-tmp"
    async with asyncio.timeout(30):
        while not any(path.stat().st_size for path in drafts.iterdir()):  # noqa: ASYNC110 - a thread writes
            await asyncio.sleep(0.001)
    writer.cancel()
    with pytest.raises(asyncio.CancelledError):
        await writer
    assert everything(tmp_path / "cache") == [".gooseherd-tmp"]
