"""The calls about workers and sessions, and about the service itself."""

from __future__ import annotations

from collections.abc import Iterable
from urllib.parse import quote

from gooseherd.client.calls import Calls, given
from gooseherd.client.models import Fleet, FleetMember, Health, Job, Readiness, Session, Sessions, Usage
from gooseherd.client.responses import check, json_object, reaching


class FleetCalls(Calls):
    """Workers and sessions; most of these calls need a key."""

    async def is_ready(self) -> bool:
        """Whether the service and its dependencies are ready."""
        url = self.endpoint.url("/readyz")
        with reaching(url):
            return (await self.transport.send("GET", url)).status_code == 200

    async def readiness(self) -> Readiness:
        """What is ready and what is not (`dependencies`)."""
        url = self.endpoint.url("/readyz")
        with reaching(url):
            response = await self.transport.send("GET", url)
        # 503 with the dependencies is an answer to this question.
        if response.status_code != 503 or "dependencies" not in response.text:
            check(response)
        return self._model(Readiness, json_object(response), url)

    async def health(self) -> Health:
        """That the service answers, and its version."""
        return await self._record(Health, "GET", "/healthz")

    async def metrics(self) -> str:
        """The metrics, in Prometheus' text form."""
        return await self._text("/metrics")

    async def usage(
        self,
        *,
        first: str | None = None,
        last: str | None = None,
        by: Iterable[str] = ("day", "requester"),
        requester: str | None = None,
        collection: str | None = None,
    ) -> Usage:
        """What was used from the day `first` to `last` (YYYY-MM-DD, UTC; this month), and what it cost.

        Everybody's with the admin key, else one's own. `by`: day, requester, collection, job, capacity.
        """
        wanted = {"first": first, "last": last, "requester": requester, "collection": collection}
        return await self._record(Usage, "GET", "/usage", params={**given(wanted), "by": list(by)})

    async def fleet(self) -> Fleet:
        """`workers`, those that `ended` lately, and how many `slots` are left; needs the admin key."""
        return await self._record(Fleet, "GET", "/fleet")

    async def stop_worker(self, worker_id: str, *, force: bool = False) -> FleetMember:
        """Ask a worker to end; needs the admin key. Returns how it was before.

        Refused (409) when a job works on it, unless `force`: the job is then tried again.
        """
        query = {"force": "true"} if force else {}
        return await self._record(FleetMember, "DELETE", f"/fleet/{quote(worker_id, safe='')}", params=query)

    async def start_session(
        self,
        *,
        owner: str | None = None,
        size: str = "small",
        idle_seconds: float | None = None,
        max_age_seconds: float | None = None,
    ) -> Session:
        """Keep a worker for `owner` (default: who asks), whose jobs run on it one after the other.

        The owner's live session if there is one. Its worker comes later: see `session`. Needs a key with
        the scope submit. Busy when there are as many sessions as may be.
        """
        wanted = {
            "owner": owner,
            "size": size,
            "idle_seconds": idle_seconds,
            "max_age_seconds": max_age_seconds,
        }
        return await self._record(Session, "POST", "/sessions", json=given(wanted))

    async def sessions(self, *, ended: bool = False) -> Sessions:
        """Live `sessions`, oldest first, with `ended` those of the last day too."""
        return await self._record(Sessions, "GET", "/sessions", params={"ended": "true"} if ended else {})

    async def session(self, session_id: str) -> Session:
        """The session as it stands. Raises Missing."""
        return await self._record(Session, "GET", _session(session_id))

    async def end_session(self, session_id: str) -> Session:
        """End it; what is in flight goes on. Raises Missing."""
        return await self._record(Session, "DELETE", _session(session_id))

    async def dispatch(self, session_id: str, file: str) -> Job | None:
        """Have a file (DCC/ID) prepared on the session's worker; its job, or None: it is there already."""
        path = f"{_session(session_id)}/dispatch"
        response = await self._send("POST", path, json={"file": file})
        return None if response.status_code == 200 else self._model(Job, json_object(response), path)


def _session(session_id: str) -> str:
    return f"/sessions/{quote(session_id, safe='')}"
