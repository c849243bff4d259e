"""The loop of batches: their files are submitted bit by bit, and what becomes of each is written down.

Any API process may look after any batch; which one submits its files is a short lease in the store. Each
member is recorded by a conditional write after its job was claimed: what a process that died had submitted
and not recorded is submitted again by the next one, which attaches it to the same job.

| seen of a batch | what is done |
| --- | --- |
| another process holds it | nothing |
| jobs of members stand otherwise than recorded | recorded; queue_expired: it waits again |
| to be cancelled | what waits is cancelled; its requester leaves jobs that no other batch of theirs wants |
| older than the time to live of batches | what waits fails with queue_expired |
| files wait, and the requester's share has room | so many are looked up and submitted, at priority batch |
| no member is left | its end is written down |
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Final

from gooseherd.control.loop import Loop
from gooseherd.control.submission import Submissions
from gooseherd.control.wakeups import Wakeup
from gooseherd.domain.batch import (
    IN_FLIGHT,
    Batch,
    BatchId,
    Member,
    MemberChange,
    MemberState,
    member_change,
)
from gooseherd.domain.errors import (
    AlreadyFailed,
    Conflict,
    Gone,
    InvalidInput,
    LimitReached,
    Misconfigured,
    NotCancellable,
    NotFound,
    UnsupportedFormat,
)
from gooseherd.domain.failures import Reason
from gooseherd.domain.job import JobId, Owner, Requester
from gooseherd.domain.keys import Recipe
from gooseherd.domain.ports.batches import (
    BatchStore,
)
from gooseherd.domain.ports.store import Claim, JobStore
from gooseherd.domain.queueing import Priority
from gooseherd.domain.source import SourceFile
from gooseherd.domain.states import Status
from gooseherd.domain.visibility import Visibility

_log = logging.getLogger(__name__)

_MOST_UNFINISHED: Final = 1000
"""Batches that one pass looks at; the limit of open ones is far below."""
_SUBMITTED_PER_PASS: Final = 400
"""Jobs, over all batches: the next pass follows at once when there is more to do."""
_PAGE: Final = 500
"""Members that are read at a time."""
_AT_ONCE: Final = 8
"""Files that are looked up and submitted at the same time; each is some round trips."""
_HELD: Final = timedelta(seconds=30)
"""How long the files of a process that died wait for another one; renewed every ten."""
_SECONDS_PER_BATCH: Final = 5.0
"""After that long it is another batch's turn."""
Servable = Callable[[str, str, Visibility], Awaitable[SourceFile]]
"""The catalog's entry if it is seen and its bytes may leave. Raises NotFound, Gone, InvalidInput."""
Described = Callable[[SourceFile], Awaitable[SourceFile]]
"""The entry once its source was asked for a size and version that it lacks."""


class BatchHeld(Conflict):
    """Another process looks after the batch, or it has ended."""


