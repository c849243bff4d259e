"""A service, its worker and a bucket that wants signatures: the file is made, and nothing of them stays."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from tests.integration.test_default_store import Up

pytestmark = [pytest.mark.integration, pytest.mark.slow]

BED = b"".join(b"chr1\t%d\t%d\n" % (at * 7919 % 99991, at * 7919 % 99991 + 5) for at in range(2000))


class Bucket(BaseHTTPRequestHandler):
    """Objects for whoever shows a signature."""

    def do_GET(self) -> None:
        good = "X-Amz-Signature=" in self.path and self.path.startswith("/private/x.bed?")
        body = BED if good else b""
        self.send_response(200 if good else 403)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)

    def do_HEAD(self) -> None:
        self.do_GET()

    def log_message(self, *args: Any) -> None:
        """Quiet."""


@pytest.fixture
def bucket() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Bucket)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()
    thread.join()


def test_a_private_bucket_is_read_by_the_worker_with_a_url_of_its_order_and_the_usage_is_told(
    tmp_path: Path, bucket: str
) -> None:
    service = Up(
        tmp_path / "state",
        SOURCE_S3_ENDPOINT=bucket,
        SOURCE_S3_BUCKETS="private=own",
        AWS_ACCESS_KEY_ID="AKIAOWN",
        AWS_SECRET_ACCESS_KEY="own-secret-value",
        USAGE_PRICES='{"local": {"worker_hour": 3600}}',
    )
    try:
        with service.ready() as http:
            url, key = str(http.base_url), http.headers["X-API-Key"]
            entry = {"dcc": "t", "local_id": "x", "access_url": "s3://private/x.bed", "file_format": "bed"}
            assert http.post("/files", json=entry).status_code == 200
            made = http.get("/data/t/x", params={"wait": 50}, timeout=100)
            assert made.status_code == 200, made.text
            assert made.content[:2] == b"\x1f\x8b"
            job = http.get("/jobs").json()["jobs"][0]
            assert "Signature" not in json.dumps(job)
        command = [sys.executable, "-m", "gooseherd.cli", "usage", "--by", "collection", "--url", url]
        environment = {**os.environ, "GOOSEHERD_API_KEY": key}
        shown = subprocess.run(
            [*command, "--json"], env=environment, capture_output=True, check=True, timeout=60
        )
        (line,) = [line for line in json.loads(shown.stdout)["used"] if line["attempts"]]
        assert (line["collection"], line["bytes_in"]) == ("t", len(BED))
        assert line["bytes_out"] > 0
        assert line["cost"] == pytest.approx(line["worker_seconds"])
        table = subprocess.run(command, env=environment, capture_output=True, check=True, timeout=60)
        assert table.stdout.splitlines()[-1].startswith(b"total\t1\t")
    finally:
        service.stop()
    kept = [path for path in tmp_path.rglob("*") if path.is_file()]
    for path in kept:
        content = path.read_bytes()
        assert b"X-Amz-Signature" not in content, path
        assert b"own-secret-value" not in content, path
