"""What was used, by whom: everybody's for the admin, one's own for the owner of a key."""

from __future__ import annotations

import re
from datetime import date
from typing import Annotated, Final

from fastapi import APIRouter, Query
from pydantic import BeforeValidator

from gooseherd.api.dependencies import Dependencies
from gooseherd.api.models.usage import BudgetView, GroupWord, UsageView
from gooseherd.api.openapi import routes_under
from gooseherd.api.route_parameters import KeyOwner, problems
from gooseherd.domain.caller import Credential, Scope
from gooseherd.domain.errors import InvalidInput, ProcessingDisabled, ScopeRequired
from gooseherd.domain.job import Requester
from gooseherd.domain.source import parse_dcc
from gooseherd.domain.usage import UsageQuery
from gooseherd.domain.usage_report import GroupBy


def _written_out(value: object) -> object:
    """A number would be read as seconds or milliseconds since 1970."""
    if isinstance(value, str) and not re.fullmatch(r"\d{4}-\d{2}-\d{2}", value):
        raise ValueError("a day is written as YYYY-MM-DD")
    return value


Day = Annotated[date, BeforeValidator(_written_out)]
_MOST_LINES: Final = 10_000
_MOST_DAYS: Final = 3660


def usage_routes(dependencies: Dependencies) -> APIRouter:
    """GET /usage."""
    router = routes_under("operation")

    @router.get("/usage", responses=problems(401, 403, 422, 503))
    async def usage(
        context: KeyOwner,
        first: Annotated[Day | None, Query(description="Unset: the first of this month, UTC.")] = None,
        last: Annotated[Day | None, Query(description="Unset: today.")] = None,
        by: Annotated[
            list[GroupWord] | None,
            Query(max_length=5, description="Told apart by; repeat for more. Unset: day and requester."),
        ] = None,
        requester: Annotated[
            str | None, Query(max_length=400, description="`me`, or anyone for the admin.")
        ] = None,
        collection: Annotated[str | None, Query(max_length=64, description="Only of this dcc.")] = None,
    ) -> UsageView:
        """Worker time, bytes and their cost: everybody's for the admin, else the caller's own (any key)."""
        reports = dependencies.usage
        if reports is None:
            raise ProcessingDisabled
        if context.caller.credential is Credential.TOKEN:
            raise ScopeRequired(Scope.READ)  # a URL is for a file: it does not tell of its maker
        whose: Requester | None = Requester(requester) if requester is not None else None
        if requester == "me" or not context.is_admin:
            if requester not in (None, "me", context.requester):
                context.require_admin()
            whose = context.requester
        today = await reports.today()
        last = last or today
        first = first or last.replace(day=1)
        if not 0 <= (last - first).days <= _MOST_DAYS:
            raise InvalidInput("first", f"must be before `last`, by {_MOST_DAYS} days at most")
        groups = {GroupBy(word) for word in by or (GroupBy.DAY, GroupBy.REQUESTER)}
        dcc = parse_dcc(collection) if collection else None
        report = await reports.report(UsageQuery(first, last, whose, dcc), groups)
        if len(report.used) > _MOST_LINES:
            raise InvalidInput("by", f"{len(report.used)} lines: ask for fewer days, or by less")
        budget = None
        if whose is not None and dependencies.budgets is not None:
            budget = BudgetView.of(
                await dependencies.budgets.of(whose), await dependencies.budgets.spent(whose)
            )
        return UsageView.of(
            report,
            first=first,
            last=last,
            by=groups,
            requester=whose,
            collection=dcc,
            prices=reports.prices,
            budget=budget,
        )

    return router