@dataclass(frozen=True, slots=True)
class BatchTiming:
    """Pace and patience of batches."""

    pending_per_requester: int
    """The limit of a requester's pending jobs; batches take half of it, so that a click still finds room."""
    ttl: timedelta = timedelta(days=7)
    """From when on files that still wait are given up."""
    look_again_seconds: float = 1.0
    """While batches are under way: their jobs may be ended by any process."""

    @property
    def share(self) -> int:
        """How many pending jobs of one requester batches fill the queue up to."""
        return max(1, self.pending_per_requester // 2)


@dataclass(frozen=True, slots=True)
class BatchesSnapshot:
    """Batches under way, by the store's clock; `pending` are their requesters' jobs in the queue."""

    now: datetime
    batches: Sequence[Batch]
    pending: Mapping[Requester, int]
    owner: Owner
    """Who looks, under the same name after a restart."""


@dataclass(frozen=True, slots=True)
class AdvanceBatch:
    """Record what has become of its members, and submit at most `room` new jobs."""

    batch: Batch
    room: int
    expired: bool = False


def plan(seen: BatchesSnapshot, timing: BatchTiming) -> list[AdvanceBatch]:
    """Who gets how much room: each requester up to their share, their batches equally, all within a pass."""
    mine = [
        batch
        for batch in seen.batches
        if batch.held_by in (None, seen.owner) or batch.held_until is None or batch.held_until <= seen.now
    ]
    per_batch = max(1, _SUBMITTED_PER_PASS // max(1, len(mine)))
    of_requester: dict[Requester, list[Batch]] = {}
    for batch in mine:
        if batch.count(MemberState.WAITING) and not batch.cancel_requested:
            of_requester.setdefault(batch.requester, []).append(batch)
    rooms: dict[BatchId, int] = {}
    for requester, wanting in of_requester.items():
        room = max(0, timing.share - seen.pending.get(requester, 0))
        for position, batch in enumerate(wanting):
            # What does not divide goes to the oldest.
            fair = room // len(wanting) + (position < room % len(wanting))
            rooms[batch.batch_id] = min(fair, per_batch)
    return [
        AdvanceBatch(batch, rooms.get(batch.batch_id, 0), expired=seen.now - batch.created_at > timing.ttl)
        for batch in mine
    ]


class BatchLoop:
    """Looks after the batches under way. `servable` and `described` are the catalog's."""

    def __init__(
        self,
        *,
        batches: BatchStore,
        jobs: JobStore,
        submissions: Submissions,
        servable: Servable,
        described: Described,
        owner: Owner,
        timing: BatchTiming,
        tick_seconds: float,
    ) -> None:
        self._batches = batches
        self._jobs = jobs
        self._submissions = submissions
        self._servable = servable
        self._described = described
        self._owner = owner
        self._look_again_seconds = timing.look_again_seconds
        self._share = timing.share
        self.wakeup = Wakeup()
        """To be notified when a batch was stored or cancelled."""
        self.loop: Loop[BatchesSnapshot, AdvanceBatch] = Loop(
            "batches",
            observe=self._observe,
            plan=lambda seen: plan(seen, timing),
            act=self._act,
            wakeup=self.wakeup,
            tick_seconds=tick_seconds,
        )

    async def _observe(self) -> BatchesSnapshot:
        loop = asyncio.get_running_loop()
        began = loop.time()
        found = await self._batches.unfinished(_MOST_UNFINISHED)
        if found:
            # Many large batches take a while to count: a tenth of the time at most.
            pause = max(self._look_again_seconds, 10 * (loop.time() - began))
            loop.call_later(pause, self.wakeup.notify)
        waiting = {batch.requester for batch in found if batch.count(MemberState.WAITING)}
        pending = {
            requester: await self._jobs.pending_of(requester, self._share) for requester in sorted(waiting)
        }
        return BatchesSnapshot(await self._jobs.now(), found, pending, self._owner)

    async def _act(self, action: AdvanceBatch) -> None:
        batch = action.batch
        await self._hold(batch)
        await self._record_outcomes(batch)
        if batch.cancel_requested:
            await self._withdraw_all(batch)
        elif action.expired:
            await self._give_up(batch)
        elif action.room:
            await self._submit_some(batch, action.room)
        if await self._batches.end(batch.batch_id):
            _log.info("batch ended", extra={"batch_id": batch.batch_id, "files": batch.total})

    async def _hold(self, batch: Batch) -> None:
        if not await self._batches.hold(batch.batch_id, self._owner, _HELD):
            raise BatchHeld(batch.batch_id)

    async def _record_outcomes(self, batch: Batch) -> None:
        changes = []
        for member, outcome in await self._batches.moved(batch.batch_id, _PAGE):
            change = member_change(member, outcome)
            if change is None:
                continue
            if change.detail and member.job_id is not None:
                job = await self._jobs.get(member.job_id)
                detail = job.detail_for(member.dcc, member.local_id, batch.visible) if job is not None else ""
                change = replace(change, detail=detail)
            changes.append(change)
        if changes:
            await self._batches.record(batch.batch_id, changes)

    async def _submit_some(self, batch: Batch, room: int) -> None:
        """As many files as make `room` new jobs: those that are ready already take none."""
        clock = asyncio.get_running_loop().time
        until, holding_until = clock() + _SECONDS_PER_BATCH, clock() + _HELD.total_seconds() / 3
        after = -1
        while room > 0 and clock() < until:
            size = min(_AT_ONCE, room)
            members = await self._batches.members(
                batch.batch_id, MemberState.WAITING, limit=size, after=after
            )
            if not members:
                return
            after = members[-1].number
            # Looked up at once, submitted one after the other: so limits are not exceeded.
            looked_up = await asyncio.gather(*(self._look_up(member, batch.visible) for member in members))
            changes = []
            for member, found in zip(members, looked_up, strict=True):
                change = (
                    found if isinstance(found, MemberChange) else await self._submit(batch, member, *found)
                )
                if change is not None:
                    changes.append(change)
            recorded = await self._batches.record(batch.batch_id, changes)
            if recorded < len(changes):
                await self._withdraw_unrecorded(batch, changes)
                return
            if len(changes) < len(members):
                return  # a limit is reached, or a dependency is away
            room -= sum(change.state in IN_FLIGHT for change in changes)
            if clock() > holding_until:
                await self._hold(batch)
                holding_until = clock() + _HELD.total_seconds() / 3
        self.wakeup.notify()

    async def _look_up(self, member: Member, visible: Visibility) -> MemberChange | tuple[SourceFile, Recipe]:
        """What a file that waits has become already, or what is to be submitted."""
        try:
            entry = await self._servable(member.dcc, member.local_id, visible)
            wanted = await self._submissions.unmade(entry, self._described)
        except (NotFound, Gone) as error:
            return _failed(member, Reason.SOURCE_MISSING, str(error))
        except UnsupportedFormat as error:
            return _failed(member, Reason.UNSUPPORTED_FORMAT, str(error))
        except InvalidInput as error:
            return _failed(member, Reason.SOURCE_INVALID, str(error))
        except Misconfigured as error:
            return _failed(member, Reason.MISCONFIGURED, error.problem)
        return _becomes(member, MemberState.READY) if wanted is None else wanted

    async def _submit(
        self, batch: Batch, member: Member, entry: SourceFile, recipe: Recipe
    ) -> MemberChange | None:
        """None: a limit is reached, so the file goes on waiting."""
        try:
            job = (await self._claim(batch, entry, recipe)).job
        except AlreadyFailed as error:
            return _failed(member, Reason(error.reason), error.detail, JobId(error.job_id))
        except LimitReached:
            return None
        if job.status is Status.COMPLETED:
            return _becomes(member, MemberState.READY, job.job_id)
        running = job.status is not Status.PENDING
        return _becomes(member, MemberState.RUNNING if running else MemberState.PENDING, job.job_id)

    async def _claim(self, batch: Batch, entry: SourceFile, recipe: Recipe) -> Claim:
        """The file's job. One that only waited too long in the queue says nothing against another."""

        async def submit(retry: bool) -> Claim:
            return await self._submissions.submit(
                entry,
                recipe,
                requester=batch.requester,
                priority=Priority.BATCH,
                retry=retry,
                visible=batch.visible,
            )

        try:
            return await submit(batch.retry)
        except AlreadyFailed as error:
            if error.reason != Reason.QUEUE_EXPIRED:
                raise
            return await submit(retry=True)

    async def _withdraw_unrecorded(self, batch: Batch, changes: Sequence[MemberChange]) -> None:
        """The batch was cancelled while these were submitted."""
        recorded = {
            member.job_id
            for state in sorted(IN_FLIGHT)
            for member in await self._batches.members(batch.batch_id, state, limit=batch.total + 1)
        }
        for change in changes:
            if change.job_id is not None and change.state in IN_FLIGHT and change.job_id not in recorded:
                await self._withdraw(batch, change.job_id)

    async def _withdraw_all(self, batch: Batch) -> None:
        # Again, for what has come to wait since: its job had waited too long in the queue, or whoever was
        # asked to cancel died between the flag and the members.
        await self._batches.cancel(batch.batch_id)
        for state in sorted(IN_FLIGHT):
            members = await self._batches.members(batch.batch_id, state, limit=_PAGE)
            changes = []
            for member in members:
                if member.job_id is None or await self._withdraw(batch, member.job_id):
                    cancelled = MemberState.CANCELLED
                    changes.append(
                        MemberChange(member.number, state, cancelled, member.job_id, Reason.CANCELLED)
                    )
            await self._batches.record(batch.batch_id, changes)

    async def _withdraw(self, batch: Batch, job_id: JobId) -> bool:
        """Let go of a job, for this batch. False: it is about to end by itself, and that will count."""
        if await self._batches.wanted_by_another(batch.batch_id, job_id, batch.requester):
            return True
        with suppress(NotFound):
            job = await self._submissions.job(job_id)
            if job.status.terminal:
                return False
            # More urgent than a batch: somebody has asked for the file itself, perhaps the same requester.
            if job.priority is Priority.BATCH:
                try:
                    await self._submissions.withdraw(job_id, batch.requester)
                except NotCancellable:
                    return False
        return True

    async def _give_up(self, batch: Batch) -> None:
        members = await self._batches.members(batch.batch_id, MemberState.WAITING, limit=_PAGE)
        detail = "the batch is older than the longest that one may take"
        await self._batches.record(
            batch.batch_id,
            [
                MemberChange(m.number, m.state, MemberState.FAILED, None, Reason.QUEUE_EXPIRED, detail)
                for m in members
            ],
        )


def _becomes(member: Member, state: MemberState, job_id: JobId | None = None) -> MemberChange:
    return MemberChange(member.number, member.state, state, job_id)


def _failed(member: Member, reason: Reason, detail: str, job_id: JobId | None = None) -> MemberChange:
    return MemberChange(member.number, member.state, MemberState.FAILED, job_id, reason, detail)
