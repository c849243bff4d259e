"""The HTTP contract as plain calls: those of AsyncGooseherdClient, on a transport that blocks."""

from __future__ import annotations

from typing import Self

import httpx

from gooseherd.client.async_client import AllCalls
from gooseherd.client.endpoint import Endpoint, endpoint_of
from gooseherd.client.transports import BlockingTransport, blocking, blocking_iterator, passed_on, run


class GooseherdClient:
    """One service. Safe to share between threads; `close()` or `with` frees its connections.

    Without an address: GOOSEHERD_URL (with GOOSEHERD_API_KEY), else the service of this machine. Every call
    may raise NotReachable, and Refused (Missing, Denied, Busy) for an error response.
    """

    def __init__(
        self, base_url: str | None = None, api_key: str | None = None, *, timeout_seconds: float = 30.0
    ) -> None:
        self._open(endpoint_of(base_url, api_key, timeout_seconds))

    @classmethod
    def to(cls, endpoint: Endpoint) -> Self:
        """A client of its own for the service of another one."""
        client = cls.__new__(cls)
        client._open(endpoint)
        return client

    def _open(self, endpoint: Endpoint) -> None:
        transport = BlockingTransport(endpoint)
        self.calls = AllCalls(endpoint, transport)
        self.http: httpx.Client = transport.http

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def close(self) -> None:
        """Free the connections; idempotent."""
        run(self.calls.transport.close())

    @property
    def endpoint(self) -> Endpoint:
        """The service, the key, the time-out."""
        return self.calls.endpoint

    @property
    def base_url(self) -> str:
        """Of the service, without a trailing slash."""
        return self.calls.base_url

    url = passed_on(AllCalls.url)
    region_urls = passed_on(AllCalls.region_urls)
    view = passed_on(AllCalls.view)

    # -- files and their parts
    files = blocking_iterator(AllCalls.files)
    file = blocking(AllCalls.file)
    register = blocking(AllCalls.register)
    remove = blocking(AllCalls.remove)
    import_files = blocking(AllCalls.import_files)
    status = blocking(AllCalls.status)
    names = blocking(AllCalls.names)
    manifest = blocking(AllCalls.manifest)
    contigs = blocking(AllCalls.contigs)
    search = blocking(AllCalls.search)
    upload = blocking(AllCalls.upload)
    resume_upload = blocking(AllCalls.resume_upload)
    uploads = blocking(AllCalls.uploads)
    upload_state = blocking(AllCalls.upload_state)
    abandon_upload = blocking(AllCalls.abandon_upload)
    track = blocking(AllCalls.track)
    tracks = blocking(AllCalls.tracks)
    track_document = blocking(AllCalls.track_document)

    # -- bytes
    ask = blocking(AllCalls.ask)
    ready = blocking(AllCalls.ready)
    download = blocking(AllCalls.download)
    copy_to = blocking(AllCalls.copy_to)
    read_bytes = blocking(AllCalls.read_bytes)
    records = blocking_iterator(AllCalls.records)
    read_region = blocking_iterator(AllCalls.read_region)
    read_sequence = blocking_iterator(AllCalls.read_sequence)
    open = blocking(AllCalls.open)
    frame = blocking(AllCalls.frame)

    # -- jobs and batches
    job = blocking(AllCalls.job)
    jobs = blocking_iterator(AllCalls.jobs)
    cancel = blocking(AllCalls.cancel)
    events = blocking_iterator(AllCalls.events)
    follow = blocking_iterator(AllCalls.follow)
    changes = blocking_iterator(AllCalls.changes)
    queue = blocking(AllCalls.queue)
    create_batch = blocking(AllCalls.create_batch)
    batch = blocking(AllCalls.batch)
    batches = blocking_iterator(AllCalls.batches)
    batch_files = blocking_iterator(AllCalls.batch_files)
    batch_events = blocking_iterator(AllCalls.batch_events)
    follow_batch = blocking_iterator(AllCalls.follow_batch)
    cancel_batch = blocking(AllCalls.cancel_batch)

    # -- workers, sessions, the service itself
    is_ready = blocking(AllCalls.is_ready)
    readiness = blocking(AllCalls.readiness)
    health = blocking(AllCalls.health)
    metrics = blocking(AllCalls.metrics)
    usage = blocking(AllCalls.usage)
    fleet = blocking(AllCalls.fleet)
    stop_worker = blocking(AllCalls.stop_worker)
    start_session = blocking(AllCalls.start_session)
    sessions = blocking(AllCalls.sessions)
    session = blocking(AllCalls.session)
    end_session = blocking(AllCalls.end_session)
    dispatch = blocking(AllCalls.dispatch)

    # -- keys and tokens
    caller = blocking(AllCalls.caller)
    create_key = blocking(AllCalls.create_key)
    api_keys = blocking(AllCalls.api_keys)
    revoke_key = blocking(AllCalls.revoke_key)
    rotate_key = blocking(AllCalls.rotate_key)
    token = blocking(AllCalls.token)
    revoke_tokens = blocking(AllCalls.revoke_tokens)
