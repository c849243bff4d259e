"""The ECS API by boto3: four calls in threads, their errors as ours, by error code.

Every call is tried again on throttling, server errors and broken connections: reads change
nothing, StopTask is idempotent, and RunTask carries a client token.
"""

from __future__ import annotations

import asyncio
import logging
import random
import threading
from collections.abc import Awaitable, Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Final

from gooseherd.domain.errors import LaunchFailed, Misconfigured, NoCapacity, NotFound, Unavailable
from gooseherd.domain.job import WorkerId
from gooseherd.fleet.diagnosis import scrubbed
from gooseherd.fleet.ecs_tasks import FleetTask

log = logging.getLogger(__name__)

BATCH: Final = 100
"""Most tasks that DescribeTasks takes and ListTasks gives."""
_THREADS: Final = 16
_CONNECT_SECONDS: Final = 5
_READ_SECONDS: Final = 20
_LONGEST_BACKOFF_SECONDS: Final = 8.0

_THROTTLED: Final = frozenset(
    {"ThrottlingException", "Throttling", "TooManyRequestsException", "RequestLimitExceeded"}
)
_CREDENTIALS: Final = frozenset(
    {"AccessDeniedException", "AccessDenied", "UnrecognizedClientException", "InvalidClientTokenId"}
    | {
        "InvalidSignatureException",
        "SignatureDoesNotMatch",
        "ExpiredTokenException",
        "MissingAuthenticationToken",
    }
    | {"IncompleteSignature", "OptInRequired"}
)
_SETTING: Final[Mapping[str, str]] = {
    "ClusterNotFoundException": "ECS_CLUSTER",
    "PlatformUnknownException": "ECS_WORKER_TASK_DEFINITION",
    "PlatformTaskDefinitionIncompatibilityException": "ECS_WORKER_TASK_DEFINITION",
    "UnsupportedFeatureException": "ECS_WORKER_TASK_DEFINITION",
    "BlockedException": "AWS account",
}
# InvalidParameterException and ClientException name nothing by code; their message is all there is.
_MESSAGES: Final[tuple[tuple[str, str | None], ...]] = (
    ("Capacity is unavailable", None),
    ("You've reached the limit on the number of", None),
    ("RESOURCE:", None),
    ("Error retrieving subnet information", "ECS_WORKER_SUBNETS"),
    ("subnets ", "ECS_WORKER_SUBNETS"),
    ("Error retrieving security group information", "ECS_WORKER_SECURITY_GROUPS"),
    ("The specified capacity provider", "ECS_WORKER_PLACEMENT"),
    ("The capacity provider", "ECS_WORKER_PLACEMENT"),
    ("Override for container named", "ECS_WORKER_CONTAINER"),
    ("TaskDefinition", "ECS_WORKER_TASK_DEFINITION"),
    ("Task definition", "ECS_WORKER_TASK_DEFINITION"),
    ("Unable to find a task definition", "ECS_WORKER_TASK_DEFINITION"),
    ("Network Configuration", "ECS_WORKER_SUBNETS"),
    ("No Fargate configuration exists", "ECS_WORKER_MAX_CPU"),
)
"""Beginnings of `Error.Message`, and the setting to blame; None: there is no capacity now."""
_OF_REQUEST: Final = frozenset({"ECS_WORKER_MAX_CPU"})
"""Settings that allow a size which the region does not have: workers of other sizes can be had."""


@dataclass(eq=False)
class CloudUnavailable(Unavailable):
    """ECS did not answer, or asks us to slow down; the outcome of a RunTask or StopTask is unknown."""

    operation: str
    code: str

    def __str__(self) -> str:
        return f"ECS {self.operation} failed: {self.code}"


@dataclass(eq=False)
class AlreadyLaunched(Exception):
    """The client token was used with other parameters; it stands for these tasks."""

    worker_ids: tuple[WorkerId, ...]


@dataclass(frozen=True, slots=True)
class Described:
    """All that were asked for: those that ECS showed, and those it does not know (now)."""

    tasks: Mapping[WorkerId, FleetTask]
    missing: frozenset[WorkerId]


