"""What was used, by whom, and what it cost."""

from __future__ import annotations

from collections.abc import Collection
from datetime import date, datetime
from typing import Literal

from pydantic import Field

from gooseherd.api.models.response import ResponseModel
from gooseherd.control.budgets import RequesterBudget, Spent, frees_at
from gooseherd.domain.usage import Amounts
from gooseherd.domain.usage_report import GroupBy, Prices, UsageLine, UsageReport

GroupWord = Literal["day", "requester", "collection", "job", "capacity"]


class AmountsView(ResponseModel):
    """Sums of usage; times are seconds, GB of memory 2^30 bytes."""

    attempts: int = Field(description="Attempts that ended.")
    worker_seconds: float
    vcpu_seconds: float
    memory_gb_seconds: float
    disk_gb_seconds: float = Field(description="Of disk beyond the 20 GB that every task has.")
    bytes_in: int = Field(description="Of sources, that attempts have read.")
    bytes_out: int = Field(description="Of artifacts, that attempts have made.")
    bytes_served: int = Field(description="That clients were sent.")
    cost: float = Field(description="By the price table, in its currency.")


def _amounts(amounts: Amounts, cost: float) -> dict[str, float]:
    return {
        "attempts": amounts.attempts,
        "worker_seconds": amounts.worker_seconds,
        "vcpu_seconds": amounts.vcpu_seconds,
        "memory_gb_seconds": amounts.memory_gb_seconds,
        "disk_gb_seconds": amounts.disk_gb_seconds,
        "bytes_in": amounts.bytes_in,
        "bytes_out": amounts.bytes_out,
        "bytes_served": amounts.bytes_served,
        "cost": cost,
    }


class UsageLineView(AmountsView):
    """One group; what it was not asked to be told apart by is null."""

    day: date | None = None
    requester: str | None = None
    collection: str | None = None
    job: str | None = None
    capacity: Literal["on_demand", "spot", "local", "none"] | None = Field(
        default=None, description="none: bytes that were served, for which no worker was needed."
    )
    purpose: Literal["job", "floor", "session"] | None = Field(
        default=None, description="Of idle time: what the worker was launched for."
    )

    @classmethod
    def of(cls, line: UsageLine) -> UsageLineView:
        """As clients see it."""
        group = {name.value: value for name, value in line.group.items()}
        return cls(**group, **_amounts(line.amounts, line.cost), purpose=line.idle)


class BudgetView(ResponseModel):
    """What a requester may use, and has used."""

    per_day: float | None = Field(description="null: no limit.")
    per_month: float | None
    spent_today: float
    spent_this_month: float
    day_frees_at: datetime
    month_frees_at: datetime

    @classmethod
    def of(cls, budget: RequesterBudget, spent: Spent) -> BudgetView:
        """As clients see it."""
        return cls(
            per_day=budget.per_day,
            per_month=budget.per_month,
            spent_today=spent.today,
            spent_this_month=spent.this_month,
            day_frees_at=frees_at(spent.day, month=False),
            month_frees_at=frees_at(spent.day, month=True),
        )


class UsageView(ResponseModel):
    """What was used in some days (UTC), those under way included as far as they have come."""

    first: date
    last: date
    by: list[GroupWord]
    requester: str | None = Field(description="Only this one's; null: everybody's.")
    collection: str | None
    currency: str
    prices_as_of: str = Field(description="Since when the prices are known, and which they are.")
    used: list[UsageLineView]
    idle: list[UsageLineView] = Field(
        description="Workers that were paid for while nobody used them: launched, kept warm, of the floor, "
        "of sessions. Only of everybody's usage."
    )
    total: AmountsView = Field(description="Of both.")
    budget: BudgetView | None = Field(description="Of the requester, if it is one.")

    @classmethod
    def of(
        cls,
        report: UsageReport,
        *,
        first: date,
        last: date,
        by: Collection[GroupBy],
        requester: str | None,
        collection: str | None,
        prices: Prices,
        budget: BudgetView | None,
    ) -> UsageView:
        """As clients see it."""
        return cls(
            first=first,
            last=last,
            by=[one.value for one in GroupBy if one in by],
            requester=requester,
            collection=collection,
            currency=prices.currency,
            prices_as_of=prices.as_of,
            used=[UsageLineView.of(line) for line in report.used],
            idle=[UsageLineView.of(line) for line in report.idle],
            total=AmountsView(**_amounts(report.total, report.cost)),
            budget=budget,
        )
