"""Keys follow content and versions, nothing else."""

import hashlib
from dataclasses import replace

import pytest

from gooseherd.domain import formats
from gooseherd.domain.artifact import Kind, Manifest, Part, StepReceipt
from gooseherd.domain.contig import Contig
from gooseherd.domain.errors import InvalidInput
from gooseherd.domain.keys import MANIFEST, CacheKey, Recipe, cache_key, workflow_key
from gooseherd.domain.source import IdentityKind, SourceFile

ENTRY = {
    "dcc": "HuBMAP",
    "local_id": "HBM1.x",
    "access_url": "https://example.org/a/reads.bam?sig=1",
    "file_format": "format:2572",
    "md5": "D41D8CD98F00B204E9800998ECF8427E",
}
RECIPE = Recipe("bam-index", "1", formats.BAM)


def entry(**changes: object) -> SourceFile:
    return SourceFile.from_json({**ENTRY, **changes})


def test_the_same_bytes_elsewhere_have_the_same_keys() -> None:
    moved = entry(dcc="other", local_id="y", access_url="https://example.net/b.bam")
    assert workflow_key(entry().identity, RECIPE) == workflow_key(moved.identity, RECIPE)
    assert cache_key(entry().identity, RECIPE, MANIFEST) == cache_key(moved.identity, RECIPE, MANIFEST)


def test_other_bytes_or_a_new_version_have_other_keys() -> None:
    keys = {
        workflow_key(entry().identity, RECIPE),
        workflow_key(entry(md5="0" * 32).identity, RECIPE),
        workflow_key(entry().identity, replace(RECIPE, processor_version="2")),
        workflow_key(entry().identity, replace(RECIPE, processor="passthrough")),
        workflow_key(entry().identity, replace(RECIPE, source_format=formats.SAM)),
    }
    assert len(keys) == 5


def test_without_a_digest_identity_is_weak_and_says_so() -> None:
    weak = entry(md5=None, size_in_bytes=5)
    assert weak.identity.kind is IdentityKind.WEAK
    assert weak.identity != entry(md5=None, size_in_bytes=6).identity
    assert weak.identity != entry(md5=None, size_in_bytes=5, version_tag='"e1"').identity
    assert entry(md5=None, sha256="0" * 64).identity.kind is IdentityKind.SHA256


def test_an_entry_survives_the_wire() -> None:
    full = entry(
        size_in_bytes=12,
        data_access_level="protected",
        sidecars=[{"kind": "bai", "access_url": "https://example.org/a.bai"}],
    )
    assert SourceFile.from_json(full.to_json()) == full
    assert full.dcc == "hubmap"
    assert full.filename == "reads.bam"


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("dcc", "../x"),
        ("dcc", ""),
        ("dcc", "a/b"),
        ("local_id", "a/b"),
        ("local_id", ".."),
        ("local_id", "a..b"),
        ("local_id", "x" * 256),
        ("local_id", "a\0b"),
        ("local_id", 7),
        ("md5", "xyz"),
        ("sha256", "0" * 63),
        ("size_in_bytes", -1),
        ("size_in_bytes", True),
        ("size_in_bytes", "5"),
        ("file_format", "docx"),
        ("data_access_level", "secret"),
        ("access_url", None),
        ("access_url", "https://e.org/\nHost: x"),
        ("filename", "a/b"),
        ("sidecars", ["x"]),
        ("sidecars", [{"kind": "nope", "access_url": "https://e.org"}]),
    ],
)
def test_a_bad_field_is_named(field: str, value: object) -> None:
    with pytest.raises(InvalidInput) as refused:
        entry(**{field: value})
    assert refused.value.field.startswith(field)


PART = Part(Kind.DATA, CacheKey("p1/x/data.bam"), 10, "0" * 64, "a.bam")


def test_a_manifest_and_a_receipt_survive_storage() -> None:
    receipt = StepReceipt(
        "sort", (PART,), (Contig("chr1", 10), Contig("chr2")), {"records": 1}, ("note",), {"t": "1"}
    )
    assert StepReceipt.from_bytes(receipt.to_bytes()) == receipt
    manifest = Manifest.of_steps(
        source="md5-0", source_format="bam", processor="p", processor_version="1", receipts=[receipt]
    )
    assert Manifest.from_bytes(manifest.to_bytes()) == manifest
    assert manifest.part(Kind.DATA) == PART
    assert manifest.part(Kind.INDEX) is None
    assert PART.etag == '"' + "0" * 64 + '"'


@pytest.mark.parametrize("data", [b"", b"{}", b"[]", b'{"parts": 1}', b"\xff", b"null"])
def test_an_unreadable_manifest_is_refused(data: bytes) -> None:
    with pytest.raises(InvalidInput):
        Manifest.from_bytes(data)


OLDER = (
    b'{"contigs":[{"length":10,"name":"chr1"}],"counts":{"records":1},"notes":[],"parts":['
    b'{"filename":"a.bam","key":"p1/x/data.bam","kind":"data","media_type":"application/octet-stream",'
    b'"sha256":"%b","size":10},{"filename":"a.bam.bai","key":"p1/x/index","kind":"index",'
    b'"media_type":"application/octet-stream","sha256":"%b","size":3}],"processor":"bam-index",'
    b'"processor_version":"2.1","source":"md5-0","source_format":"bam","tools":{"samtools":"1.16"}}'
) % (b"0" * 64, b"1" * 64)


def test_a_manifest_from_before_there_were_more_names_is_read_and_keeps_its_digest() -> None:
    manifest = Manifest.from_bytes(OLDER)
    assert [part.kind for part in manifest.parts] == [Kind.DATA, Kind.INDEX]
    assert manifest.to_bytes() == OLDER
    assert manifest.digest == hashlib.sha256(OLDER).hexdigest()


def test_the_names_of_parts_stay_as_they_are_stored() -> None:
    names = "data index density gzi annotation annotation_index second_end second_end_index names names_index"
    assert list(Kind) == names.split()
    for kind in Kind:
        receipt = StepReceipt("all", (replace(PART, kind=kind),))
        assert StepReceipt.from_bytes(receipt.to_bytes()) == receipt
