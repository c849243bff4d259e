"""Credentials that came with an order, in a file that is replaced while they are used.

Whoever follows the attempt renews them long before they end. When nobody does, because the API is away,
requests wait for it: what was made need not be thrown away for that.
"""

from __future__ import annotations

import json
import time
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any, Final

from gooseherd.domain.attempt import TemporaryCredentials
from gooseherd.domain.errors import CacheUnavailable

_WAIT_SECONDS: Final = 900.0
"""For somebody to adopt the attempt; an API that takes longer to come back finds it ended."""
_POLL_SECONDS: Final = 1.0
_MARGIN_SECONDS: Final = 5.0
"""For a request that is signed just before they end."""


def session_of(file: Path, region: str) -> Any:
    """A boto3 session that signs with what the file holds at that time."""
    import boto3
    from botocore.credentials import RefreshableCredentials
    from botocore.session import get_session

    load = partial(_load, file)
    session = get_session()
    # botocore has no public way to hand over credentials that change.
    session._credentials = RefreshableCredentials.create_from_metadata(
        metadata=load(), refresh_using=load, method="attempt", advisory_timeout=2400, mandatory_timeout=60
    )
    return boto3.Session(botocore_session=session, region_name=region)


def _load(file: Path) -> dict[str, str]:
    """In the form that botocore takes. Blocks, while those in the file have expired.

    Raises:
        CacheUnavailable: nobody has renewed them in a long time.
    """
    deadline = time.monotonic() + _WAIT_SECONDS
    while True:
        try:
            found = TemporaryCredentials.from_json(json.loads(file.read_bytes()))
        except (OSError, ValueError, TypeError, KeyError) as error:
            raise CacheUnavailable("credentials of the attempt") from error
        if found.expires_at > time.time() + _MARGIN_SECONDS:
            return {
                "access_key": found.key_id,
                "secret_key": found.secret,
                "token": found.token,
                "expiry_time": datetime.fromtimestamp(found.expires_at, UTC).isoformat(),
            }
        if time.monotonic() > deadline:
            raise CacheUnavailable("credentials of the attempt: they expired and nobody renewed them")
        time.sleep(_POLL_SECONDS)
