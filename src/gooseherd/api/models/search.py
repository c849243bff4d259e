"""What a search for names found."""

from __future__ import annotations

from pydantic import Field

from gooseherd.api.models.response import ResponseModel


class FoundNameView(ResponseModel):
    """One place of one name."""

    name: str = Field(description="What the feature is shown by.")
    matched: str = Field(description="The name that was found, where the feature has several.")
    exact: bool = Field(description="It is what was asked for, not only its beginning.")
    contig: str
    start: int = Field(description="The first base, from 1.")
    end: int = Field(description="The last base.")
    region: str = Field(examples=["chr17:43044296-43125364"])
    file: str = Field(description="DCC/ID.")


class PendingNames(ResponseModel):
    """A file whose names are being indexed."""

    file: str
    job_id: str
    job_url: str


class NameResults(ResponseModel):
    """Exact names first, then by file."""

    results: list[FoundNameView]
    pending: list[PendingNames] = Field(description="Named files that are not searched yet: ask again.")
    notes: list[str] = Field(description="Which files cannot be searched, and why.")