class EcsApi:
    """One cluster. `tries` and `backoff_seconds` (doubling, with jitter) are for each call.

    All methods raise CloudUnavailable when ECS did not answer in all tries, Misconfigured when
    no retry heals it.
    """

    def __init__(
        self,
        cluster: str,
        *,
        region: str,
        endpoint_url: str | None = None,
        tries: int = 6,
        backoff_seconds: float = 0.25,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        if not cluster:
            raise Misconfigured("ECS_CLUSTER", "names no cluster")
        self._cluster = cluster
        self._region = region
        self._endpoint_url = endpoint_url
        self._tries = tries
        self._backoff = backoff_seconds
        self._sleep = sleep
        self._jitter = jitter
        self._made: Any = None
        self._making = threading.Lock()
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="ecs")
        self.calls = 0
        """Requests sent so far, retries included."""

    async def run_task(self, request: Mapping[str, Any]) -> FleetTask:
        """Start one task, or name the one its client token started before.

        Raises:
            NoCapacity: in `failures[]` or as an error.
            LaunchFailed: refused for another reason.
            AlreadyLaunched: the client token was used with other parameters.
        """
        answer = await self._call("run_task", self._tries, **request)
        for failure in answer.get("failures") or []:
            raise _refusal(str(failure.get("reason") or ""), str(failure.get("detail") or ""))
        if not answer.get("tasks"):
            raise LaunchFailed("RunTask gave neither a task nor a failure")
        return FleetTask.read(answer["tasks"][0])

    async def stop_task(self, worker_id: WorkerId, reason: str) -> None:
        """Ask it to end. Raises NotFound for one that is gone for long."""
        await self._call("stop_task", self._tries, task=worker_id, reason=reason[:1024])

    async def list_tasks(self, started_by: str, *, tries: int = 2) -> frozenset[WorkerId]:
        """All tasks that are meant to run and were started by that name: every page, or an error."""
        found: set[WorkerId] = set()
        token: dict[str, str] = {}
        while True:
            # `startedBy` must be the only filter (ListTasks).
            page = await self._call("list_tasks", tries, startedBy=started_by, maxResults=BATCH, **token)
            found.update(WorkerId(arn.rpartition("/")[2]) for arn in page["taskArns"])
            if not page.get("nextToken"):
                return frozenset(found)
            token = {"nextToken": page["nextToken"]}

    async def describe_tasks(self, worker_ids: Sequence[WorkerId], *, tries: int = 2) -> Described:
        """Each of them, shown or missing: every hundred, or an error."""
        tasks: dict[WorkerId, FleetTask] = {}
        missing: set[WorkerId] = set()
        for start in range(0, len(worker_ids), BATCH):
            batch = worker_ids[start : start + BATCH]
            answer = await self._call("describe_tasks", tries, tasks=list(batch))
            read = [FleetTask.read(task) for task in answer["tasks"]]
            tasks.update({task.worker_id: task for task in read})
            missing.update(
                WorkerId(failure["arn"].rpartition("/")[2])
                for failure in answer.get("failures") or []
                if failure.get("reason") == "MISSING"
            )
            unexplained = set(batch) - tasks.keys() - missing
            if unexplained:
                raise CloudUnavailable("DescribeTasks", f"{len(unexplained)} tasks neither shown nor missing")
        return Described(tasks, frozenset(missing))

    async def close(self) -> None:
        """Free the connections; calls that are under way end first."""
        await asyncio.to_thread(self._threads.shutdown, cancel_futures=True)
        if self._made is not None:
            self._made.close()

    async def _call(self, operation: str, tries: int, **request: Any) -> Mapping[str, Any]:
        for attempt in range(tries):
            try:
                return await asyncio.get_running_loop().run_in_executor(
                    self._threads, self._ask, operation, request
                )
            except CloudUnavailable as error:
                if attempt == tries - 1:
                    raise
                delay = min(self._backoff * 2**attempt, _LONGEST_BACKOFF_SECONDS) * (0.5 + self._jitter() / 2)
                log.info(
                    "ECS call is tried again",
                    extra={"operation": operation, "code": error.code, "delay_seconds": delay},
                )
                await self._sleep(delay)
        raise AssertionError("tries is at least 1")

    def _ask(self, operation: str, request: Mapping[str, Any]) -> Mapping[str, Any]:
        from botocore.exceptions import BotoCoreError, ClientError, NoCredentialsError, ParamValidationError

        self.calls += 1
        try:
            answer: Mapping[str, Any] = getattr(self._client(), operation)(cluster=self._cluster, **request)
        except ClientError as error:
            raise _meaning(error.response, operation) from error
        except NoCredentialsError as error:
            raise Misconfigured("AWS credentials", "found none") from error
        except ParamValidationError as error:
            raise Misconfigured("ECS request", f"{operation} was malformed", of_request=True) from error
        except BotoCoreError as error:
            raise CloudUnavailable(operation, type(error).__name__) from error
        return answer

    def _client(self) -> Any:
        with self._making:
            if self._made is None:
                self._made = self._new_client()
            return self._made

    def _new_client(self) -> Any:
        import boto3
        from botocore.config import Config

        return boto3.Session(region_name=self._region).client(
            "ecs",
            endpoint_url=self._endpoint_url,
            config=Config(
                connect_timeout=_CONNECT_SECONDS,
                read_timeout=_READ_SECONDS,
                max_pool_connections=_THREADS,
                # Retries are ours: a thread that sleeps is one that nobody else can have.
                retries={"mode": "standard", "total_max_attempts": 1},
            ),
        )


def _meaning(answer: Mapping[str, Any], operation: str) -> Exception:
    fields = answer.get("Error") or {}
    code, message = str(fields.get("Code") or ""), str(fields.get("Message") or "")
    if code in _THROTTLED:
        return CloudUnavailable(operation, code)
    if code in _CREDENTIALS:
        return Misconfigured("AWS credentials", f"{operation} was refused: {code}")
    if code in _SETTING:
        return Misconfigured(_SETTING[code], f"{operation} was refused: {code}")
    if code == "ConflictException":
        return AlreadyLaunched(
            tuple(WorkerId(arn.rpartition("/")[2]) for arn in answer.get("resourceIds") or [])
        )
    if operation == "stop_task" and code in {"InvalidParameterException", "ClientException"}:
        return NotFound("worker", "by that name")
    if code in {"InvalidParameterException", "ClientException"}:
        return _refusal(message, final=code == "InvalidParameterException")
    return CloudUnavailable(operation, code or "no code")


def _refusal(reason: str, detail: str = "", *, final: bool = False) -> Exception:
    """What a reason means. Unknown ones may pass, unless `final`: then an operator must change something.

    Of what is sent only the size is the job's own, and its refusal is known: any other is the same for all.
    """
    text = scrubbed(f"{reason} {detail}")
    for beginning, setting in _MESSAGES:
        if reason.startswith(beginning):
            if setting is None:
                return NoCapacity(f"({text})")
            return Misconfigured(setting, text, of_request=setting in _OF_REQUEST)
    if final:
        return Misconfigured("ECS worker launch", text or "refused")
    return LaunchFailed(f"RunTask was refused: {text}")
