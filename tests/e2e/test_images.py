"""Both container images at work; skipped where none are named: making them takes an engine and minutes.

GOOSEHERD_API_IMAGE and GOOSEHERD_WORKER_IMAGE are files of `docker save`; docs/images.md has the commands.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import pyBigWig
import pytest
from backports import zstd

from gooseherd.client import GooseherdClient
from gooseherd.devcloud import image
from gooseherd.devcloud.deployment import running_local_cloud
from gooseherd.domain import formats
from gooseherd.domain.artifact import Kind
from gooseherd.domain.formats import Format
from gooseherd.trial import inputs
from gooseherd.trial.checks import check_ranges, check_region
from gooseherd.trial.cloud import left_over, serving
from gooseherd.trial.digest import md5_of

pytestmark = [pytest.mark.e2e, pytest.mark.slow, pytest.mark.timeout(400)]

PATIENCE_SECONDS = 120.0
NOTHING: Mapping[str, str] = {}
COMPILERS = "cc gcc c++ g++ clang ld as make pip pip3"


class Image:
    """An unpacked image; programs in it see it as a read-only root, and are its user."""

    def __init__(self, archive: Path, folder: Path) -> None:
        self.folder = folder
        self.unpacked = image.unpack(archive, folder)
        self._runs = 0

    def start(self, argv: Sequence[str], environ: Mapping[str, str]) -> subprocess.Popen[str]:
        """The image's entry point with `argv` behind it, or `argv` alone if that names a program."""
        self._runs += 1
        task = self.folder / f"run{self._runs}"
        task.mkdir()
        plan = json.loads(self.unpacked.plan.read_text())
        if argv and not argv[0].startswith("-"):
            plan["argv"] = []
        (task / "plan.json").write_text(json.dumps(plan))
        with (task / "log").open("w") as log:
            return subprocess.Popen(
                [*self.unpacked.argv[:-1], str(task / "plan.json"), *argv],
                cwd=task,
                env=dict(environ),
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
            )

    def run(self, *argv: str, environ: Mapping[str, str] = NOTHING) -> tuple[int, str]:
        """Exit status and standard output."""
        with self.start(argv, environ) as process:
            output, _ = process.communicate(timeout=PATIENCE_SECONDS)
        return process.returncode, output

    @contextmanager
    def running(self, environ: Mapping[str, str]) -> Iterator[None]:
        """The image's program until the block ends, which it must survive; then SIGTERM ends it, well."""
        with self.start((), environ) as process:
            try:
                yield
                process.terminate()
                assert process.wait(PATIENCE_SECONDS) == 0
            finally:
                process.kill()


def named(variable: str, folder: Path) -> Image:
    archive = os.environ.get(variable)
    if not archive:
        pytest.skip(f"{variable} names no image")
    return Image(Path(archive), folder)


