"""Uploads as clients follow them."""

from __future__ import annotations

from datetime import UTC, datetime

from pydantic import Field

from gooseherd.api.models.response import Link, ResponseModel
from gooseherd.domain.upload import FileUpload


class UploadView(ResponseModel):
    """An upload: how far it is, and the catalog entry it has become."""

    upload_id: str
    filename: str
    length: int
    offset: int = Field(description="Bytes that are here; go on with the one at this offset.")
    collection: str
    file_format: str = Field(description="Empty of an index.")
    index_of: str | None = Field(description="The upload whose file it is an index of.")
    complete: bool
    md5: str | None = Field(description="Of the content, once it is complete.")
    file: str | None = Field(description="The catalog entry (DCC/ID) that it has become.")
    file_url: str | None
    created_at: datetime
    expires_at: datetime = Field(
        description="If nothing more comes; of a complete one only this record goes."
    )
    upload_url: str

    @classmethod
    def of(cls, upload: FileUpload, offset: int, link: Link, *, expires_at: float) -> UploadView:
        """The upload as its owner sees it; `expires_at` is Unix seconds."""
        return cls(
            upload_id=upload.upload_id,
            filename=upload.filename,
            length=upload.length,
            offset=offset,
            collection=upload.dcc,
            file_format=upload.file_format,
            index_of=upload.index_of,
            complete=upload.complete,
            md5=upload.digest,
            file=upload.file,
            file_url=link(f"/files/{upload.file}") if upload.file else None,
            created_at=datetime.fromtimestamp(upload.created_at, UTC),
            expires_at=datetime.fromtimestamp(expires_at, UTC),
            upload_url=link(f"/uploads/{upload.upload_id}"),
        )


class UploadList(ResponseModel):
    """Whether this caller may upload, up to which size, and their uploads; without a key none is listed."""

    allowed: bool
    max_bytes: int
    uploads: list[UploadView]
