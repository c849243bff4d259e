"""Preconditions and ranges decided without I/O, against slicing as the reference."""

from __future__ import annotations

import email
import email.policy
import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gooseherd.api.conditional import coalesce, decide, disposition
from gooseherd.domain.artifact import Kind, Part
from gooseherd.domain.byterange import ByteRange
from gooseherd.domain.errors import MalformedRange, RangeNotSatisfiable
from gooseherd.domain.keys import CacheKey


def part_of(data: bytes, filename: str = "x.bam") -> Part:
    return Part(Kind.DATA, CacheKey("k"), len(data), hashlib.sha256(data).hexdigest(), filename)


def body_of(answer, data: bytes) -> bytes:
    body = b"".join(s if isinstance(s, bytes) else data[s.start : s.stop] for s in answer.segments)
    assert len(body) == answer.length
    assert (b"content-length", b"%d" % len(body)) in answer.headers
    return body


def numbers(limit=400):
    return st.integers(0, limit).map(str)


SPECS = st.one_of(
    st.tuples(numbers(), numbers()).map("-".join),
    numbers().map(lambda n: f"{n}-"),
    numbers().map(lambda n: f"-{n}"),
)
HEADERS = st.lists(SPECS, min_size=1, max_size=20).map(lambda specs: "bytes=" + ", ".join(specs))


def reference(header: str, size: int):
    """RFC 9110 §14 read once more, naively: the set of wanted offsets, or what is wrong."""
    specs = header.removeprefix("bytes=").split(", ")
    wanted = []
    for spec in specs:
        first, _, last = spec.partition("-")
        if first and last and int(last) < int(first):
            return "malformed"
        if first:
            wanted.append([i for i in range(size) if i >= int(first) and (not last or i <= int(last))])
        else:
            wanted.append(list(range(size))[-int(last) :] if int(last) else [])
    wanted = [offsets for offsets in wanted if offsets]
    if not wanted:
        return "unsatisfiable"
    return wanted if len(specs) <= 16 else [list(range(size))]


@given(st.binary(max_size=300), HEADERS)
def test_any_range_header_gives_the_slices_it_asks_for(data, header):
    expected = reference(header, len(data))
    try:
        answer = decide(part_of(data), {b"range": header.encode()})
    except MalformedRange:
        assert expected == "malformed"
        return
    except RangeNotSatisfiable:
        assert expected == "unsatisfiable"
        return
    body, headers = body_of(answer, data), dict(answer.headers)
    asked = {offset for offsets in expected for offset in offsets}
    if answer.status == 200:
        assert body == data
        assert len(header.split(",")) > 16
    elif headers[b"content-type"].startswith(b"multipart/byteranges"):
        assert {
            i for start, piece in parts_of(headers, body) for i in range(start, start + len(piece))
        } >= asked
        for start, piece in parts_of(headers, body):
            assert piece == data[start : start + len(piece)]
    else:
        start = int(headers[b"content-range"].split()[1].split(b"-")[0])
        assert headers[b"content-range"] == b"bytes %d-%d/%d" % (start, start + len(body) - 1, len(data))
        assert body == data[start : start + len(body)]
        assert set(range(start, start + len(body))) >= asked
        if len(expected) == 1:
            assert asked == set(range(start, start + len(body)))


def parts_of(headers, body):
    boundary = headers[b"content-type"].split(b"boundary=")[1]
    pieces = body.split(b"--" + boundary)
    assert (pieces[0], pieces[-1]) == (b"", b"--\r\n")
    for piece in pieces[1:-1]:
        head, _, content = piece.partition(b"\r\n\r\n")
        start, last = head.split(b"Content-Range: bytes ")[1].split(b"/")[0].split(b"-")
        content = content[:-2]
        assert len(content) == int(last) - int(start) + 1
        yield int(start), content


@given(st.text(max_size=60), st.binary(max_size=50))
def test_whatever_a_range_header_holds_the_answer_is_legal(text, data):
    try:
        answer = decide(part_of(data), {b"range": text.encode("utf-8", "ignore")})
    except (MalformedRange, RangeNotSatisfiable):
        return
    assert answer.status in (200, 206)
    if answer.segments:
        body_of(answer, data)


@given(st.lists(st.tuples(st.integers(0, 5000), st.integers(1, 2000)), min_size=1, max_size=16))
def test_coalescing_keeps_every_byte_and_sends_none_twice(pairs):
    spans = [ByteRange(start, start + length) for start, length in pairs]
    merged = coalesce(spans)
    wanted = {i for span in spans for i in range(span.start, span.stop)}
    sent = [i for span in merged for i in range(span.start, span.stop)]
    assert wanted <= set(sent)
    assert len(sent) == len(set(sent))


def test_multipart_is_read_by_a_mail_parser():
    data = bytes(range(65, 91)) * 40
    answer = decide(part_of(data), {b"range": b"bytes=0-4,500-504"})
    head = b"Content-Type: " + dict(answer.headers)[b"content-type"] + b"\r\n\r\n"
    message = email.message_from_bytes(head + body_of(answer, data), policy=email.policy.HTTP)
    assert [p.get_payload() for p in message.iter_parts()] == [data[:5].decode(), data[500:505].decode()]


@pytest.mark.parametrize(
    ("filename", "value"),
    [
        ("x.bam", b'attachment; filename="x.bam"'),
        ('a";b\\.bam', b"attachment; filename=\"a_;b_.bam\"; filename*=UTF-8''a%22%3Bb%5C.bam"),
        ("é.bam", b"attachment; filename=\"_.bam\"; filename*=UTF-8''%C3%A9.bam"),
        ("a\r\nb", b"attachment; filename=\"a__b\"; filename*=UTF-8''a%0D%0Ab"),
    ],
)
def test_a_filename_cannot_leave_its_header(filename, value):
    assert disposition(filename) == value
