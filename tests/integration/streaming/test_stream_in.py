"""A source that arrives slowly, breaks off, changes or is wrong, and the tools that read it meanwhile."""

from __future__ import annotations

import asyncio
import gzip
import hashlib
from typing import Any

import pytest

from gooseherd.domain.artifact import Kind
from gooseherd.domain.attempt import EventKind
from gooseherd.domain.failures import Reason
from gooseherd.processing.registry import default_registry

MIB = 1 << 20


def made(kit: Any, case: str) -> tuple[str, str, bytes]:
    """(file name, format, bytes) of about 8 MB."""
    match case:
        case "bam":
            return "x.bam", "bam", kit.reads(ordered=False)
        case "sorted bam":
            return "x.bam", "bam", kit.reads(ordered=True)
        case "bed":
            return "x.bed", "bed", kit.intervals(ordered=False)
        case "bed.gz":
            return "x.bed.gz", "bed", gzip.compress(kit.intervals(ordered=False, megabytes=14), 1)
        case "bed in BGZF":
            return "x.bed.gz", "bed", kit.blocks(kit.intervals(ordered=False, megabytes=14))
        case _:
            return "x.bed.gz", "bed", kit.blocks(kit.intervals(ordered=True, megabytes=14))


@pytest.mark.parametrize("case", ["bam", "sorted bam", "bed", "bed.gz", "bed in BGZF", "sorted bed in BGZF"])
async def test_the_tools_read_what_has_arrived_and_make_the_same_of_it(
    case: str, upstream: Any, attempt: Any, digests: Any, kit: Any
) -> None:
    filename, file_format, upstream.data = made(kit, case)
    assert len(upstream.data) > 7 * MIB
    upstream.let(7 * MIB)
    one = attempt(filename, file_format)
    await kit.come(lambda: one.read_beyond(4 * MIB))
    assert not upstream.whole
    upstream.let()
    last = await one.end()
    assert last.kind is EventKind.DONE, last
    expected = await digests(one.spec.source, upstream.data)
    assert {Kind.DATA, Kind.INDEX, Kind.DENSITY} <= set(expected)
    for kind in expected:
        assert (await one.part(kind)).sha256 == expected[kind]
    kept = case in {"sorted bam", "sorted bed in BGZF"}
    assert ((await one.part(Kind.DATA)).sha256 == hashlib.sha256(upstream.data).hexdigest()) == kept


@pytest.mark.parametrize("ranges", [True, False])
@pytest.mark.parametrize(("case", "program"), [("bam", "samtools sort"), ("bed", "gooseherd-intervals")])
async def test_a_download_that_breaks_and_goes_on_does_not_restart_the_tools(
    case: str, program: str, ranges: bool, upstream: Any, attempt: Any, kit: Any
) -> None:
    filename, file_format, upstream.data = made(kit, case)
    upstream.ranges = ranges
    upstream.breaks, upstream.breaks_at = 2, 6 * MIB
    upstream.let(6 * MIB - 1)
    one = attempt(filename, file_format)
    await kit.come(lambda: one.read_beyond(4 * MIB))
    upstream.let()
    assert (await one.end()).kind is EventKind.DONE
    assert len(upstream.starts) == 3
    assert all(upstream.starts[1:]) == ranges
    assert one.begun(f"{program} " if case == "bam" else "--format=") == 1


async def test_a_source_that_changes_on_the_way_is_begun_anew(
    upstream: Any, attempt: Any, digests: Any, kit: Any
) -> None:
    old, new = kit.intervals(ordered=False), kit.intervals(ordered=False, megabytes=10)[::-1]
    new = b"".join(line[::-1] + b"\n" for line in new.split(b"\n") if line)
    assert new[: 1 << 20] != old[: 1 << 20]
    upstream.data = old
    upstream.breaks, upstream.breaks_at = 1, 6 * MIB
    upstream.let(6 * MIB - 1)
    one = attempt("x.bed", "bed", md5=None)
    await kit.come(lambda: one.read_beyond(4 * MIB))
    upstream.data, upstream.etag = new, '"v2"'
    upstream.let()
    assert (await one.end()).kind is EventKind.DONE
    assert upstream.starts == [0, 0]
    assert one.begun("--format=") == 2
    expected = await digests(one.spec.source, new)
    assert (await one.part(Kind.DATA)).sha256 == expected[Kind.DATA]


