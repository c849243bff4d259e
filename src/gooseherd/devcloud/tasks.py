"""The life of one task, from PROVISIONING to STOPPED, told as one coroutine."""

from __future__ import annotations

import asyncio
import logging
import secrets
import shutil
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gooseherd.devcloud.addresses import AddressPool, NoAddressLeft
from gooseherd.devcloud.cloud_configuration import CloudConfiguration
from gooseherd.devcloud.container_process import CannotStart, Container
from gooseherd.devcloud.faults import Fault, Kind
from gooseherd.devcloud.pace import SPOT_NOTICE_SECONDS
from gooseherd.devcloud.run_task import ApiError, ContainerPlan, Json, TaskPlan
from gooseherd.devcloud.task_documents import attach_address, task_health
from gooseherd.devcloud.task_secrets import TaskSecrets

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Ending:
    """Why a task ends. The first one told stands."""

    stop_code: str
    reason: str
    grace: float | None = None
    """Seconds between SIGTERM and SIGKILL when it is not the containers' own stopTimeout."""


class _NotStarted(Exception):
    """Ends the start; its text is the task's stoppedReason."""


class _StoppedEarly(Exception):
    """Somebody stopped it before it ran."""


class CloudTask:
    """One task. Everything here belongs to the event loop's thread.

    `document` is what DescribeTasks answers; `hidden_until` is monotonic time before which
    it is not seen.
    """

    def __init__(
        self,
        document: Json,
        plan: TaskPlan,
        faults: Sequence[Fault],
        *,
        configuration: CloudConfiguration,
        addresses: AddressPool,
        region: str,
        task_secrets: TaskSecrets,
    ) -> None:
        self.document = document
        self.plan = plan
        self.token = secrets.token_urlsafe(16)
        self._faults = {fault.kind: fault for fault in faults}
        self._configuration = configuration
        self._addresses = addresses
        self._region = region
        self._secrets = task_secrets
        self._stop_asked = asyncio.Event()
        self._ending: Ending | None = None
        self._waits_skipped = asyncio.Event()
        self._containers: dict[str, Container] = {}
        self._watchers: list[asyncio.Task[None]] = []
        hidden = self._faults.get(Kind.HIDDEN)
        self.hidden_until = time.monotonic() + (hidden.seconds if hidden else 0.0)

    @property
    def arn(self) -> str:
        """Its name for all time."""
        return str(self.document["taskArn"])

    @property
    def task_id(self) -> str:
        """The last part of the ARN."""
        return self.arn.rpartition("/")[2]

    @property
    def ended(self) -> bool:
        """Whether it is STOPPED."""
        return bool(self.document["lastStatus"] == "STOPPED")

    @property
    def pids(self) -> list[int]:
        """Of the containers' runtimes."""
        return [container.pid for container in self._containers.values()]

    def log_of(self, container: str) -> Path:
        """Where that container's output goes."""
        first = self.plan.containers[0].name
        return self._configuration.logs / (
            f"{self.task_id}.log" if container == first else f"{self.task_id}.{container}.log"
        )

    # -- what others do to it -----------------------------------------------------------------

    def stop(self, ending: Ending) -> None:
        """Let it end, in order; the second one to ask changes nothing."""
        if self._ending is None and not self.ended:
            self._ending = ending
            self._change(
                desiredStatus="STOPPED",
                stopCode=ending.stop_code,
                stoppedReason=ending.reason,
                stoppingAt=time.time(),
            )
            self._stop_asked.set()

    def reclaim(self) -> None:
        """Spot capacity is taken back: SIGTERM now, SIGKILL when the notice has run out."""
        self.stop(
            Ending(
                "SpotInterruption",
                "Your Spot Task was interrupted.",
                self._configuration.pace.seconds(SPOT_NOTICE_SECONDS),
            )
        )

    def kill(self) -> None:
        """SIGKILL to its containers, as the kernel does when memory runs out."""
        for container in self._containers.values():
            container.kill()

    def skip_waits(self) -> None:
        """No more waiting in its states: the cloud itself is closing."""
        self._waits_skipped.set()

    # -- its life -------------------------------------------------------------------------------

    async def live(self) -> None:
        """All of it. When this returns no process of the task is left."""
        scratch = self._configuration.scratch / self.task_id
        address: str | None = None
        try:
            await asyncio.to_thread(scratch.mkdir, parents=True)
            await self._wait(self._configuration.pace.provisioning)
            address = self._take_address()
            attach_address(self.document, address)
            self._enter("PENDING", pullStartedAt=time.time())
            await self._pull()
            self._enter("ACTIVATING", pullStoppedAt=time.time())
            await self._wait(self._configuration.pace.activating)
            await self._start(scratch, address)
            await self._stop_asked.wait()
        except _StoppedEarly:
            pass
        except _NotStarted as failure:
            self.stop(Ending("TaskFailedToStart", str(failure)))
        except Exception as error:
            _log.exception("task %s broke", self.task_id)
            self.stop(Ending("TaskFailedToStart", f"InternalError: {type(error).__name__}"))
        await self._end()
        if address is not None:
            self._addresses.give_back(address)
        await asyncio.to_thread(shutil.rmtree, scratch, ignore_errors=True)
        self._enter("STOPPED", stoppedAt=time.time(), tags=[])
        _log.info("task %s stopped: %s", self.task_id, self.document["stoppedReason"])

    def _take_address(self) -> str:
        reason = "Timeout waiting for network interface provisioning to complete."
        if Kind.NO_ADDRESS in self._faults:
            raise _NotStarted(reason)
        try:
            return self._addresses.take()
        except NoAddressLeft:
            raise _NotStarted(reason) from None

    async def _pull(self) -> None:
        await self._wait(self._configuration.pace.pending)
        if slow := self._faults.get(Kind.SLOW_START):
            # Not scaled: the fault says what its test waits for.
            await self._wait(slow.seconds, scaled=False)
        for container in self.plan.containers:
            if container.image not in self._configuration.images or Kind.CANNOT_PULL in self._faults:
                raise _NotStarted(
                    "CannotPullContainerError: pull image manifest has been retried 1 time(s): failed to "
                    f"resolve ref {container.image}: not found"
                )

    async def _start(self, scratch: Path, address: str) -> None:
        for index, plan in enumerate(self.plan.containers):
            given = await self._given(plan)
            environment = self._environment(index, plan, given, scratch, address)
            argv = await asyncio.to_thread(self._argv, plan, environment, scratch, address)
            try:
                container = await Container.start(
                    argv, environment, folder=scratch, log=self.log_of(plan.name)
                )
            except (CannotStart, OSError) as error:
                self.document["containers"][index]["reason"] = f"CannotStartContainerError: {error}"
                raise _NotStarted(f"CannotStartContainerError: {error}") from error
            self._containers[plan.name] = container
            self.document["containers"][index].update(
                lastStatus="RUNNING", runtimeId=f"{self.task_id}-{index}"
            )
            self._watchers.append(asyncio.create_task(self._watch(index, plan, container)))
        if not self._stop_asked.is_set():
            self._enter("RUNNING", startedAt=time.time())
        if Kind.DIES in self._faults:
            self.kill()

    async def _given(self, plan: ContainerPlan) -> dict[str, str]:
        """What its task definition says, its secrets and environment files read."""
        try:
            return await asyncio.to_thread(
                self._secrets.environment_of, plan, self.plan.execution_role_arn, self._region
            )
        except ApiError as error:
            raise _NotStarted(
                "ResourceInitializationError: unable to pull secrets or registry auth: "
                f"execution resource retrieval failed: {error.code}: {error.message}"
            ) from error

    def _environment(
        self, index: int, plan: ContainerPlan, given: dict[str, str], scratch: Path, address: str
    ) -> dict[str, str]:
        return {
            **self._configuration.image_environment(self._region),
            "TMPDIR": str(scratch),
            # All tasks share one network namespace: whoever listens has to say on which address.
            "BIND_HOST": address,
            "ECS_CONTAINER_METADATA_URI_V4": f"{self._configuration.url}/v4/{self.token}-{index}",
            **self._role(),
            **given,
        }

    def _role(self) -> dict[str, str]:
        """Where the containers find credentials, if the task has a role."""
        if not self.plan.role_arn:
            return {}
        # By the whole address: what ECS gives is relative to one that is the task's alone.
        url = f"{self._configuration.url}/v2/credentials/{self.token}"
        return {"AWS_CONTAINER_CREDENTIALS_FULL_URI": url}

    def _argv(
        self, plan: ContainerPlan, environment: dict[str, str], scratch: Path, address: str
    ) -> list[str]:
        if plan.replaces:
            return list(plan.argv)
        env_file = scratch / f"{plan.name}.env"
        image = self._configuration.images[plan.image]
        if any("{env_file}" in word for word in image):
            env_file.write_text("".join(f"{name}={value}\n" for name, value in environment.items()))
        places = {"{address}": address, "{env_file}": str(env_file), "{task}": self.task_id}
        filled = []
        for word in image:
            for place, value in places.items():
                word = word.replace(place, value)  # noqa: PLW2901
            filled.append(word)
        return [*filled, *plan.argv]

    async def _watch(self, index: int, plan: ContainerPlan, container: Container) -> None:
        checks = asyncio.create_task(self._check(index, plan, container))
        code = await container.wait()
        checks.cancel()
        await asyncio.gather(checks, return_exceptions=True)
        if dies := self._faults.get(Kind.DIES):
            code = dies.exit_code
        self.document["containers"][index].update(lastStatus="STOPPED", exitCode=code, healthStatus="UNKNOWN")
        if plan.essential:
            self.stop(Ending("EssentialContainerExited", "Essential container in task exited"))

    async def _check(self, index: int, plan: ContainerPlan, container: Container) -> None:
        check = plan.health
        if check is None:
            return
        pace = self._configuration.pace
        hopeless = self._faults.get(Kind.NEVER_HEALTHY)
        began = time.monotonic()
        patience = check.start_period
        if hopeless is not None:
            patience = hopeless.seconds or pace.seconds(check.start_period)
        failed = 0
        while True:
            await asyncio.sleep(pace.seconds(check.interval))
            healthy = hopeless is None and await container.is_healthy(check)
            # Failures of the start period do not count; a success in it does.
            grace = time.monotonic() - began < patience
            failed = 0 if healthy else failed + (not grace)
            if healthy or failed >= check.retries:
                self._show_health(index, "HEALTHY" if healthy else "UNHEALTHY")

    def _show_health(self, index: int, health: str) -> None:
        self.document["containers"][index]["healthStatus"] = health
        essential = {container.name for container in self.plan.containers if container.essential}
        seen = task_health(self.document, essential)
        if seen != self.document["healthStatus"]:
            self._change(healthStatus=seen)

    async def _end(self) -> None:
        pace = self._configuration.pace
        if self._containers:
            self._enter("DEACTIVATING")
            await self._linger(pace.deactivating)
            self._enter("STOPPING")
            grace = self._ending.grace if self._ending else None
            await asyncio.gather(
                *(self._stop_container(plan, grace) for plan in self.plan.containers), *self._watchers
            )
        for container in self.document["containers"]:
            container["lastStatus"] = "STOPPED"
        self.document["attachments"][0]["status"] = "DELETED"
        self._enter("DEPROVISIONING", executionStoppedAt=time.time(), healthStatus="UNKNOWN")
        await self._linger(pace.deprovisioning)

    async def _stop_container(self, plan: ContainerPlan, grace: float | None) -> None:
        container = self._containers.get(plan.name)
        if container is None:
            return
        container.ask_to_stop()
        seconds = self._configuration.pace.seconds(plan.stop_timeout) if grace is None else grace
        ended = asyncio.create_task(container.wait())
        skipped = asyncio.create_task(self._waits_skipped.wait())
        await asyncio.wait({ended, skipped}, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        skipped.cancel()
        container.kill()
        await ended

    # -- small steps ------------------------------------------------------------------------------

    async def _wait(self, seconds: float, *, scaled: bool = True) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(self._configuration.pace.seconds(seconds) if scaled else seconds):
                await self._stop_asked.wait()
        if self._stop_asked.is_set():
            raise _StoppedEarly

    async def _linger(self, seconds: float) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(self._configuration.pace.seconds(seconds)):
                await self._waits_skipped.wait()

    def _enter(self, status: str, **more: Any) -> None:
        self._change(lastStatus=status, **more)

    def _change(self, **more: Any) -> None:
        # The version orders what observers see (EventBridge's `detail.version`).
        self.document.update(more, version=self.document["version"] + 1)
