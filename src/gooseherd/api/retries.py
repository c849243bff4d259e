"""New tries of files whose last job has failed: each costs an attempt, so a requester has so many."""

from __future__ import annotations

from typing import Final

from gooseherd.api.allowances import Allowance
from gooseherd.api.dependencies import Dependencies
from gooseherd.api.request_context import RequestContext
from gooseherd.domain.errors import LimitReached

_WINDOW_SECONDS: Final = 600.0


class TooManyRetries(LimitReached):
    """The requester has asked for the same again, and again; a viewer is not held until it may."""


class Retries:
    """Counts them by requester; the admin's are not counted."""

    def __init__(self, dependencies: Dependencies) -> None:
        self._allowance = Allowance(
            "retries of failed files within ten minutes",
            dependencies.retries_per_requester,
            _WINDOW_SECONDS,
            dependencies.clock,
        )

    def take(self, context: RequestContext) -> None:
        """Use one. Raises TooManyRetries."""
        if context.is_admin:
            return
        try:
            self._allowance.take(context.requester)
        except LimitReached as reached:
            raise TooManyRetries(
                reached.limit,
                reached.allowed,
                reached.current,
                reached.retry_after_seconds,
                reached.window_seconds,
            ) from None
