"""How an attempt ended, as far as who followed it can tell: before anything is verified or written down."""

from __future__ import annotations

from dataclasses import dataclass

from gooseherd.domain.failures import Failure
from gooseherd.domain.job import Progress

_NO_PROGRESS = Progress()


@dataclass(frozen=True, slots=True)
class Published:
    """The attempt says that everything is stored; not yet verified."""

    steps: tuple[str, ...] = ()
    """Those that the job's record does not have yet."""
    progress: Progress = _NO_PROGRESS
    """The last that it reported."""


@dataclass(frozen=True, slots=True)
class Ended:
    """The attempt ended without publishing."""

    failure: Failure
    in_use: bool = False
    """The worker refused the attempt because it works for somebody else."""
    began: bool = True
    """The attempt has reported something. If not, its worker's end says nothing of the job."""
    progress: Progress = _NO_PROGRESS


@dataclass(frozen=True, slots=True)
class Stopped:
    """Nobody wanted it any more; its process group is gone."""

    progress: Progress = _NO_PROGRESS


Outcome = Published | Ended | Stopped
