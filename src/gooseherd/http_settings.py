"""The settings of the HTTP API and of its server; `Settings` has them."""

from __future__ import annotations

from typing import Final, Literal
from urllib.parse import urlsplit

from pydantic import Field
from pydantic_settings import BaseSettings

from gooseherd.domain.errors import Misconfigured
from gooseherd.setting_types import Size, Text, Words


class HttpSettings(BaseSettings):
    """What clients are served, and what they may ask for."""

    api_host: str = Field("127.0.0.1", description="Address to listen on. Loopback unless told.")
    api_port: int = Field(8080, ge=0, le=65535, description="Port to listen on; 0 picks a free one.")
    api_admin_key: Text = Field(
        None,
        description="Key of the admin, who makes the others; it also signs download tokens: one for all API "
        "processes. Unset: made at first start, kept in the state folder.",
    )
    api_token_seconds: float = Field(
        12 * 3600,
        ge=60,
        le=30 * 86400,
        description="For so long a caller's download token (`?token=`) stays the same, so that URLs do; it "
        "ends after at most twice that.",
    )
    api_public_url: Text = Field(
        None, description="What clients call this service, for absolute links behind a proxy."
    )
    api_organization_name: Text = Field(
        None, description="Who runs this service, for `/service-info` (GA4GH). Unset: the host's name."
    )
    api_organization_url: Text = Field(
        None, description="Where they are to be found. Unset: the service's own address."
    )
    api_wait_max_seconds: float = Field(
        50, ge=0, le=600, description="Longest a request is held; below common proxy timeouts of 60 s."
    )
    api_hold: Literal["viewers", "never"] = Field(
        "viewers",
        description="Whether a viewer's request is held until the file is made; never: 202, by name 503.",
    )
    api_max_holds_per_requester: int = Field(
        500, ge=1, le=100_000, description="Most requests that are held at a time for one requester."
    )
    api_max_retries_per_requester: int = Field(
        20,
        ge=0,
        description="Most new tries of failed files (`?retry=true`) of one requester within ten minutes, but "
        "for the admin key; more get 429. Each costs a worker an attempt.",
    )
    api_max_event_streams_per_requester: int = Field(
        100,
        ge=1,
        le=100_000,
        description="Most streams of events (`/jobs/{id}/events`) that one requester may have open; more get "
        "429. Half of API_MAX_CONNECTIONS for all together.",
    )
    api_max_raw_per_requester: int = Field(
        64,
        ge=1,
        le=100_000,
        description="Most responses at a time with a source's own bytes (`?raw=true`, and all while "
        "processing is off) for one requester; more get 429. Each holds a connection to the source's host.",
    )
    api_max_slow_responses_per_requester: int = Field(
        512,
        ge=1,
        le=100_000,
        description="Most responses at a time that wait for one requester to read them, but for the admin "
        "key: each holds a connection, also behind a proxy. What the kernel takes at once is not counted. As "
        "API_MAX_CONNECTIONS_PER_ADDRESS: an institute behind one address has six for each browser.",
    )
    api_max_bytes_per_minute_per_requester: Size | None = Field(
        None,
        ge=0,
        description="Most bytes a minute for one requester, but for the admin key, by each API process. Who "
        "took more gets 429 for bytes until time has made up for it. 0: no limit. Unset: 16 GiB, far more "
        "than viewers read; none where API_HOST is loopback and there are no proxies: there all are one. "
        "With ARTIFACT_DELIVERY=accel a limit that is set makes nginx ask for each range, so all count.",
    )
    api_cors_origins: Words = Field(
        (),
        description="Origins whose pages may read everything, comma-separated; `*`: all. Unset: all; but "
        "where API_HOST is loopback and there are no proxies only pages of this machine, and others public "
        "entries of files that are elsewhere (https, drs, s3).",
    )
    api_allow_origins: Words = Field(
        (), description="Origins that may read everything beside those (`gooseherd up --allow-origin`)."
    )
    api_allow_hosts: Words = Field(
        (),
        description="Names in Host that are this service's, beside localhost and API_PUBLIC_URL's, where "
        "API_HOST is loopback and there are no proxies; others get 421 (DNS rebinding). Addresses pass.",
    )
    api_trusted_proxies: int = Field(
        0, ge=0, le=10, description="Proxies in front whose X-Forwarded-* headers are believed."
    )

    api_uploads: Literal["auto", "on", "off"] = Field(
        "auto",
        description="Whether files may be uploaded into the state folder. auto: where API_HOST is loopback "
        "and there are no proxies, by its page and by programs, without a key unless API_PUBLIC_URL is set; "
        "on: elsewhere, too, with a key that may submit. Only with workers and artifacts on this machine.",
    )
    api_max_upload_bytes: Size = Field(
        64 * 2**30, ge=1, description="Largest file that may be uploaded; the disk keeps 1 GiB free besides."
    )
    api_upload_expires_seconds: float = Field(
        2 * 86400, ge=60, description="An upload to which nothing came for so long is given up."
    )

    # -- who sends the bytes of artifacts (docs/adr/0029-delivery.md)
    artifact_delivery: Literal["proxy", "redirect", "accel"] = Field(
        "proxy",
        description="Who sends them: this process; whoever is at the address of a 307 that may be kept; or "
        "the nginx in front, which has the artifacts' folder (deploy/nginx.conf).",
    )
    artifact_redirect_url: Text = Field(
        None,
        description="Where redirects lead. Unset: /artifacts of this service, for a CDN in front. presigned: "
        "the S3 bucket, by signed addresses. Else the address below which a CDN or nginx has the artifacts' "
        "folder or bucket (with its prefix).",
    )
    artifact_redirect_secret: Text = Field(
        None,
        description="Signs addresses below ARTIFACT_REDIRECT_URL, as secure_link_md5 of nginx reads them. "
        "Unset: they are open, and files that are not public are sent by this process.",
    )
    artifact_redirect_seconds: int = Field(
        300,
        ge=1,
        le=86400,
        description="How long clients may keep a redirect; a signed address is valid three times as long.",
    )

    # -- identity provider
    oidc_issuer: Text = Field(
        None,
        description="OpenID Connect provider whose bearer tokens are taken, as it writes itself. Needs the "
        "extra `oidc`. Unset: none are.",
    )
    oidc_audience: Text = Field(None, description="What its tokens must be for (`aud`); required with it.")
    oidc_grants: Words = Field(
        (),
        description="What tokens allow, comma-separated: CLAIM=VALUE:SCOPES@COLLECTIONS, as "
        "`groups=4dn-lab:read+submit@4dn`; VALUE `*` is any, COLLECTIONS `*` all, nested claims `a.b`.",
    )
    oidc_owner_claim: str = Field(
        "sub",
        description="The claim that says whose jobs a token's are: a text. All whose tokens have the same "
        "one share jobs, batches and sessions, so only `sub` is safe with every provider.",
    )
    oidc_allow_hosts: Words = Field(
        (), description="Other hosts its keys may be published on, comma-separated."
    )
    oidc_allow_networks: Words = Field(
        (),
        description="Networks (CIDR) where it may be although they are private, comma-separated; then also "
        "by plain http.",
    )

    # -- limits while parsing (docs/adr/0025-limits-while-parsing.md)
    api_max_request_line_bytes: Size = Field(
        16 * 2**10,
        ge=512,
        le=2**20,
        description="Longest path with its query; more gets 414. The `next` of a list may have 8 KiB.",
    )
    api_max_header_lines: int = Field(
        100, ge=10, le=10_000, description="Most header lines of a request; more get 431. Browsers send 20."
    )
    api_max_header_bytes: Size = Field(
        32 * 2**10, ge=1024, le=2**20, description="Most bytes of them, counted as they arrive; more get 431."
    )
    api_max_body_bytes: Size = Field(
        2**30,
        ge=2**10,
        description="Largest body, counted as it arrives; more gets 413. Only an import is that long, and "
        "its lines are stored as they come; 500,000 entries of a portal's dump are 1 GiB.",
    )
    api_head_seconds: float = Field(
        20,
        gt=0,
        description="For a request's headers; then 408. They fit a packet or two, which a poor mobile "
        "connection repeats for some seconds.",
    )
    api_body_seconds: float = Field(
        30, gt=0, description="For a body, and a second more for every 500 bytes that came; then 408."
    )
    api_idle_seconds: float = Field(
        75,
        gt=0,
        description="A connection without a request is closed after this long: later than load balancers do, "
        "mostly after 60 s, or they send requests into connections that close.",
    )
    api_unread_seconds: float = Field(
        0,
        ge=0,
        description="A client that takes nothing of its response for this long is let go; one that reads "
        "slowly is not. 0: 60, or an hour where API_HOST is loopback and there are neither proxies "
        "nor API_PUBLIC_URL, for whoever pages through `samtools view URL | less`.",
    )
    api_max_connections: int = Field(
        4096,
        ge=1,
        description="Open connections; fewer where the limit of open files has no room (two for each, and "
        "256 for the rest). Beyond it whoever has waited longest without a request is closed; if nobody "
        "waits, 16 more are let in for liveness, readiness, metrics and the admin key, and others get 503.",
    )
    api_max_connections_per_address: int = Field(
        512,
        ge=1,
        description="Of one IPv4 address or /64 of IPv6; more get 503. An institute behind one address has "
        "six for each browser. Not limited when API_TRUSTED_PROXIES is set: then it is the proxy's to do.",
    )

    @property
    def is_loopback(self) -> bool:
        """Whether only programs of this machine can connect."""
        return self.api_host in ("localhost", "::1") or self.api_host.startswith("127.")

    @property
    def is_local(self) -> bool:
        """Whether whoever asks is of this machine: no proxy brings others."""
        return self.is_loopback and not self.api_trusted_proxies

    @property
    def nothing_in_front(self) -> bool:
        """Whether whoever asks is of this machine, and no public address leads here.

        Where one does, something in front brings strangers from an address of ours.
        """
        return self.is_local and self.api_public_url is None

    @property
    def bytes_per_minute(self) -> int:
        """Most of one requester; 0: no limit."""
        chosen = self.api_max_bytes_per_minute_per_requester
        if chosen is not None:
            return chosen
        return 0 if self.is_local else 16 * 2**30

    @property
    def unread_seconds(self) -> float:
        """How long a response may wait for its reader."""
        return self.api_unread_seconds or (3600.0 if self.nothing_in_front else 60.0)