async def test_wrong_bytes_are_told_as_such_though_the_tools_were_content(
    upstream: Any, attempt: Any, s3: Any, bucket: Any, kit: Any
) -> None:
    upstream.data = kit.reads(ordered=True)
    upstream.let()
    one = attempt("x.bam", "bam", md5="0" * 32, cache=s3)
    last = await one.end()
    assert last.reason is Reason.SOURCE_CHANGED
    assert (bucket.objects(), bucket.uploads()) == ([], [])


@pytest.mark.parametrize(("md5", "reason"), [("", Reason.SOURCE_INVALID), ("0" * 32, Reason.SOURCE_CHANGED)])
async def test_a_tool_that_blames_the_source_is_believed_once_the_bytes_are_verified(
    md5: str, reason: Reason, upstream: Any, attempt: Any, kit: Any
) -> None:
    upstream.data = kit.intervals(ordered=False)[: 5 * MIB] + b"\nchr1\tx\ty\n" + kit.intervals(ordered=False)
    upstream.let(8 * MIB)
    one = attempt("x.bed", "bed", md5=md5)
    await kit.come(lambda: one.begun("--format="))
    await kit.come(lambda: not list(one.work.glob("steps/data/*.gz")) and one.read_beyond(4 * MIB))
    upstream.let()
    last = await one.end()
    assert last.reason is reason
    if reason is Reason.SOURCE_INVALID:
        assert "line" in last.detail
        assert "not read" not in last.detail


async def test_a_download_that_fails_for_good_is_what_the_attempt_failed_of(
    upstream: Any, attempt: Any, kit: Any
) -> None:
    upstream.data = kit.reads(ordered=False)
    upstream.breaks, upstream.breaks_at = 100, 6 * MIB
    upstream.let()
    last = await attempt("x.bam", "bam").end()
    assert last.reason is Reason.SOURCE_UNAVAILABLE


async def test_a_source_that_grows_beyond_the_limit_ends_the_tools(
    upstream: Any, attempt: Any, kit: Any
) -> None:
    upstream.data = kit.intervals(ordered=False)
    upstream.length = False
    upstream.let(6 * MIB)
    one = attempt("x.bed", "bed", limit=7 * MIB)
    await kit.come(lambda: one.read_beyond(3 * MIB))
    upstream.let()
    assert (await one.end()).reason is Reason.SOURCE_TOO_LARGE


async def test_a_size_that_nobody_knows_is_no_obstacle(upstream: Any, attempt: Any, kit: Any) -> None:
    upstream.data = kit.reads(ordered=True)
    upstream.length = False
    upstream.let(6 * MIB)
    plain = default_registry(sort_memory=64 * MIB, samtools_memory=64 * MIB, threads=2)
    one = attempt("x.bam", "bam", using=plain)
    await kit.come(lambda: one.read_beyond(4 * MIB))
    assert one.begun("samtools index")
    upstream.let()
    assert (await one.end()).kind is EventKind.DONE


async def test_a_cut_bam_is_named_when_it_has_arrived(upstream: Any, attempt: Any, kit: Any) -> None:
    upstream.data = kit.reads(ordered=True)[:-28]
    upstream.let(6 * MIB)
    one = attempt("x.bam", "bam")
    await kit.come(lambda: one.read_beyond(4 * MIB))
    upstream.let()
    last = await one.end()
    assert (last.reason, last.detail) == (
        Reason.SOURCE_INVALID,
        "truncated: the end marker is missing",
    )


async def test_cancelled_in_mid_stream_it_leaves_nothing(
    upstream: Any, attempt: Any, s3: Any, bucket: Any, kit: Any
) -> None:
    upstream.data = kit.reads(ordered=True)
    upstream.let(len(upstream.data) - 1)
    one = attempt("x.bam", "bam", cache=s3)
    await kit.come(bucket.uploads)
    one.task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await one.end()
    assert not one.work.exists()
    assert (bucket.objects(), bucket.uploads()) == ([], [])
    assert not any(event.last for event in one.events)
