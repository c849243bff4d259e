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
    NoService,
    NotReachable,
    Refused,
    TookTooLong,
    UnexpectedResponse,
)
from gooseherd.client.http_client import GooseherdClient
from gooseherd.client.job_calls import ServiceChange
from gooseherd.client.libraries import LibraryMissing
from gooseherd.client.models import (
    Batch,
    BatchFile,
    Contigs,
    File,
    Job,
    Manifest,
    Model,
    PartStatus,
    Progress,
    Queue,
    Session,
    TrackText,
)
from gooseherd.client.parts import PartResponse, ReadyPart, data_path, index_path, part_path, status_path
from gooseherd.client.transfer import Received
from gooseherd.domain.artifact import Kind
from gooseherd.domain.errors import InvalidInput
from gooseherd.domain.region import Region, parse_region

__all__ = [
    "AsyncGooseherdClient",
    "Batch",
    "BatchFile",
    "Busy",
    "Changed",
    "Contigs",
    "Damaged",
    "Denied",
    "DownloadInProgress",
    "File",
    "GooseherdClient",
    "InvalidInput",
    "Job",
    "JobEnded",
    "Kind",
    "LibraryMissing",
    "Manifest",
    "Missing",
    "Model",
    "NoService",
    "NotReachable",
    "PartResponse",
    "PartStatus",
    "Progress",
    "Queue",
    "ReadyPart",
    "Received",
    "Refused",
    "Region",
    "ServiceChange",
    "Session",
    "TookTooLong",
    "TrackText",
    "UnexpectedResponse",
    "data_path",
    "index_path",
    "parse_region",
    "part_path",
    "status_path",
]
