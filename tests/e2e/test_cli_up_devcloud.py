"""`gooseherd up --devcloud` as a laptop user meets it: local files and objects of its own buckets."""

from __future__ import annotations

import gzip
import json
import os
import signal
import subprocess
from collections.abc import Iterator
from typing import Any

import boto3
import pytest

from gooseherd.devcloud.access_key import AccessKey

pytestmark = [pytest.mark.e2e, pytest.mark.slow, pytest.mark.timeout(300)]

BED = b"chr2\t5\t9\tc\nchr1\t30\t40\tb\nchr1\t1\t2\ta\n"


@pytest.fixture(scope="module")
def laptop(bare_user: Any) -> Iterator[Any]:
    """A user whose service and local cloud run, started in the folder `files` with nothing configured."""
    user = bare_user
    for name in ("SOURCE_ALLOW_HTTP", "SOURCE_ALLOW_NETWORKS"):
        user.environ.pop(name, None)
    files = user.home / "files"
    files.mkdir()
    with (user.home / "log").open("wb") as log:
        up = subprocess.Popen(
            user.command("up", "--devcloud", "--json", "--port", "0"),
            cwd=files,
            env=user.environ,
            stdout=subprocess.PIPE,
            stderr=log,
            start_new_session=True,
        )
    assert up.stdout is not None
    try:
        line = up.stdout.readline()
        assert line, (user.home / "log").read_text()
        assert json.loads(line)["profile"] == "devcloud"
        yield user
        up.send_signal(signal.SIGINT)
        assert up.wait(60) == 0
    finally:
        if up.poll() is None:
            os.killpg(up.pid, signal.SIGKILL)
            up.wait()
        up.stdout.close()


def prepared(user: Any, name: str) -> bytes:
    target = user.home / "out.bed.gz"
    target.unlink(missing_ok=True)
    done = user.run("get", name, "-o", str(target))
    assert done.returncode == 0, done.stderr.decode()
    return gzip.decompress(target.read_bytes())


def added(user: Any, source: str) -> str:
    """Its name in the catalog."""
    done = user.run("add", source)
    assert done.returncode == 0, done.stderr.decode()
    return str(done.stdout.decode().strip())


def test_a_file_of_the_folder_it_was_started_in_is_added_and_prepared(laptop: Any) -> None:
    path = laptop.home / "files" / "a.bed"
    path.write_bytes(BED)
    assert prepared(laptop, added(laptop, str(path))).splitlines()[0] == b"chr1\t1\t2\ta"


def test_a_file_elsewhere_is_refused(laptop: Any) -> None:
    path = laptop.home / "elsewhere.bed"
    path.write_bytes(BED)
    done = laptop.run("add", str(path))
    assert done.returncode == 4
    assert b"--allow-root" in done.stderr


def test_an_object_of_a_bucket_of_the_local_cloud_is_added_and_prepared(laptop: Any) -> None:
    endpoint = (laptop.state / "devcloud" / "endpoint").read_text().strip()
    key = AccessKey.read(laptop.state / "devcloud")
    assert key is not None
    s3 = boto3.client(
        "s3",
        endpoint_url=endpoint,
        region_name="us-east-1",
        aws_access_key_id=key.key_id,
        aws_secret_access_key=key.secret,
    )
    s3.create_bucket(Bucket="inputs")
    s3.put_object(Bucket="inputs", Key="some folder/b.bed", Body=BED, ACL="public-read")
    s3.close()
    name = added(laptop, "s3://inputs/some folder/b.bed")
    assert prepared(laptop, name).splitlines()[-1] == b"chr2\t5\t9\tc"
    # Its size was not said: the service asked its bucket for it.
    (entry,) = [one for one in laptop.json("files", "ls")["files"] if one["local_id"] in name]
    assert entry["size_in_bytes"] == len(BED)


def test_an_object_that_is_not_there_says_so_by_its_own_name(laptop: Any) -> None:
    name = added(laptop, "s3://inputs/none.bed")
    done = laptop.run("get", name, "-o", str(laptop.home / "none"))
    assert done.returncode != 0
    assert b"s3://inputs/none.bed" in done.stderr
    assert b"127.0.0.1" not in done.stderr


def test_an_address_that_is_not_allowed_is_refused_with_the_setting(laptop: Any) -> None:
    done = laptop.run("add", "http://files.example.org/x.bed")
    assert done.returncode == 1
    assert b"SOURCE_ALLOW_HTTP" in done.stderr
