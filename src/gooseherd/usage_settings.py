"""The settings of what usage costs and may cost; `Settings` has them."""

from __future__ import annotations

import json

from pydantic import Field
from pydantic_settings import BaseSettings

from gooseherd.domain.errors import Misconfigured
from gooseherd.domain.usage_report import Prices
from gooseherd.setting_types import Text


class UsageSettings(BaseSettings):
    """Prices, budgets, and how long usage is kept."""

    usage_prices: Text = Field(
        None,
        description="Prices as a JSON object, each in place of the default: `currency`, `as_of`, "
        "`served_gb`, and of `on_demand`, `spot` and `local` workers `vcpu_hour`, `memory_gb_hour`, "
        "`disk_gb_hour` (beyond 20 GB), `worker_hour`. Unset: list prices of AWS Fargate in us-east-1 as of "
        "2026-03-01 (0.04048, 0.004445 and 0.000111 USD; Spot 30 % of the first two), own machines and bytes "
        "served for nothing.",
    )
    usage_budget_per_day: float = Field(
        0,
        ge=0,
        description="What each requester may use in a day (UTC), by those prices; then its new jobs get 429. "
        "A key may say otherwise for its owner. 0: no limit.",
    )
    usage_budget_per_month: float = Field(0, ge=0, description="The same for a calendar month.")
    usage_record_seconds: float = Field(
        60, ge=1, le=3600, description="How often workers' time and bytes served are written down."
    )
    usage_keep_days: int = Field(
        400, ge=0, le=36500, description="How long usage is kept, 32 days at least; 0: for ever."
    )


def prices(settings: UsageSettings) -> Prices:
    """The price table.

    Raises:
        Misconfigured: it is none.
    """
    if settings.usage_prices is None:
        return Prices()
    try:
        data = json.loads(settings.usage_prices)
    except ValueError:
        raise Misconfigured("USAGE_PRICES", "is not JSON") from None
    if not isinstance(data, dict):
        raise Misconfigured("USAGE_PRICES", "must be a JSON object")
    try:
        return Prices.from_json(data)
    except ValueError as error:
        raise Misconfigured("USAGE_PRICES", str(error)) from None


def check_usage(settings: UsageSettings) -> None:
    """Raises Misconfigured: the prices are none, or usage is kept for less than a month."""
    prices(settings)
    if 0 < settings.usage_keep_days < 32:
        raise Misconfigured("USAGE_KEEP_DAYS", "must be at least 32: a month's budget is reckoned from it")
