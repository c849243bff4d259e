"""What a user writes against the SDK: its types are checked and it is run, against an installed wheel."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import assert_type

from gooseherd import __version__
from gooseherd.client import (
    Busy,
    File,
    GooseherdClient,
    JobEnded,
    Kind,
    Missing,
    NotReachable,
    ReadyPart,
    Received,
    Refused,
    TookTooLong,
    data_path,
)


def fetch(client: GooseherdClient, dcc: str, local_id: str, folder: Path) -> int:
    """Data and index of one file into `folder`; gives the bytes."""
    total = 0
    for kind in (Kind.DATA, Kind.INDEX):
        found = client.ready(dcc, local_id, kind=kind, timeout_seconds=60)
        assert_type(found, ReadyPart)
        assert_type(found.size, int | None)
        received = client.download(found.url, folder / (found.filename or kind))
        assert_type(received, Received)
        total += received.size
    return total


def names(client: GooseherdClient) -> list[str]:
    """Of the catalog's entries."""
    return [assert_type(assert_type(entry, File).local_id, str) for entry in client.files(limit=10)]


def main(url: str) -> str:
    """What the program prints."""
    with GooseherdClient(url, timeout_seconds=2) as client:
        assert_type(client.url(data_path("local", "reads.bam")), str)
        try:
            return f"{names(client)} {fetch(client, 'local', 'reads.bam', Path())}"
        except NotReachable as error:
            return f"{__version__}: nothing answers at {assert_type(error.url, str)}"
        except (Missing, Busy) as error:
            return f"{assert_type(error.status, int)}: {error}"
        except (Refused, JobEnded, TookTooLong) as error:
            return str(error)


if __name__ == "__main__":
    print(main(sys.argv[1]))
