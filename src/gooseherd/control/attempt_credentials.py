"""Credentials of attempts: sent with the order, and renewed on the worker for as long as somebody follows."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import replace

from gooseherd.domain.attempt import AttemptId, AttemptSpec
from gooseherd.domain.errors import GooseherdError, NotFound
from gooseherd.domain.job import Job
from gooseherd.domain.keys import artifact_prefix
from gooseherd.domain.ports.credentials import CredentialIssuer, SourceAccessIssuer
from gooseherd.domain.ports.fleet import WorkerHandle
from gooseherd.domain.ports.worker import Workers

_log = logging.getLogger(__name__)

_RENEW_SECONDS = 1200.0
"""They last an hour, the longest that STS gives to a role's session: the API may be away for half of it."""
_RETRY_SECONDS = 30.0
_NOT_STARTED_SECONDS = 5.0


class AttemptCredentials:
    """Without an `issuer` attempts get none: their workers have some of their own, or need none."""

    def __init__(
        self, workers: Workers, issuer: CredentialIssuer | None, sources: SourceAccessIssuer | None = None
    ) -> None:
        self._workers = workers
        self._issuer = issuer
        self._sources = sources

    async def added_to(self, spec: AttemptSpec) -> AttemptSpec:
        """The order with credentials for its artifact, and what opens its source.

        Raises CacheUnavailable, UpstreamUnavailable and Misconfigured.
        """
        if self._sources is not None:
            spec = replace(spec, source_access=await self._sources.for_attempt(spec.source))
        if self._issuer is None:
            return spec
        prefix = artifact_prefix(spec.source.identity, spec.recipe)
        return replace(spec, credentials=await self._issuer.issue(spec.attempt, prefix))

    async def keep_renewed(self, job: Job, worker: WorkerHandle, *, at_once: bool) -> None:
        """Renew those of the job's attempt until cancelled, and first `at_once` if adopted. Never raises."""
        if self._issuer is None:
            return
        attempt = AttemptId(job.job_id, job.attempt)
        prefix = artifact_prefix(job.source.identity, job.recipe)
        pause = 0.0 if at_once else _RENEW_SECONDS
        while True:
            await asyncio.sleep(pause)
            try:
                credentials = await self._issuer.issue(attempt, prefix)
                async with self._workers.connect(worker) as link:
                    await link.renew_credentials(attempt, credentials)
            except NotFound:
                pause = _NOT_STARTED_SECONDS  # Or it has ended, which its follower learns by itself.
            except GooseherdError as error:
                _log.warning("credentials not renewed", extra={"attempt": str(attempt), "why": str(error)})
                pause = _RETRY_SECONDS
            except Exception:
                _log.exception("renewing credentials failed unexpectedly", extra={"attempt": str(attempt)})
                pause = _RETRY_SECONDS
            else:
                pause = _RENEW_SECONDS
