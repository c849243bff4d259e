"""A whole deployment on the local cloud: bucket, cluster, workers with certificates, and the way there.

What an operator does on AWS once; here it is made at each start, and gone with the cloud.
"""

from __future__ import annotations

import importlib.util
import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from gooseherd import certs
from gooseherd.devcloud.access_key import AccessKey, endpoint_file, folder_of, names_credentials
from gooseherd.devcloud.bootstrap import WORKER_IMAGE, bootstrap
from gooseherd.devcloud.child_process import running_cloud
from gooseherd.devcloud.image import unpack
from gooseherd.domain.errors import Misconfigured
from gooseherd.installation import extra_remedy
from gooseherd.statedir import make_private, secrets_of

_ANY: Final = AccessKey("devcloud", "devcloud")
"""For a cloud that does not look at credentials (LocalStack): AWS's libraries want some."""


@contextmanager
def running_local_cloud(
    state_dir: Path, *, port: int = 0, pace: str = "instant", worker_image: Path | None = None
) -> Iterator[dict[str, str]]:
    """A local cloud below `state_dir`: gives the variables that point an API process at it.

    `pace` is how long the states of a task last (see `configuration.PACES`); `port` 0 is a free one.
    Tasks run this very installation, or what is in `worker_image`, a file that `docker save`
    wrote. The API is then told to be of the image's build.

    Raises:
        Misconfigured: the cloud did not start (its extra is not installed, say), or the image
            cannot be used.
    """
    if importlib.util.find_spec("moto") is None:
        raise Misconfigured("local cloud", f"its packages are not installed; {extra_remedy('devcloud')}")
    folder = folder_of(state_dir)
    make_private(state_dir.absolute())
    make_private(folder)
    pairs = folder / "certs"
    if not pairs.exists():
        certs.make_all(pairs)
    worker, build = [sys.executable, "-m", "gooseherd.worker.main"], os.environ.get("GOOSEHERD_BUILD")
    options = ["--port", str(port), "--pace", pace]
    if worker_image is not None:
        image = unpack(worker_image, folder / "images")
        worker, build = image.argv, image.environment.get("GOOSEHERD_BUILD")
    elif build:
        options += ["--pass-env", "GOOSEHERD_BUILD"]
    images = {WORKER_IMAGE: worker}
    with running_cloud(folder, images=images, options=options) as url, _noted(endpoint_file(state_dir), url):
        key = AccessKey.read(folder)
        made = bootstrap(
            url,
            key=key,
            environment=_tls(pairs, "worker", text=True)
            | {"WORKER_IDLE_TIMEOUT_SECONDS": "60"}
            | {"WORKER_HIDDEN_PATHS": os.pathsep.join(map(str, secrets_of(state_dir)))},
        )
        same_build = {"GOOSEHERD_BUILD": build} if build else {}
        # Without it s3: sources are AWS's public buckets; who has named another endpoint keeps it.
        s3_sources = {} if os.environ.get("SOURCE_S3_ENDPOINT") else {"SOURCE_S3_ENDPOINT": url}
        yield made.environment(url, key=key) | _tls(pairs, "api", text=False) | same_build | s3_sources


def make_configuration(endpoint_url: str, pairs: Path, image: str) -> dict[str, str]:
    """The same on a cloud that runs already and starts tasks from images; gives the same variables.

    `pairs` is the folder of the certificates, made when it is not there. Again it changes nothing.
    """
    if not pairs.exists():
        certs.make_all(pairs)
    key = None if names_credentials(os.environ) else _ANY
    made = bootstrap(
        endpoint_url,
        key=key,
        image=image,
        environment=_tls(pairs, "worker", text=True) | {"AWS_ENDPOINT_URL": endpoint_url},
        health_command=("CMD", "gooseherd-healthy"),
    )
    return made.environment(endpoint_url, key=key) | _tls(pairs, "api", text=False)


@contextmanager
def _noted(path: Path, url: str) -> Iterator[None]:
    path.write_text(url + "\n")
    try:
        yield
    finally:
        path.unlink(missing_ok=True)


def _tls(pairs: Path, side: str, *, text: bool) -> dict[str, str]:
    """The three variables: paths for a process of ours, PEM text for a task, as from a secret."""
    paths = {"CA": pairs / "ca.pem", "CERT": pairs / f"{side}.pem", "KEY": pairs / f"{side}.key"}
    return {f"WORKER_TLS_{n}": path.read_text() if text else str(path) for n, path in paths.items()}


def enter(environment: Mapping[str, str]) -> None:
    """Put the variables into this process's environment, where settings and AWS's libraries look."""
    # A token belongs to a key, and the key is another one now.
    os.environ.pop("AWS_SESSION_TOKEN", None)
    os.environ.update(environment)


def unfinished_uploads(environment: Mapping[str, str]) -> int:
    """How many multipart uploads were begun in the bucket and neither completed nor aborted. Blocks."""
    import boto3

    s3 = boto3.client(
        "s3",
        endpoint_url=environment["AWS_ENDPOINT_URL"],
        region_name=environment["AWS_REGION"],
        aws_access_key_id=environment["AWS_ACCESS_KEY_ID"],
        aws_secret_access_key=environment["AWS_SECRET_ACCESS_KEY"],
    )
    return len(s3.list_multipart_uploads(Bucket=environment["WORKFLOW_S3_BUCKET"]).get("Uploads", ()))
