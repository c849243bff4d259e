"""S3 of the local cloud as its owner sees it."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from typing import Any

import boto3
import pytest


class Bucket:
    """What stands in it, and what is only being put together."""

    def __init__(self, client: Any, name: str) -> None:
        self._client = client
        self.name = name

    def uploads(self) -> list[Any]:
        """What is being put together, in parts."""
        return list(self._client.list_multipart_uploads(Bucket=self.name).get("Uploads", ()))

    def parts(self) -> int:
        """How many parts of it are there."""
        return sum(
            len(
                self._client.list_parts(Bucket=self.name, Key=one["Key"], UploadId=one["UploadId"]).get(
                    "Parts", ()
                )
            )
            for one in self.uploads()
        )

    def objects(self) -> list[str]:
        """The last names of all keys."""
        found = self._client.list_objects_v2(Bucket=self.name).get("Contents", ())
        return [one["Key"].rpartition("/")[2] for one in found]


@pytest.fixture
def new_bucket() -> Iterator[Callable[[str], Bucket]]:
    """Makes one in the cloud at a URL; the credentials are those of the environment."""
    clients = []

    def make(cloud: str) -> Bucket:
        client: Any = boto3.client("s3", endpoint_url=cloud, region_name="us-east-1")
        clients.append(client)
        name = f"bucket-{uuid.uuid4()}"
        client.create_bucket(Bucket=name)
        return Bucket(client, name)

    yield make
    for client in clients:
        client.close()
