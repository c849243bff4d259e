"""What users are told to type fits how their gooseherd was installed."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
from pathlib import Path

import pytest

import gooseherd.installation as its
from gooseherd import doctor
from gooseherd.devcloud import deployment
from gooseherd.domain.errors import Misconfigured
from gooseherd.installation import Installation
from gooseherd.processing.tools import isolation, preflight
from gooseherd.settings import Settings

ROOT = Path(__file__).parents[2]


def installed(monkeypatch: pytest.MonkeyPatch, folder: Path, installer: str | None) -> None:
    """As from a wheel, with metadata by `installer`; None: without metadata."""

    def read(name: str) -> importlib.metadata.Distribution:
        if installer is None:
            raise importlib.metadata.PackageNotFoundError(name)
        (folder / "INSTALLER").write_text(installer)
        return importlib.metadata.PathDistribution(folder)

    monkeypatch.setattr(its, "__file__", str(folder / "lib/gooseherd/installation.py"))
    monkeypatch.setattr(importlib.metadata, "distribution", read)


def test_these_tests_run_in_a_checkout() -> None:
    assert its.installation() is Installation.CHECKOUT


@pytest.mark.parametrize(
    ("installer", "kind"),
    [
        ("pip\n", Installation.PACKAGE),
        ("uv", Installation.PACKAGE),
        ("", Installation.PACKAGE),
        (None, Installation.PACKAGE),
        ("gooseherd-image\n", Installation.IMAGE),
    ],
)
def test_the_installer_is_in_the_metadata(
    installer: str | None, kind: Installation, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    installed(monkeypatch, tmp_path, installer)
    assert its.installation() is kind


@pytest.mark.parametrize("image", ["api", "worker"])
def test_images_write_their_installer(image: str) -> None:
    assert "echo gooseherd-image >" in (ROOT / f"Dockerfile.{image}").read_text()


@pytest.fixture
def nothing_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine without tools and native programs; gives an empty folder."""
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(preflight, "find_kernel", lambda: None)
    monkeypatch.setattr(isolation, "find_hold", lambda: None)
    return tmp_path


def remedies(folder: Path) -> dict[str, str]:
    settings = Settings(gooseherd_state_dir=folder, worker_sandbox="auto", api_port=0)
    report = doctor.examine(settings, {"PATH": str(folder)})
    return {check.name: check.remedy for check in report.checks if check.state != "ok"}


OURS = ("interval kernel", "system call filter")


def test_in_a_checkout_they_name_dev(nothing_there: Path) -> None:
    found = remedies(nothing_there)
    assert all("./dev" in found[name] for name in OURS)
    assert found["samtools"].endswith("apt-get install samtools")


def test_with_pip_none_of_them_needs_the_checkout(
    nothing_there: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    installed(monkeypatch, nothing_there, "pip")
    found = remedies(nothing_there)
    assert {*OURS, "samtools", "bcftools", "tabix", "bgzip", "sandbox"} <= set(found)
    assert not [words for words in found.values() if "./dev" in words]
    assert all(found[name].startswith("pip install") for name in OURS)


def test_in_an_image_nothing_is_installed_by_hand(
    nothing_there: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    installed(monkeypatch, nothing_there, "gooseherd-image")
    found = remedies(nothing_there)
    assert not [words for words in found.values() if "apt-get" in words]
    assert found["samtools"] == "build the image anew: ./dev images"
    assert "image" in found["interval kernel"]


def test_an_extra_is_what_pip_calls_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "'.[devcloud]'" in its.extra_remedy("devcloud")
    installed(monkeypatch, tmp_path, "pip")
    assert its.extra_remedy("devcloud") == "pip install 'gooseherd[devcloud]'"


def test_a_local_cloud_without_its_packages_says_what_to_type(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    installed(monkeypatch, tmp_path, "pip")
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with (
        pytest.raises(Misconfigured, match=r"pip install 'gooseherd\[devcloud\]'"),
        deployment.running_local_cloud(tmp_path / "state"),
    ):
        pass
    assert not (tmp_path / "state").exists()


@pytest.mark.parametrize(("user", "words"), [(0, "apt-get install"), (1000, "sudo apt-get install")])
def test_root_needs_no_sudo(user: int, words: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: user)
    assert its.apt_remedy("samtools", "tabix") == f"{words} samtools tabix"
