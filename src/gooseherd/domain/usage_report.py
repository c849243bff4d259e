"""What usage costs, and reports of it; pure."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from enum import StrEnum
from typing import Any, Self

from gooseherd.domain.usage import Amounts, UsageKind, UsageSum
from gooseherd.domain.worker_size import Capacity, LaunchPurpose


@dataclass(frozen=True, slots=True)
class CapacityPrices:
    """An hour's price of each unit."""

    vcpu_hour: float = 0.0
    memory_gb_hour: float = 0.0
    disk_gb_hour: float = 0.0
    worker_hour: float = 0.0


@dataclass(frozen=True, slots=True)
class Prices:
    """What is paid for what is used; `as_of` says since when the figures are known."""

    currency: str = "USD"
    as_of: str = "2026-03-01, list prices of AWS Fargate (Linux, x86) in us-east-1; Spot varies"
    on_demand: CapacityPrices = CapacityPrices(0.04048, 0.004445, 0.000111)
    # Spot has no list price: it moves, "up to 70 % off" (https://aws.amazon.com/fargate/pricing/).
    spot: CapacityPrices = CapacityPrices(0.04048 * 0.3, 0.004445 * 0.3, 0.000111)
    local: CapacityPrices = CapacityPrices()
    served_gb: float = 0.0
    """A GB (10⁹ bytes) sent to a client; AWS's own depends on the way it goes."""

    def cost(self, capacity: Capacity, amounts: Amounts) -> float:
        """In the currency."""
        price = {
            Capacity.ON_DEMAND: self.on_demand,
            Capacity.SPOT: self.spot,
            Capacity.LOCAL: self.local,
            Capacity.NONE: CapacityPrices(),
        }[capacity]
        hours = (
            amounts.vcpu_seconds * price.vcpu_hour
            + amounts.memory_gb_seconds * price.memory_gb_hour
            + amounts.disk_gb_seconds * price.disk_gb_hour
            + amounts.worker_seconds * price.worker_hour
        ) / 3600
        return hours + amounts.bytes_served / 1e9 * self.served_gb

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        """The default prices with those of `data` in their places.

        Raises:
            ValueError: it says what cannot be used.
        """
        known = {one.name for one in fields(cls)}
        changes: dict[str, Any] = {}
        for name, value in data.items():
            if name not in known:
                raise ValueError(f"{name!r} is none of {', '.join(sorted(known))}")
            if name in ("currency", "as_of"):
                if not isinstance(value, str) or not value.isprintable() or not 0 < len(value) <= 200:
                    raise ValueError(f"{name}: a short text is wanted")
                changes[name] = value
            elif name == "served_gb":
                changes[name] = _price(name, value)
            else:
                changes[name] = _capacity_prices(name, value, getattr(cls(), name))
        return cls(**changes)


def _capacity_prices(name: str, data: object, default: CapacityPrices) -> CapacityPrices:
    units = {one.name for one in fields(CapacityPrices)}
    if not isinstance(data, Mapping) or not set(data) <= units:
        raise ValueError(f"{name}: an object with some of {', '.join(sorted(units))} is wanted")
    return replace(default, **{unit: _price(f"{name}.{unit}", value) for unit, value in data.items()})


def _price(name: str, value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value < 1e9:
        raise ValueError(f"{name}: a price is wanted, 0 or more")
    return float(value)


class GroupBy(StrEnum):
    """By what usage is summed up."""

    DAY = "day"
    REQUESTER = "requester"
    COLLECTION = "collection"
    JOB = "job"
    CAPACITY = "capacity"


@dataclass(frozen=True, slots=True)
class UsageLine:
    """One line of a report. `idle`: paid for workers that nobody used."""

    group: Mapping[GroupBy, str]
    amounts: Amounts
    cost: float
    idle: LaunchPurpose | None = None


@dataclass(frozen=True, slots=True)
class UsageReport:
    """What was used, line by line in the order of the groups; `idle` lines have no requester."""

    used: Sequence[UsageLine]
    idle: Sequence[UsageLine]
    total: Amounts
    """Of both."""
    cost: float


@dataclass(slots=True)
class _Sum:
    amounts: Amounts = field(default_factory=Amounts)
    cost: float = 0.0

    def add(self, amounts: Amounts, cost: float) -> None:
        self.amounts += amounts
        self.cost += cost


def report(sums: Iterable[UsageSum], by: Collection[GroupBy], prices: Prices) -> UsageReport:
    """Sums of rows as lines; idle time where whole workers were asked for."""
    order = [one for one in GroupBy if one in by]
    used: dict[tuple[str, ...], _Sum] = {}
    idle: dict[tuple[str, str, LaunchPurpose], dict[Capacity, Amounts]] = {}
    for one in sums:
        day = one.day.isoformat() if GroupBy.DAY in by else ""
        capacity = one.capacity.value if GroupBy.CAPACITY in by else ""
        if one.kind is not UsageKind.SERVED:
            spans = idle.setdefault((day, capacity, one.purpose), {})
            time = _time(one.amounts)
            before = spans.get(one.capacity, Amounts())
            spans[one.capacity] = before + time if one.kind is UsageKind.WORKER else before - time
        if one.kind is UsageKind.WORKER:
            continue
        values = {
            GroupBy.DAY: day,
            GroupBy.REQUESTER: one.requester,
            GroupBy.COLLECTION: one.dcc,
            GroupBy.JOB: one.job_id or "",
            GroupBy.CAPACITY: capacity,
        }
        line = used.setdefault(tuple(values[name] for name in order), _Sum())
        line.add(one.amounts, prices.cost(one.capacity, one.amounts))
    lines = [
        UsageLine(dict(zip(order, key, strict=True)), line.amounts, line.cost)
        for key, line in sorted(used.items())
    ]
    idle_lines = []
    for (day, capacity, purpose), spans in sorted(idle.items()):
        # An attempt under way may be known a moment before its worker was seen: never less than nothing.
        left = {one: amounts for one, amounts in spans.items() if amounts.milliseconds > 0}
        if not left:
            continue
        group = {GroupBy.DAY: day, GroupBy.CAPACITY: capacity}
        idle_lines.append(
            UsageLine(
                {name: group[name] for name in order if name in group},
                sum(left.values(), Amounts()),
                sum(prices.cost(one, amounts) for one, amounts in left.items()),
                purpose,
            )
        )
    everything = [*lines, *idle_lines]
    return UsageReport(
        lines,
        idle_lines,
        sum((line.amounts for line in everything), Amounts()),
        sum(line.cost for line in everything),
    )


def _time(amounts: Amounts) -> Amounts:
    """Without what is not of workers."""
    return Amounts(
        milliseconds=amounts.milliseconds,
        cpu_milliseconds=amounts.cpu_milliseconds,
        memory_milliseconds=amounts.memory_milliseconds,
        disk_milliseconds=amounts.disk_milliseconds,
    )
