"""Usage, prices and budgets from settings."""

from __future__ import annotations

import uuid
from datetime import timedelta

from gooseherd.control.budgets import Budgets, RequesterBudget
from gooseherd.control.usage import ServedBytes, UsageRecorder, UsageReports
from gooseherd.domain.ports.fleet import Fleet
from gooseherd.settings import Settings
from gooseherd.usage_settings import prices
from gooseherd.wiring.store import Store


class Accounting:
    """What the API and the loops need to record usage, to report it and to keep to budgets."""

    def __init__(self, settings: Settings, store: Store) -> None:
        self._settings = settings
        self._store = store
        self.served = ServedBytes(uuid.uuid4().hex[:12])
        self.reports = UsageReports(store.usage, store.jobs, prices(settings))
        self.budgets = Budgets(
            self.reports,
            RequesterBudget(settings.usage_budget_per_day or None, settings.usage_budget_per_month or None),
            store.keys,
        )

    def recorder(self, fleet: Fleet | None) -> UsageRecorder:
        """The loop that writes down workers' time and bytes served."""
        keep = self._settings.usage_keep_days
        return UsageRecorder(
            usage=self._store.usage,
            fleet=fleet,
            served=self.served,
            keep=timedelta(days=keep) if keep else None,
            tick_seconds=self._settings.usage_record_seconds,
        )
