"""Batches and their files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Annotated, Literal
from urllib.parse import quote

from pydantic import BaseModel, ConfigDict, Field

from gooseherd.api.address_redaction import without_paths
from gooseherd.api.models.response import Link, PartWord, ResponseModel
from gooseherd.domain.artifact import Kind
from gooseherd.domain.batch import MOST_FILES, Batch, Member, MemberState
from gooseherd.domain.failures import retryable

BatchStatusWord = Literal["active", "completed", "partial", "failed", "cancelled"]
MemberWord = Literal["waiting", "pending", "running", "ready", "failed", "cancelled"]

_PLAIN = "/:@+="


class CatalogQuery(BaseModel):
    """Which entries of the catalog, as GET /files takes it; all of them when nothing is given."""

    model_config = ConfigDict(extra="forbid")

    q: str | None = Field(
        default=None, max_length=200, description="Start of an id or of a word of the name."
    )
    dcc: str | None = Field(default=None, max_length=64)
    format: str | None = Field(default=None, max_length=100)


class BatchRequest(BaseModel):
    """Either `files` or `query`; what the catalog has when the batch is stored counts."""

    model_config = ConfigDict(
        extra="forbid", json_schema_extra={"example": {"files": ["4dn/4dnfi1", "4dn/4dnfi2"]}}
    )

    files: list[Annotated[str, Field(max_length=400)]] | None = Field(
        default=None,
        min_length=1,
        max_length=MOST_FILES,
        description="DCC/ID each; one named twice counts once.",
    )
    query: CatalogQuery | None = None
    retry: bool = Field(default=False, description="New jobs for those that failed a moment ago, too.")


class MemberCounts(ResponseModel):
    """Files by where they stand."""

    waiting: int = Field(description="Not in the queue yet: it takes so many jobs of a requester at a time.")
    pending: int
    running: int
    ready: int
    failed: int
    cancelled: int


class BatchFile(ResponseModel):
    """One file of a batch."""

    number: int = Field(description="In the order of asking, from 0.")
    dcc: str
    local_id: str
    state: MemberWord
    reason: str | None = Field(description="Why it is not ready; null while it may become so.")
    detail: str
    retryable: bool = Field(description="After a failure: whether a new try may end better.")
    job_id: str | None
    job_url: str | None
    data_url: str
    artifact_urls: dict[PartWord, str] | None = Field(
        default=None,
        description="With `?artifacts=true`, of one that is ready: where the bytes of its parts are served "
        "for good, by their digest.",
    )

    @classmethod
    def of(
        cls, member: Member, link: Link, artifacts: Mapping[Kind, str] | None = None, *, admin: bool = False
    ) -> BatchFile:
        """The member as a client or the admin sees it."""
        return cls(
            number=member.number,
            dcc=member.dcc,
            local_id=member.local_id,
            state=member.state.value,
            reason=member.reason,
            detail=without_paths(member.detail, admin=admin),
            retryable=member.reason is not None and retryable(member.reason),
            job_id=member.job_id,
            job_url=link(f"/jobs/{member.job_id}") if member.job_id else None,
            data_url=link(f"/data/{quote(f'{member.dcc}/{member.local_id}', safe=_PLAIN)}"),
            artifact_urls={kind.value: link(path) for kind, path in artifacts.items()} if artifacts else None,
        )


class BatchView(ResponseModel):
    """A batch as clients follow it. Times are UTC, by the store's clock."""

    batch_id: str
    status: BatchStatusWord
    total: int
    counts: MemberCounts
    percent: float = Field(ge=0, le=100, description="Of the files that have ended.")
    created_at: datetime
    ended_at: datetime | None
    cancel_requested: bool
    failures: list[BatchFile] | None = Field(
        default=None, description="The first ten that failed; only for a single batch."
    )
    requester: str | None = Field(default=None, description="For the admin only.")
    batch_url: str
    events_url: str
    files_url: str

    @classmethod
    def of(
        cls, batch: Batch, link: Link, *, failures: Sequence[Member] | None = None, admin: bool = False
    ) -> BatchView:
        """The batch as a client or the admin sees it."""
        where = f"/batches/{batch.batch_id}"
        return cls(
            batch_id=batch.batch_id,
            status=batch.status.value,
            total=batch.total,
            counts=MemberCounts(**{state.value: batch.counts.get(state, 0) for state in MemberState}),
            percent=round(batch.percent, 1),
            created_at=batch.created_at,
            ended_at=batch.ended_at,
            cancel_requested=batch.cancel_requested,
            failures=None
            if failures is None
            else [BatchFile.of(member, link, admin=admin) for member in failures],
            requester=batch.requester if admin else None,
            batch_url=link(where),
            events_url=link(f"{where}/events"),
            files_url=link(f"{where}/files"),
        )


class BatchList(ResponseModel):
    """One page of batches, newest first; `next` goes into `after`."""

    batches: list[BatchView]
    next: str | None


class BatchFileList(ResponseModel):
    """One page of a batch's files, in the order of asking; `next` goes into `after`."""

    files: list[BatchFile]
    next: int | None
