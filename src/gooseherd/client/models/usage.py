"""What was used, and what it cost."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from gooseherd.client.models.model import Model


@dataclass(frozen=True, eq=False)
class Amounts(Model):
    """Sums; times are seconds, the cost is in the currency of the whole."""

    attempts: int
    worker_seconds: float = 0.0
    vcpu_seconds: float = 0.0
    memory_gb_seconds: float = 0.0
    disk_gb_seconds: float = 0.0
    bytes_in: int = 0
    bytes_out: int = 0
    bytes_served: int = 0
    cost: float = 0.0


@dataclass(frozen=True, eq=False)
class UsageLine(Amounts):
    """Of one group; None: not told apart by that. `purpose` of idle time: why the worker was launched."""

    day: str | None = None
    requester: str | None = None
    collection: str | None = None
    job: str | None = None
    capacity: str | None = None
    purpose: str | None = None


@dataclass(frozen=True, eq=False)
class UsageBudget(Model):
    """What a requester may use and has used; None: no limit."""

    spent_today: float
    spent_this_month: float
    per_day: float | None = None
    per_month: float | None = None
    day_frees_at: datetime | None = None
    month_frees_at: datetime | None = None


@dataclass(frozen=True, eq=False)
class Usage(Model):
    """Lines of what was `used`, of what was paid for while it was `idle`, and the `total` of both."""

    total: Amounts
    first: str = ""
    last: str = ""
    by: tuple[str, ...] = ()
    requester: str | None = None
    collection: str | None = None
    currency: str = ""
    prices_as_of: str = ""
    used: tuple[UsageLine, ...] = ()
    idle: tuple[UsageLine, ...] = ()
    budget: UsageBudget | None = None
