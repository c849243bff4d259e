"""How this gooseherd was installed, and so what its user types to get what is missing."""

from __future__ import annotations

import importlib.metadata
import os
from enum import StrEnum
from pathlib import Path


class Installation(StrEnum):
    """Who put it here."""

    CHECKOUT = "checkout"
    """./dev, or an editable install."""
    PACKAGE = "package"
    """pip, uv or the like, from a wheel or a source distribution."""
    IMAGE = "image"
    """One of our container images: its user cannot install anything in it."""


def installation() -> Installation:
    """Told by where this file lies, and by the name of the installer that the package's metadata keeps."""
    if (Path(__file__).resolve().parents[2] / "dev").is_file():
        return Installation.CHECKOUT
    try:
        installer = importlib.metadata.distribution("gooseherd").read_text("INSTALLER") or ""
    except importlib.metadata.PackageNotFoundError:
        installer = ""
    # Dockerfile.api and Dockerfile.worker write it.
    return Installation.IMAGE if installer.strip() == "gooseherd-image" else Installation.PACKAGE


def remedy(*, checkout: str, package: str, image: str) -> str:
    """The one that fits this installation."""
    match installation():
        case Installation.CHECKOUT:
            return checkout
        case Installation.PACKAGE:
            return package
        case Installation.IMAGE:
            return image


def apt_remedy(*packages: str) -> str:
    """How to get Debian packages."""
    by_apt = f"{'' if os.geteuid() == 0 else 'sudo '}apt-get install {' '.join(packages)}"
    return remedy(checkout=by_apt, package=by_apt, image="build the image anew: ./dev images")


def extra_remedy(extra: str) -> str:
    """How to get what an extra of ours brings."""
    return remedy(
        checkout="rm -rf .dev/venv, then ./dev run gooseherd doctor; without ./dev: "
        f"pip install --editable '.[{extra}]'",
        package=f"pip install 'gooseherd[{extra}]'",
        image=f"images are made without it: pip install 'gooseherd[{extra}]' outside of them",
    )


def native_program_remedy() -> str:
    """How to get a native program of ours that is not here, or does not run."""
    return remedy(
        checkout="./dev run gooseherd doctor builds it, or says what it lacks (logs: .dev/*.log)",
        package="pip install --force-reinstall --no-deps gooseherd; docs/installation.md has more",
        image="only the worker's image has it; if this is one, build it anew: ./dev images",
    )
