"""What is refused by a URL's text alone, before anything is asked or resolved."""

from __future__ import annotations

import socket
from collections.abc import Callable

import pytest

from gooseherd.domain.errors import InvalidInput, Misconfigured, OutboundRefused
from gooseherd.sources.http import HttpSources
from gooseherd.sources.rules import OutboundRules


@pytest.fixture(autouse=True)
def no_names(monkeypatch: pytest.MonkeyPatch) -> None:
    """Judging resolves nothing."""

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("a name was looked up")

    monkeypatch.setattr(socket, "getaddrinfo", refuse)


@pytest.mark.parametrize(
    ("url", "rule", "setting"),
    [
        ("http://files.example.org/x.bam", "scheme 'http' is not allowed", "SOURCE_ALLOW_HTTP"),
        ("file:///data/x.bam", "scheme 'file' is not allowed", "SOURCE_FILE_ROOTS"),
        ("ftp://files.example.org/x.bam", "scheme 'ftp' is not allowed", None),
        ("files.example.org/x.bam", "scheme 'missing' is not allowed", None),
        ("https://10.0.0.1/x.bam", "private address", "SOURCE_ALLOW_NETWORKS"),
        ("https://127.0.0.1/x.bam", "loopback address", "SOURCE_ALLOW_NETWORKS"),
        ("https://[::1]/x.bam", "loopback address", "SOURCE_ALLOW_NETWORKS"),
        ("https://169.254.169.254/latest", "link-local address", "SOURCE_ALLOW_NETWORKS"),
        ("https://me:secret@files.example.org/x.bam", "credentials in the URL", None),
        ("https://files.example.org:22/x.bam", "port is not allowed", None),
        ("https://127.1/x.bam", "not a host name", None),
        ("drs://10.0.0.1/object", "private address", "SOURCE_ALLOW_NETWORKS"),
    ],
)
def test_a_refusal_names_the_rule_and_the_setting_that_lifts_it(
    make_sources: Callable[..., HttpSources], url: str, rule: str, setting: str | None
) -> None:
    with pytest.raises(OutboundRefused) as refused:
        make_sources(schemes=("https",), networks=()).judge(url)
    assert (refused.value.rule, refused.value.setting) == (rule, setting)
    assert (setting or rule) in refused.value.advice
    assert "secret" not in str(refused.value)


@pytest.mark.parametrize(
    "url", ["https://files.example.org/x.bam", "s3://bucket/x.bam", "drs://drs.example.org/object"]
)
def test_what_only_asking_would_tell_is_not_refused(
    make_sources: Callable[..., HttpSources], url: str
) -> None:
    make_sources(schemes=("https",), networks=()).judge(url)


def test_hosts_that_are_not_listed_are_refused_whatever_the_scheme(
    make_sources: Callable[..., HttpSources],
) -> None:
    sources = make_sources(schemes=("https",), networks=(), allow_hosts=("*.example.org",))
    sources.judge("https://files.example.org/x.bam")
    for url in ("https://example.com/x.bam", "s3://bucket/x.bam", "drs://drs.example.com/object"):
        with pytest.raises(OutboundRefused) as refused:
            sources.judge(url)
        assert refused.value.setting == "SOURCE_ALLOW_HOSTS"


@pytest.mark.parametrize("url", ["s3://bucket", "s3://b/x.bam", "drs://dg.4503:abc", "drs://"])
def test_what_names_nothing_readable_is_invalid(make_sources: Callable[..., HttpSources], url: str) -> None:
    with pytest.raises(InvalidInput):
        make_sources(schemes=("https",), networks=()).judge(url)


async def test_the_settings_that_a_refusal_names_do_lift_it() -> None:
    url = "http://127.0.0.1/x.bam"
    given: dict[str, str] = {}
    for name, value in (("SOURCE_ALLOW_HTTP", "true"), ("SOURCE_ALLOW_NETWORKS", "127.0.0.0/8")):
        sources = OutboundRules.from_env(given).sources()
        with pytest.raises(OutboundRefused) as refused:
            sources.judge(url)
        await sources.close()
        assert refused.value.setting == name
        given[name] = value
    sources = OutboundRules.from_env(given).sources()
    sources.judge(url)
    await sources.close()


async def test_an_s3_endpoint_that_is_named_is_allowed_and_nothing_else_is(
    make_sources: Callable[..., HttpSources],
) -> None:
    sources = make_sources(schemes=("https",), networks=(), s3_endpoint="http://127.0.0.1:4566")
    sources.judge("s3://bucket/x.bam")
    for url in ("http://127.0.0.1:4566/bucket/x.bam", "https://127.0.0.1:4566/bucket/x.bam"):
        with pytest.raises(OutboundRefused):
            sources.judge(url)


@pytest.mark.parametrize("endpoint", ["ftp://host", "host:9000", "https://", "https://host?x"])
def test_an_s3_endpoint_that_is_no_address_is_refused_at_start(endpoint: str) -> None:
    with pytest.raises(Misconfigured, match="SOURCE_S3_ENDPOINT"):
        OutboundRules(s3_endpoint=endpoint).sources()