@pytest.fixture(scope="module")
def worker(tmp_path_factory: pytest.TempPathFactory) -> Image:
    return named("GOOSEHERD_WORKER_IMAGE", tmp_path_factory.mktemp("worker"))


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Image:
    return named("GOOSEHERD_API_IMAGE", tmp_path_factory.mktemp("api"))


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def answer(url: str) -> dict[str, object]:
    """What it answers, once it answers 200."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while True:
        try:
            with urllib.request.urlopen(url, timeout=10) as response:
                return dict(json.load(response))
        except (urllib.error.URLError, ConnectionError, TimeoutError):
            if time.monotonic() > deadline:
                raise
            time.sleep(0.1)


@pytest.mark.parametrize("which", ["worker", "api"])
def test_programs_are_nobody_and_the_root_is_not_theirs(which: str, request: pytest.FixtureRequest) -> None:
    it: Image = request.getfixturevalue(which)
    script = "id -u; touch /opt/x 2>/dev/null || echo refused; touch /tmp/x x && pwd"
    where = {"worker": "/scratch", "api": "/state"}[which]
    assert it.run("/bin/sh", "-c", script) == (0, f"10001\nrefused\n{where}\n")


@pytest.mark.parametrize("which", ["worker", "api"])
def test_nothing_is_there_that_makes_or_installs_programs(which: str, request: pytest.FixtureRequest) -> None:
    it: Image = request.getfixturevalue(which)
    _, found = it.run("/bin/sh", "-c", f"for it in {COMPILERS}; do command -v $it; done")
    assert found == ""
    _, headers = it.run("/bin/sh", "-c", "ls /usr/include/*.h /opt/gooseherd/bin/pip* 2>/dev/null")
    assert headers == ""


def test_a_worker_says_what_it_has_and_how_tools_are_held(worker: Image) -> None:
    status, output = worker.run("--doctor")
    report = json.loads(output)
    found = {check["name"]: check for check in report["checks"]}
    assert (status, report["ok"], report["user"]) == (0, True, 10001), report
    assert found["interval kernel"]["state"] == "ok"
    assert found["system call filter"]["detail"] == "tools run behind one (seccomp)"
    assert found["sandbox"]["detail"] == "none: bwrap is not installed"
    assert {
        name: found[name]["state"] for name in ("samtools", "bcftools", "tabix", "bgzip", "self-check")
    } == (dict.fromkeys(("samtools", "bcftools", "tabix", "bgzip", "self-check"), "ok"))


def test_a_worker_is_healthy_and_its_own_command_finds_it_so(worker: Image, tmp_path: Path) -> None:
    port = str(free_port())
    environ = {"WORKER_HEALTH_PORT": port, "WORKER_PORT": "0", "SYNC_DATA_DIR": "/scratch/artifacts"}
    assert worker.run("gooseherd-healthy", environ={"WORKER_HEALTH_PORT": port})[0] == 1
    with worker.running(environ):
        result = answer(f"http://127.0.0.1:{port}/health")
        assert result["status"] == "healthy"
        assert result["build"] == worker.unpacked.environment["GOOSEHERD_BUILD"]
        assert worker.run("gooseherd-healthy", environ={"WORKER_HEALTH_PORT": port})[0] == 0


def test_both_are_of_one_build(worker: Image, api: Image) -> None:
    assert worker.unpacked.environment["GOOSEHERD_BUILD"] == api.unpacked.environment["GOOSEHERD_BUILD"]


def take(client: GooseherdClient, base: str, folder: Path, file_format: Format, *, packed: bool) -> None:
    """One file, end to end, with its index and density."""
    given = inputs.make(file_format, folder, "packed" if packed else "plain")
    sent = given.path
    if packed:
        sent = folder / f"{given.path.name}.zst"
        sent.write_bytes(zstd.compress(given.path.read_bytes()))
    entry = {"dcc": "images", "local_id": sent.name, "filename": sent.name, "file_format": file_format.name}
    entry |= {"access_url": f"{base}/{sent.name}", "md5": md5_of(sent)}
    client.register({**entry, "size_in_bytes": sent.stat().st_size})
    data, index, density = (
        client.ready("images", sent.name, kind=kind, timeout_seconds=PATIENCE_SECONDS)
        for kind in (Kind.DATA, Kind.INDEX, Kind.DENSITY)
    )
    for part in (data, index, density):
        check_ranges(client, part)
    assert given.region is not None
    assert check_region(client, data, index, given.path, file_format, given.region) > 0
    (folder / "density.bw").write_bytes(client.http.get(density.url).content)
    drawn = pyBigWig.open(str(folder / "density.bw"))
    assert drawn.stats("chr1", type="max", nBins=1)[0] > 0
    drawn.close()


def test_they_work_together(api: Image, worker: Image, tmp_path: Path, database_url: str) -> None:
    """Cloud, database and files are this machine's; API and tasks are the images'."""
    port, archive = free_port(), Path(os.environ["GOOSEHERD_WORKER_IMAGE"])
    (tmp_path / "files").mkdir()
    with (
        serving(tmp_path / "files") as base,
        running_local_cloud(tmp_path / "site", worker_image=archive) as site,
    ):
        environ = {name: value for name, value in site.items() if name != "GOOSEHERD_BUILD"}
        environ |= {
            name: Path(path).read_text() for name, path in environ.items() if name.startswith("WORKER_TLS_")
        }
        environ |= {
            "DATABASE_URL": database_url,
            "DATABASE_NAME": f"images_{os.getpid()}",
            "API_HOST": "127.0.0.1",
            "API_PORT": str(port),
            "API_ADMIN_KEY": "of-the-test",
            "SOURCE_ALLOW_HTTP": "true",
            "SOURCE_ALLOW_NETWORKS": "127.0.0.1/32",
        }
        with (
            api.running(environ),
            GooseherdClient(f"http://127.0.0.1:{port}", "of-the-test") as client,
        ):
            answer(f"http://127.0.0.1:{port}/readyz")
            assert api.run("gooseherd-healthy", str(port), "/healthz")[0] == 0
            take(client, base, tmp_path / "files", formats.BAM, packed=False)
            take(client, base, tmp_path / "files", formats.VCF, packed=False)
            take(client, base, tmp_path / "files", formats.BED, packed=True)
            status, output = api.run("gooseherd", "doctor", "--json", environ={**environ, "API_PORT": "0"})
            assert (status, json.loads(output)["ok"]) == (0, True), output
        assert left_over(site) == {"tasks": 0, "processes": 0, "staging_objects": 0}


def test_the_api_s_image_makes_what_a_deployment_needs(api: Image, tmp_path: Path) -> None:
    """As the service `setup` of deploy/compose.yaml does."""
    with running_local_cloud(tmp_path) as site:
        words = ("gooseherd", "devcloud", "make", "--json", "--endpoint", site["AWS_ENDPOINT_URL"])
        key = {name: site[name] for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")}
        status, output = api.run(*words, "--certs=/state/certs", environ=key)
        assert (status, json.loads(output)["WORKER_TLS_CERT"]) == (0, "/state/certs/api.pem")
