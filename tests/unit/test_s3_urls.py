"""s3:// URLs as the https URLs of public objects."""

from __future__ import annotations

import pytest

from gooseherd.domain.errors import InvalidInput
from gooseherd.sources.s3 import S3Endpoint


@pytest.mark.parametrize(
    ("endpoint", "uri", "url"),
    [
        (S3Endpoint(), "s3://reads/a/b.bam", "https://reads.s3.amazonaws.com/a/b.bam"),
        (S3Endpoint(region="eu-west-1"), "s3://reads/b", "https://reads.s3.eu-west-1.amazonaws.com/b"),
        (S3Endpoint(), "s3://my.reads/b", "https://s3.amazonaws.com/my.reads/b"),
        (S3Endpoint("http://127.0.0.1:9000/"), "s3://reads/a/b", "http://127.0.0.1:9000/reads/a/b"),
        (
            S3Endpoint(),
            "s3://reads/a b+c%2F?#é~",
            "https://reads.s3.amazonaws.com/a%20b%2Bc%252F%3F%23%C3%A9~",
        ),
    ],
)
def test_an_object_has_one_url(endpoint: S3Endpoint, uri: str, url: str) -> None:
    assert endpoint.public_url(uri) == url


def test_a_region_that_is_told_beats_the_configured_one() -> None:
    assert S3Endpoint(region="us-east-1").public_url("s3://reads/b", "eu-west-1") == (
        "https://reads.s3.eu-west-1.amazonaws.com/b"
    )


def test_a_region_that_is_no_region_cannot_lead_elsewhere() -> None:
    assert S3Endpoint().public_url("s3://reads/b", "evil.org/") == "https://reads.s3.amazonaws.com/b"


@pytest.mark.parametrize(
    "uri",
    [
        "s3://reads",
        "s3://reads/",
        "s3:///b",
        "s3://Reads/b",
        "s3://a..b/c",
        "s3://reads/../x",
        "s3://re@ds/b",
    ],
)
def test_what_is_no_object_is_refused(uri: str) -> None:
    with pytest.raises(InvalidInput):
        S3Endpoint().public_url(uri)
