"""Before a certificate ends, doctor, the log at the start and the metrics tell."""

from __future__ import annotations

import logging
import math
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from gooseherd import certs, doctor, telemetry
from gooseherd.domain.errors import Misconfigured
from gooseherd.fleet.certificate_expiry import CertificateWatch
from gooseherd.settings import Settings
from gooseherd.worker import main as worker
from gooseherd.worker.tls import VARIABLES, Certificates

GAUGE = "gooseherd_certificate_expiry_timestamp_seconds"


def environment(folder: Path, *, days: int, side: str = "api") -> dict[str, str]:
    """Paths of a pair that ends so many days from now; of negative ones it has ended."""
    made = datetime.now(UTC) + min(timedelta(days=days - 1), timedelta(0))
    certs.make_all(folder, days=days if days > 0 else 1, now=made)
    files = ("ca.pem", f"{side}.pem", f"{side}.key")
    return {name: str(folder / file) for name, file in zip(VARIABLES, files, strict=True)}


def certificates(environ: dict[str, str]) -> Certificates:
    found = Certificates.from_env(environ)
    assert found is not None
    return found


@pytest.mark.parametrize(
    ("days", "state", "words"),
    [(397, "ok", "in 396 days"), (20, "warn", "in 19 days"), (-3, "missing", "ended on")],
)
def test_doctor_tells_when_certificates_end(tmp_path: Path, days: int, state: str, words: str) -> None:
    environ = environment(tmp_path / "certs", days=days)
    settings = Settings(gooseherd_state_dir=tmp_path / "state", ecs_cluster="herd", api_port=0)
    (check,) = [check for check in doctor.examine(settings, environ).checks if check.name == "certificates"]
    assert check.state == state
    assert f"that of the API {'ended' if days < 0 else 'ends'}" in check.detail
    assert words in check.detail
    assert ("--renew" in check.remedy) == (state != "ok")


@pytest.mark.parametrize("environ", [{}, {"WORKER_TLS_CA": "/nowhere.pem"}])
def test_doctor_misses_certificates_where_workers_are_tasks(tmp_path: Path, environ: dict[str, str]) -> None:
    settings = Settings(gooseherd_state_dir=tmp_path / "state", ecs_cluster="herd", api_port=0)
    (check,) = [check for check in doctor.examine(settings, environ).checks if check.name == "certificates"]
    assert (check.state, "certs make" in check.remedy) == ("missing", True)


async def test_the_log_and_the_metrics_tell_and_a_replaced_file_is_seen(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = tmp_path / "certs"
    watch = CertificateWatch(certificates(environment(folder, days=10)))
    watch.publish()
    with caplog.at_level(logging.INFO):
        for role, end in (await watch.all_ends()).items():
            await watch.report(role, end)
    levels = {record.role: record.levelno for record in caplog.records if hasattr(record, "role")}
    assert levels == {"api": logging.WARNING, "ca": logging.INFO}

    def ends(role: str) -> float | None:
        return telemetry.REGISTRY.get_sample_value(GAUGE, {"role": role})

    assert ends("api") == certs.expiry((folder / "api.pem").read_bytes()).timestamp()
    assert ends("ca") == certs.expiry((folder / "ca.pem").read_bytes()).timestamp()
    certs.make_all(folder, days=300, renew=True)
    assert (ends("api") or 0) > (datetime.now(UTC) + timedelta(days=290)).timestamp()
    (folder / "api.pem").unlink()
    assert await watch.all_ends() == {}
    assert math.isnan(ends("api") or 0)


def test_of_several_cas_the_last_counts_and_of_a_chain_the_first(tmp_path: Path) -> None:
    old, new = tmp_path / "old", tmp_path / "new"
    environ = environment(old, days=10)
    environment(new, days=50)
    (old / "ca.pem").write_bytes((old / "ca.pem").read_bytes() + (new / "ca.pem").read_bytes())
    (old / "api.pem").write_bytes((old / "api.pem").read_bytes() + (old / "ca.pem").read_bytes())
    ends = certificates(environ).expiries("api")
    assert ends["ca"] == certs.expiry((new / "ca.pem").read_bytes())
    assert ends["api"] < datetime.now(UTC) + timedelta(days=11)
    (old / "ca.pem").write_text("nothing")
    with pytest.raises(Misconfigured, match="WORKER_TLS_CA"):
        Certificates(*environ.values()).expiries("api")


def test_a_worker_tells_of_its_own(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        worker._log_expiry(certificates(environment(tmp_path / "certs", days=5, side="worker")))
    (warned,) = [record for record in caplog.records if record.levelno == logging.WARNING]
    assert "the certificate of this worker ends on" in warned.getMessage()
