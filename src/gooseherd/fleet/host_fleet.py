"""Workers that run on hosts of one's own, started there by somebody else; implements the Fleet port.

    acquire:  the worker that has this attempt already
              → an idle one of our build, the one that was used longest ago; it is claimed first

Several API processes may share the hosts: the worker itself keeps the claim, so two never get one. Nothing is
launched here: a worker that is told to end is started again by whatever runs it (deploy/systemd).
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Collection, Sequence
from contextlib import suppress
from typing import Final

from gooseherd.domain.attempt import AttemptId
from gooseherd.domain.errors import Misconfigured, NoCapacity, NotFound, Unavailable, WorkerBusy, WorkerLost
from gooseherd.domain.failures import Reason
from gooseherd.domain.job import WorkerId
from gooseherd.domain.ports.fleet import WorkerHandle, WorkerHealth, WorkerNeed, WorkerView
from gooseherd.domain.ports.worker import ClaimableWorkers
from gooseherd.fleet.acquisitions import AcquiringFleet
from gooseherd.fleet.host_list import SETTING, HostList
from gooseherd.fleet.host_state import HostState, Unreachable, address_of, observe

log = logging.getLogger(__name__)

_CLAIM_SECONDS: Final = 60.0
"""From the choice of a worker to the start of the attempt on it; after a crash of ours it is free then."""
_UNSEEN_SECONDS: Final = 60.0
"""As long as a claim: who shows neither the attempt that it is held for nor its claim is let go then."""
_ASK_SECONDS: Final = 10.0
_REMEMBERED: Final = 1000
"""Workers that ended, of which jobs may still ask."""


class HostFleet(AcquiringFleet):
    """One worker an address, each for one attempt at a time; each is asked every `poll_seconds` how it is.

    A host that leaves the list gets no more attempts and keeps the one it has.
    """

    def __init__(
        self,
        *,
        hosts: HostList,
        workers: ClaimableWorkers,
        build: str,
        poll_seconds: float = 5.0,
        clock: Callable[[], float] = time.time,
    ) -> None:
        super().__init__(len(hosts.addresses), kind="workers on hosts")
        self._hosts = hosts
        self._workers = workers
        self._build = build
        self._poll_seconds = poll_seconds
        self._clock = clock
        self._states: dict[str, HostState] = {}
        self._ended: dict[WorkerId, str] = {}
        self._held: dict[WorkerId, str] = {}
        """Workers that this process uses, and for which attempt."""
        self._unseen: dict[str, tuple[WorkerId, str, float]] = {}
        """By address: the worker, the attempt that it is held for and does not show, and since when."""
        self._used: dict[str, int] = {}
        """Addresses by the order of their last use."""
        self._uses = 0
        self._watching: dict[str, asyncio.Task[None]] = {}
        self._wake: dict[str, asyncio.Event] = {}
        self._reading: asyncio.Task[None] | None = None
        self._changed = asyncio.Event()
        self._rounds: dict[str, int] = {}

    # -- the port --------------------------------------------------------------------------

    async def find(self, worker_id: WorkerId) -> WorkerHandle | None:
        """One that does not answer counts as living: whoever speaks to it will see."""
        address = address_of(worker_id)
        if address is None or worker_id in self._ended:
            return None
        state = await self._look(address)
        if state.worker_id != worker_id and (state.reachable or worker_id in self._ended):
            return None
        self._held.setdefault(worker_id, "")
        return WorkerHandle(worker_id, address)

    async def take(
        self, worker_id: WorkerId, attempt: AttemptId, *, reserved: bool = False
    ) -> WorkerHandle | None:
        address = address_of(worker_id)
        if address is None:
            return None
        state = await self._look(address)
        if state.worker_id != worker_id or not state.usable(self._build):
            return None
        return await self._claimed(state, str(attempt))

    async def gone(self, worker_id: WorkerId) -> str:
        """It was started anew, or nothing listens there any more. One whose host is silent may live."""
        address = address_of(worker_id)
        if address is None:
            return "it was a worker of another kind of fleet"
        self._start()
        while worker_id not in self._ended:
            state = self._states.get(address)
            if state is not None and state.reachable and state.worker_id != worker_id:
                return "the worker was started anew"
            self._watch(address)
            await self._changed.wait()
        return self._ended[worker_id]

    async def verdict(self, worker_id: WorkerId) -> Reason:
        """Why a worker on another machine ended cannot be seen from here."""
        address = address_of(worker_id)
        if address in self._wake:
            self._wake[address].set()
        return Reason.WORKER_LOST

    def limit_reached(self, need: WorkerNeed) -> str | None:
        """None: there are no sizes here."""
        return None

    async def release(self, worker_id: WorkerId, *, reusable: bool, attempt: AttemptId | None = None) -> None:
        """Not reusable: it ends in order, and is started again there. Does not wait for it.

        Unless it works or is claimed for another attempt: this process may have been away while another
        service took the worker. It knows that itself, at the moment when it is asked.
        """
        held = self._held.get(worker_id)
        if attempt is not None and held and held != str(attempt):
            return
        self._held.pop(worker_id, None)
        address = address_of(worker_id)
        state = self._states.get(address or "")
        if address is None or state is None or state.worker_id != worker_id:
            return
        try:
            async with asyncio.timeout(_ASK_SECONDS):
                async with self._workers.connect(WorkerHandle(worker_id, address)) as link:
                    if not reusable:
                        await link.end_worker("" if attempt is None else str(attempt))
                    elif attempt is not None:
                        # A claim that no attempt has taken; afterwards it is known to be idle.
                        self._take_in(address, await link.claim(str(attempt), 0.0))
        except WorkerBusy:
            return  # It is another's by now.
        except (Unavailable, Misconfigured, TimeoutError) as error:
            log.warning("worker could not be released", extra={"worker": worker_id, "error": str(error)})
        if not reusable:
            log.info("worker asked to end", extra={"worker": worker_id})
            if address in self._wake:
                self._wake[address].set()

    async def disown(self, worker_id: WorkerId) -> None:
        self._held.pop(worker_id, None)

    def slots(self) -> int:
        self._start()
        acquiring = self._acquisitions.attempts()
        return sum(
            state.usable(self._build) and self._user(state) in {None, *acquiring} for state in self._listed()
        )

    async def view(self) -> Sequence[WorkerView]:
        self._start()
        return [self._view(state) for state in self._states.values()]

    async def survey(self, also: Collection[WorkerId] = ()) -> Sequence[WorkerView]:
        """A host that does not answer is shown as unhealthy, with the worker that was there."""
        self._start()
        await asyncio.gather(*(self._look(address) for address in [*self._watching]))
        ended = [
            WorkerView(worker_id, WorkerHealth.GONE, 0.0, detail=how, stoppable=False)
            for worker_id, how in self._ended.items()
        ]
        return [*await self.view(), *ended]

    async def stop(self, worker_id: WorkerId, reason: str) -> None:
        """Does not wait for its end. It is started again by what runs it there."""
        address = address_of(worker_id)
        if address is None or (await self._look(address)).worker_id != worker_id:
            raise NotFound("worker", worker_id)
        async with self._workers.connect(WorkerHandle(worker_id, address)) as link:
            await link.end_worker()
        log.info("worker asked to end", extra={"worker": worker_id, "reason": reason})

    async def close(self) -> None:
        """Workers go on; attempts on them are found again by the next process."""
        await self._acquisitions.close()
        tasks = [*self._watching.values(), *filter(None, [self._reading])]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._watching.clear()

    # -- choosing --------------------------------------------------------------------------

    async def _acquire(self, need: WorkerNeed) -> WorkerHandle:
        if need.reserved:
            raise Misconfigured(SETTING, "workers on hosts are always ready, and are not reserved")
        self._start()
        await asyncio.gather(*(self._look(address, at_least=1) for address in self._hosts.addresses))
        attempt = str(need.attempt)
        for state in self._listed():
            if state.user == attempt and (handle := await self._claimed(state, attempt)) is not None:
                return handle
        idle = [s for s in self._listed() if s.usable(self._build) and self._user(s) is None]
        for state in sorted(idle, key=lambda state: self._used.get(state.address, 0)):
            # Looked at again: another acquisition of this process may have been faster.
            if self._user(self._states[state.address]) is not None:
                continue
            if (handle := await self._claimed(state, attempt)) is not None:
                return handle
        listed = self._listed()
        usable = sum(state.usable(self._build) for state in listed)
        raise NoCapacity(f"({usable} of {len(listed)} workers on hosts answer, none of them is idle)")

    async def _claimed(self, state: HostState, attempt: str) -> WorkerHandle | None:
        """The worker, held for the attempt; None: it is somebody else's, or does not answer."""
        worker_id = state.worker_id
        if worker_id is None:
            return None
        self._held[worker_id] = attempt
        self._uses += 1
        self._used[state.address] = self._uses
        handle = WorkerHandle(worker_id, state.address)
        claimed = False
        try:
            async with asyncio.timeout(_ASK_SECONDS), self._workers.connect(handle) as link:
                answer = await link.claim(attempt, _CLAIM_SECONDS)
            self._take_in(state.address, answer)
            current = self._states[state.address]
            claimed = current.worker_id == worker_id and current.usable(self._build)
        except WorkerBusy:
            self._wake[state.address].set()
        except (WorkerLost, Misconfigured, TimeoutError) as error:
            log.warning("worker not claimed", extra={"worker": worker_id, "error": str(error)})
            self._take_in(state.address, Unreachable(str(error)))
        finally:
            if not claimed and self._held.get(worker_id) == attempt:
                del self._held[worker_id]
        return handle if claimed else None

    def _listed(self) -> list[HostState]:
        return [self._states[address] for address in self._hosts.addresses if address in self._states]

    def _user(self, state: HostState) -> str | None:
        held = self._held.get(state.worker_id) if state.worker_id is not None else None
        return held if held is not None else state.user

    def _view(self, state: HostState) -> WorkerView:
        listed = state.address in self._hosts.addresses
        detail = state.detail
        if state.reachable and state.build != self._build:
            detail = f"it is of another build ({state.build})"
        elif not listed:
            detail = f"no longer listed; {detail}".rstrip("; ")
        return WorkerView(
            state.worker_id or WorkerId(state.address),
            state.health(self._build),
            state.started_at,
            self._user(state) or None,
            detail,
            launched_for=None,
            warm=listed and state.usable(self._build) and self._user(state) is None,
            # By an operator's wish only: an idle worker of a host is no orphan.
            stoppable=False,
        )

    # -- watching --------------------------------------------------------------------------

    def _start(self) -> None:
        if self._reading is None and not self._acquisitions.closed:
            self._reading = asyncio.create_task(self._read_list(), name="worker hosts")
        for address in self._hosts.addresses:
            self._watch(address)

    def _watch(self, address: str) -> None:
        if address in self._watching or self._acquisitions.closed:
            return
        self._states.setdefault(address, HostState(address))
        self._wake[address] = asyncio.Event()
        self._watching[address] = asyncio.create_task(self._ask_often(address), name=f"worker {address}")

    async def _read_list(self) -> None:
        while True:
            await asyncio.sleep(self._poll_seconds)
            await asyncio.to_thread(self._hosts.refresh)
            self._start()
            for address in [*self._watching]:
                state = self._states[address]
                if address not in self._hosts.addresses and self._user(state) is None:
                    self._watching.pop(address).cancel()
                    del self._states[address], self._wake[address]
            self._notify()

    async def _ask_often(self, address: str) -> None:
        wake = self._wake[address]
        while True:
            wake.clear()
            answer = await self._ask(address)
            self._take_in(address, answer)
            self._rounds[address] = self._rounds.get(address, 0) + 1
            self._notify()
            # The second question to one that refused decides whether it has ended.
            refused = self._states[address].refusals == 1
            with suppress(TimeoutError):
                async with asyncio.timeout(min(1.0, self._poll_seconds) if refused else self._poll_seconds):
                    await wake.wait()

    async def _ask(self, address: str) -> object:
        handle = WorkerHandle(self._states[address].worker_id or WorkerId(address), address)
        try:
            async with asyncio.timeout(_ASK_SECONDS), self._workers.connect(handle) as link:
                return await link.describe()
        except WorkerLost as error:
            return Unreachable(error.detail, isinstance(error.__cause__, ConnectionRefusedError))
        except TimeoutError:
            return Unreachable("it does not answer")
        except Misconfigured as error:
            return Unreachable(str(error))
        except Exception as error:
            log.exception("a worker cannot be asked", extra={"address": address})
            return Unreachable(type(error).__name__)

    async def _look(self, address: str, at_least: int | None = None) -> HostState:
        """What a question answers that begins now; with `at_least`: any, once there were so many."""
        self._start()
        self._watch(address)
        wanted = at_least or self._rounds.get(address, 0) + 2
        if at_least is None:
            self._wake[address].set()
        with suppress(TimeoutError):
            async with asyncio.timeout(2 * _ASK_SECONDS):
                while self._rounds.get(address, 0) < wanted and address in self._states:
                    if at_least is None:
                        self._wake[address].set()
                    await self._changed.wait()
        return self._states.get(address) or HostState(address)

    def _take_in(self, address: str, answer: object) -> None:
        before = self._states.get(address)
        if before is None:
            return
        after, ended = observe(before, answer, self._clock())
        self._states[address] = after
        for worker_id, how in ended.items():
            log.info("worker ended", extra={"worker": worker_id, "how": how})
            self._ended[worker_id] = how
            self._held.pop(worker_id, None)
        for worker_id in [*self._ended][:-_REMEMBERED]:
            del self._ended[worker_id]
        self._let_go_unseen(after)
        if after.reachable != before.reachable or after.worker_id != before.worker_id:
            log.info(
                "worker answers" if after.reachable else "worker does not answer",
                extra={"address": address, "detail": after.detail},
            )
        if after != before:
            self._notify()

    def _let_go_unseen(self, state: HostState) -> None:
        """Whoever lost the job's lease gives no worker back: what it was held for may be over elsewhere."""
        worker_id, unseen = state.worker_id, self._unseen.pop(state.address, None)
        held = None if worker_id is None else self._held.get(worker_id)
        if worker_id is None or held is None or not state.reachable:
            return
        if state.user is not None and held in {"", *state.attempts, state.claimed_by}:
            return
        now = self._clock()
        if unseen is None or unseen[:2] != (worker_id, held):
            self._unseen[state.address] = (worker_id, held, now)
        elif now - unseen[2] < _UNSEEN_SECONDS:
            self._unseen[state.address] = unseen
        else:
            log.info("worker let go, it does not work for us", extra={"worker": worker_id, "attempt": held})
            del self._held[worker_id]
            self._notify()

    def _notify(self) -> None:
        event, self._changed = self._changed, asyncio.Event()
        event.set()
