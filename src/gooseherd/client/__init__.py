"""The Python SDK: files in, ready artifacts out, over the HTTP contract and nothing else."""

from gooseherd.client.async_client import AsyncGooseherdClient
from gooseherd.client.errors import (
    Busy,
    Changed,
    Damaged,
    Denied,
    DownloadInProgress,
    JobEnded,
    Missing,
    NotReachable,
    Refused,
    TookTooLong,
    UnexpectedResponse,
)
from gooseherd.client.http_client import GooseherdClient
from gooseherd.client.parts import PartResponse, ReadyPart, data_path, index_path, part_path, status_path
from gooseherd.client.transfer import Received
from gooseherd.domain.artifact import Kind
from gooseherd.domain.region import Region, parse_region

__all__ = [
    "AsyncGooseherdClient",
    "Busy",
    "Changed",
    "Damaged",
    "Denied",
    "DownloadInProgress",
    "GooseherdClient",
    "JobEnded",
    "Kind",
    "Missing",
    "NotReachable",
    "PartResponse",
    "ReadyPart",
    "Received",
    "Refused",
    "Region",
    "TookTooLong",
    "UnexpectedResponse",
    "data_path",
    "index_path",
    "parse_region",
    "part_path",
    "status_path",
]
