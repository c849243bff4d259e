"""What each requester may use in a day and in a month: who has used it up waits until it frees.

A budget is looked at before a job is inserted. What is under way goes on, so it may be exceeded by that, and
by what was submitted within the seconds for which a sum is remembered.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Final

from gooseherd.control.usage import UsageReports
from gooseherd.domain.apikey import ApiKey
from gooseherd.domain.errors import BudgetSpent
from gooseherd.domain.job import Requester
from gooseherd.domain.ports.keys import KeyStore
from gooseherd.domain.usage import UsageKind, UsageQuery, UsageSum

_REMEMBERED: Final = 10_000


@dataclass(frozen=True, slots=True)
class RequesterBudget:
    """In the currency of the prices; None: no limit."""

    per_day: float | None = None
    per_month: float | None = None


@dataclass(frozen=True, slots=True)
class Spent:
    """What a requester has used on a day, and in its month so far."""

    day: date
    today: float
    this_month: float


def budget_of(
    keys: Sequence[ApiKey], requester: Requester, usual: RequesterBudget, now: datetime
) -> RequesterBudget:
    """The largest that an active key of the requester has; of the keys that say nothing the usual one."""
    own = [key for key in keys if key.owner == requester and key.state(now) == "active"]
    return RequesterBudget(
        _largest([key.budget_per_day for key in own], usual.per_day),
        _largest([key.budget_per_month for key in own], usual.per_month),
    )


def _largest(budgets: Sequence[float | None], usual: float | None) -> float | None:
    named = [budget for budget in budgets if budget is not None]
    return max(named) if named else usual


def frees_at(day: date, *, month: bool) -> datetime:
    """When the day, or its month, is over, UTC."""
    midnight = datetime(day.year, day.month, day.day, tzinfo=UTC)
    if not month:
        return midnight + timedelta(days=1)
    return (midnight.replace(day=1) + timedelta(days=32)).replace(day=1)


class Budgets:
    """Refuses what a requester may not use any more; remembers sums for some seconds."""

    def __init__(
        self,
        reports: UsageReports,
        usual: RequesterBudget,
        keys: KeyStore | None,
        clock: Callable[[], float] = time.monotonic,
        remembered_seconds: float = 10.0,
    ) -> None:
        self._reports = reports
        self._usual = usual
        self._keys = keys
        self._clock = clock
        self._remembered_seconds = remembered_seconds
        self._spent: OrderedDict[Requester, tuple[float, Spent]] = OrderedDict()
        self._known_keys: tuple[float, Sequence[ApiKey]] | None = None

    async def of(self, requester: Requester) -> RequesterBudget:
        """The requester's. Raises StoreUnavailable."""
        keys = await self._all_keys()
        return budget_of(keys, requester, self._usual, datetime.now(UTC))

    async def check(self, requester: Requester) -> None:
        """Raises BudgetSpent: with what was used and when there is more; StoreUnavailable."""
        budget = await self.of(requester)
        if budget == RequesterBudget():
            return
        spent = await self.spent(requester)
        for allowed, used, month in (
            (budget.per_day, spent.today, False),
            (budget.per_month, spent.this_month, True),
        ):
            if allowed is not None and used >= allowed:
                moment = frees_at(spent.day, month=month)
                raise self._refusal("month" if month else "day", allowed, used, moment)

    def _refusal(self, period: str, budget: float, used: float, moment: datetime) -> BudgetSpent:
        seconds = (moment - datetime.now(UTC)).total_seconds()
        return BudgetSpent(
            f"budget of this requester for a {period}",
            int(budget),
            int(used),
            retry_after_seconds=max(1, int(seconds) + 1),
            period=period,
            budget=budget,
            spent=used,
            currency=self._reports.prices.currency,
            frees_at=moment.isoformat().replace("+00:00", "Z"),
        )

    async def spent(self, requester: Requester) -> Spent:
        """What the requester has used, right to some seconds. Raises StoreUnavailable."""
        known = self._spent.get(requester)
        if known is not None and known[0] > self._clock():
            return known[1]
        today = await self._reports.today()
        sums = await self._reports.sums(UsageQuery(today.replace(day=1), today, requester))
        month = sum(map(self._cost, sums))
        day = sum(self._cost(one) for one in sums if one.day == today)
        spent = Spent(today, day, month)
        self._spent[requester] = self._clock() + self._remembered_seconds, spent
        self._spent.move_to_end(requester)
        while len(self._spent) > _REMEMBERED:
            self._spent.popitem(last=False)
        return spent

    def _cost(self, one: UsageSum) -> float:
        return 0.0 if one.kind is UsageKind.WORKER else self._reports.prices.cost(one.capacity, one.amounts)

    async def _all_keys(self) -> Sequence[ApiKey]:
        if self._keys is None:
            return ()
        if self._known_keys is None or self._known_keys[0] <= self._clock():
            self._known_keys = self._clock() + self._remembered_seconds, await self._keys.keys()
        return self._known_keys[1]
