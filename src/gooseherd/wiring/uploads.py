"""Whether and how clients may send files."""

from __future__ import annotations

from gooseherd.api.catalog import Catalog
from gooseherd.api.uploads import Uploads
from gooseherd.settings import Settings
from gooseherd.storage.uploads import UploadFolder


def open_uploads(settings: Settings, catalog: Catalog) -> Uploads | None:
    """None: the settings take none."""
    if not settings.takes_uploads:
        return None
    return Uploads(
        UploadFolder(settings.uploads_dir),
        catalog,
        most_bytes=settings.api_max_upload_bytes,
        expires_seconds=settings.api_upload_expires_seconds,
        without_key=settings.nothing_in_front,
    )
