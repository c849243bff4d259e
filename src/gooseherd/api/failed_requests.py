"""One line of the log for each request that was refused or failed, wherever that was noticed.

The alarm on errors of deploy/cloudformation counts lines of this logger by their status.
"""

from __future__ import annotations

import logging

from gooseherd.api.problems import problem_type
from gooseherd.api.request_context import RequestContext
from gooseherd.api.server.refusals import TooManyConnections
from gooseherd.domain.errors import GooseherdError

_log = logging.getLogger(__name__)


def log_failed_request(
    error: Exception, context: RequestContext, method: str, *, begun: bool = False
) -> None:
    """Log it: at level debug what callers can fix, with its traceback what nobody foresaw.

    `begun`: the response had, so its status was another one.
    """
    status = problem_type(error).status
    extra: dict[str, object] = {
        "request_id": context.request_id,
        "method": method,
        "path": context.path,
        "error": str(error),
    }
    if begun:
        _log.warning("the response broke off", extra=extra, exc_info=error)
        return
    extra["status"] = status
    if isinstance(error, GooseherdError):
        # Too many connections are counted; a line for each would be what a flood is for.
        loud = status >= 500 and not isinstance(error, TooManyConnections)
        _log.log(logging.WARNING if loud else logging.DEBUG, "refused", extra=extra)
    else:
        _log.error("request failed", extra=extra, exc_info=error)