PRESIGNED: Final = "presigned"


def check_delivery(settings: HttpSettings, *, in_bucket: bool) -> None:
    """Refuse combinations in which clients would get no bytes.

    Raises:
        Misconfigured: naming the variable.
    """
    mode, url = settings.artifact_delivery, settings.artifact_redirect_url
    if mode == "accel" and in_bucket:
        raise Misconfigured(
            "ARTIFACT_DELIVERY", "accel is for artifacts in a folder; for a bucket take redirect or proxy"
        )
    if mode != "redirect" and (url or settings.artifact_redirect_secret):
        name = "ARTIFACT_REDIRECT_URL" if url else "ARTIFACT_REDIRECT_SECRET"
        raise Misconfigured(name, "is for ARTIFACT_DELIVERY=redirect alone")
    if url == PRESIGNED:
        if not in_bucket:
            raise Misconfigured("ARTIFACT_REDIRECT_URL", "presigned is for artifacts in an S3 bucket")
        if settings.artifact_redirect_secret:
            raise Misconfigured("ARTIFACT_REDIRECT_SECRET", "presigned addresses are signed by S3")
    elif url is not None:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.fragment:
            raise Misconfigured("ARTIFACT_REDIRECT_URL", "must be presigned, or http(s)://host/path")
        if parts.username is not None:
            raise Misconfigured("ARTIFACT_REDIRECT_URL", "must not hold a user name: every client sees it")
    elif settings.artifact_redirect_secret:
        raise Misconfigured("ARTIFACT_REDIRECT_SECRET", "is for addresses below ARTIFACT_REDIRECT_URL")
