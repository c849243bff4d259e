"""Combinations of ARTIFACT_DELIVERY by which clients would get no bytes are refused at the start."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from gooseherd.doctor import examine
from gooseherd.domain.errors import Misconfigured
from gooseherd.settings import Settings
from gooseherd.wiring.artifacts import make_delivery

BUCKET = {"workflow_s3_bucket": "artifacts"}
URL = "https://bytes.example.org/herd"


def settings(**values: Any) -> Settings:
    return Settings(**values)


@pytest.mark.parametrize(
    ("values", "variable"),
    [
        ({"artifact_delivery": "accel", **BUCKET}, "ARTIFACT_DELIVERY"),
        ({"artifact_redirect_url": URL}, "ARTIFACT_REDIRECT_URL"),
        ({"artifact_delivery": "accel", "artifact_redirect_url": URL}, "ARTIFACT_REDIRECT_URL"),
        ({"artifact_redirect_secret": "s"}, "ARTIFACT_REDIRECT_SECRET"),
        ({"artifact_delivery": "redirect", "artifact_redirect_secret": "s"}, "ARTIFACT_REDIRECT_SECRET"),
        ({"artifact_delivery": "redirect", "artifact_redirect_url": "presigned"}, "ARTIFACT_REDIRECT_URL"),
        (
            {
                "artifact_delivery": "redirect",
                "artifact_redirect_url": "presigned",
                "artifact_redirect_secret": "s",
                **BUCKET,
            },
            "ARTIFACT_REDIRECT_SECRET",
        ),
        *(
            ({"artifact_delivery": "redirect", "artifact_redirect_url": url}, "ARTIFACT_REDIRECT_URL")
            for url in ("bytes.example.org", "ftp://host/x", "https://host/?a=b", "https://me:pw@host/")
        ),
    ],
    ids=str,
)
def test_it_is_refused_and_the_variable_is_named(values: dict[str, Any], variable: str) -> None:
    with pytest.raises(Misconfigured) as refused:
        settings(**values).checked()
    assert refused.value.setting == variable


@pytest.mark.parametrize(
    "values",
    [
        {},
        {"artifact_delivery": "accel"},
        {"artifact_delivery": "redirect"},
        {"artifact_delivery": "redirect", **BUCKET},
        {"artifact_delivery": "redirect", "artifact_redirect_url": URL, "artifact_redirect_secret": "s"},
        {"artifact_delivery": "redirect", "artifact_redirect_url": URL, **BUCKET},
        {"artifact_delivery": "redirect", "artifact_redirect_url": "presigned", **BUCKET},
    ],
    ids=str,
)
def test_what_brings_bytes_is_taken(values: dict[str, Any]) -> None:
    settings(**values).checked()


def test_presigned_is_no_address() -> None:
    given = settings(artifact_delivery="redirect", artifact_redirect_url="presigned", **BUCKET)
    delivery = make_delivery(given, None)
    assert (delivery.mode, delivery.base_url) == ("redirect", None)


def test_doctor_says_who_sends_and_whether_nginx_can_read(tmp_path: Path) -> None:
    folder = tmp_path / "closed" / "artifacts"
    folder.mkdir(parents=True)
    (tmp_path / "closed").chmod(0o700)
    given = settings(artifact_delivery="accel", sync_data_dir=folder, gooseherd_state_dir=tmp_path / "state")
    (check,) = [check for check in examine(given, {}).checks if check.name == "delivery"]
    assert check.state == "warn"
    assert "for its owner alone" in check.detail
    assert "SYNC_DATA_DIR" in check.remedy
