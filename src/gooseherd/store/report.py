"""What can be said of a store to whoever runs it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Danger:
    """A setting of the store that may lose what it acknowledged, or stop it soon."""

    what: str
    remedy: str


@dataclass(frozen=True, slots=True)
class StoreReport:
    """Which store it is. Without host names, users or passwords."""

    product: str
    version: str
    details: tuple[str, ...] = ()
    dangers: tuple[Danger, ...] = ()

    def __str__(self) -> str:
        return ", ".join((f"{self.product} {self.version}", *self.details))
