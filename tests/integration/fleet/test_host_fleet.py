"""Workers on hosts, each a loopback address of its own, over mutual TLS with a certificate for each host."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
from collections.abc import AsyncIterator
from contextlib import suppress
from functools import partial
from pathlib import Path

import pytest
from tests.integration.fleet.conftest import Yard, processes_of, until
from tests.integration.fleet.host import Host

from gooseherd import certs, telemetry
from gooseherd.domain.attempt import AttemptSpec, EventKind
from gooseherd.domain.errors import AttemptLost, Misconfigured, NoCapacity, WorkerLost
from gooseherd.domain.failures import Reason
from gooseherd.domain.job import WorkerId
from gooseherd.domain.ports.fleet import WorkerHandle, WorkerHealth, WorkerNeed, WorkerView
from gooseherd.fleet import host_fleet
from gooseherd.fleet.certificate_expiry import CertificateWatch
from gooseherd.fleet.host_fleet import HostFleet
from gooseherd.fleet.host_list import HostList
from gooseherd.fleet.wool_workers import WoolWorkers
from gooseherd.worker.settings import build_id
from gooseherd.worker.tls import Certificates

pytestmark = [pytest.mark.integration, pytest.mark.slow]


class Lan:
    """Hosts and the services that share them."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.ca = root / "ca"
        certs.make_all(self.ca)
        self._specs = Yard(root / "yard")
        self.hosts: list[Host] = []
        self._fleets: list[HostFleet] = []
        certificates = Certificates(*(str(self.ca / name) for name in ("ca.pem", "api.pem", "api.key")))
        self.workers = WoolWorkers(
            silence_seconds=12.0,
            credentials=certificates.to_call(),
            credentials_of_host=certificates.to_call,
            watch=CertificateWatch(certificates, by_host=True),
        )

    def add(self, ca: Path | None = None, *, start: bool = True, **environment: str) -> Host:
        host = Host(self.root, len(self.hosts) + 2, ca or self.ca)
        self.hosts.append(host)
        if start:
            host.start(**environment)
        return host

    def fleet(self, listed: str | None = None) -> HostFleet:
        value = listed or ",".join(host.address for host in self.hosts)
        fleet = HostFleet(hosts=HostList(value), workers=self.workers, build=build_id(), poll_seconds=0.3)
        self._fleets.append(fleet)
        return fleet

    async def ready(self, fleet: HostFleet, count: int) -> None:
        try:
            await until(lambda: fleet.slots() == count, f"{count} workers are ready")
        except AssertionError as error:
            logs = [host.log() for host in self.hosts]
            raise AssertionError(f"{error}; {await fleet.view()}; {logs}") from None

    async def shown(self, fleet: HostFleet, address: str, health: WorkerHealth, detail: str) -> None:
        views: list[WorkerView] = []
        for _ in range(600):
            views = [view for view in await fleet.view() if view.worker_id.startswith(address)]
            if [view.health for view in views] == [health] and detail in views[0].detail:
                return
            await asyncio.sleep(0.1)
        raise AssertionError(views)

    def spec(self, wish: str) -> AttemptSpec:
        return self._specs.spec(wish)

    def open_gate(self) -> None:
        (self.root / "open").touch()

    async def run(self, worker: WorkerHandle, spec: AttemptSpec) -> EventKind:
        async with self.workers.connect(worker) as link:
            await link.start_attempt(spec)
            return [event async for event in link.watch_attempt(spec.attempt, 1)][-1].kind

    async def close(self) -> None:
        for fleet in self._fleets:
            await fleet.close()
        for host in self.hosts:
            if host.process is not None and host.process.poll() is None:
                await asyncio.to_thread(host.end)
            host.close()


def need(spec: AttemptSpec, *, reserved: bool = False) -> WorkerNeed:
    return WorkerNeed(spec.attempt, spec.source.file_format, None, reserved=reserved)


@pytest.fixture
async def lan(tmp_path: Path) -> AsyncIterator[Lan]:
    lan = Lan(tmp_path)
    yield lan
    await lan.close()
    await until(lambda: not processes_of(tmp_path), "no process left")


async def test_attempts_run_on_different_hosts_until_none_is_idle(lan: Lan) -> None:
    lan.add(), lan.add()
    fleet = lan.fleet()
    await lan.ready(fleet, 2)
    specs = [lan.spec("quick") for _ in range(3)]
    first, second = await asyncio.gather(*(fleet.acquire(need(spec)) for spec in specs[:2]))
    assert {first.address, second.address} == {host.address for host in lan.hosts}
    assert fleet.slots() == 0
    with pytest.raises(NoCapacity, match="2 of 2 workers on hosts answer, none of them is idle"):
        await fleet.acquire(need(specs[2]))
    # Again for the same attempt: the same worker.
    assert await fleet.acquire(need(specs[0])) == first
    assert await lan.run(first, specs[0]) is EventKind.DONE
    await fleet.release(first.worker_id, reusable=True, attempt=specs[0].attempt)
    assert fleet.slots() == 1
    assert (await fleet.acquire(need(specs[2]))).worker_id == first.worker_id


async def test_the_metrics_have_the_end_of_the_certificate_that_each_host_shows(lan: Lan) -> None:
    for days in (10, 40):
        host = lan.add(start=False)
        certs.make_host(lan.ca, host.name, host.root / "certs", days=days)
        host.start()
    await lan.ready(lan.fleet(), 2)
    assert lan.workers.watch is not None
    for host in lan.hosts:
        await until(partial(has_shown, host.address), "its certificate was seen")
        assert (
            shown_end(host.address)
            == certs.expiry((host.root / "certs" / "worker.pem").read_bytes()).timestamp()
        )


def has_shown(address: str) -> bool:
    return shown_end(address) is not None


def shown_end(address: str) -> float | None:
    role = {"role": f"worker {address}"}
    return telemetry.REGISTRY.get_sample_value("gooseherd_certificate_expiry_timestamp_seconds", role)


async def test_two_services_that_share_hosts_never_get_one_worker(lan: Lan) -> None:
    lan.add(), lan.add(), lan.add()
    fleets = [lan.fleet(), lan.fleet()]
    for fleet in fleets:
        await lan.ready(fleet, 3)
    specs = [lan.spec("hold") for _ in range(6)]
    results = await asyncio.gather(
        *(fleets[number % 2].acquire(need(spec)) for number, spec in enumerate(specs)),
        return_exceptions=True,
    )
    got = [result for result in results if isinstance(result, WorkerHandle)]
    assert len(got) == len({worker.worker_id for worker in got}) == 3
    assert all(isinstance(result, WorkerHandle | NoCapacity) for result in results)
    # What one took, the other sees as taken although it has not begun.
    for fleet in fleets:
        await lan.ready(fleet, 0)


async def test_a_service_that_was_away_does_not_end_the_attempt_of_another(lan: Lan) -> None:
    host = lan.add()
    before, other = lan.fleet(), lan.fleet()
    await lan.ready(before, 1)
    mine, theirs = lan.spec("quick"), lan.spec("hold")
    worker = await before.acquire(need(mine))
    assert await lan.run(worker, mine) is EventKind.DONE
    await before.close()
    await other.survey()
    claimed = await other.acquire(need(theirs))
    assert claimed == worker
    after = lan.fleet()
    await after.survey()
    # While it is only claimed, and while the attempt runs.
    await after.release(worker.worker_id, reusable=False, attempt=mine.attempt)
    async with lan.workers.connect(claimed) as link:
        await link.start_attempt(theirs)
    await after.release(worker.worker_id, reusable=False, attempt=mine.attempt)
    lan.open_gate()
    assert await lan.run(claimed, theirs) is EventKind.DONE
    # Whose it is, or was last, may end it.
    await other.release(worker.worker_id, reusable=False, attempt=theirs.attempt)
    assert host.process is not None
    assert await asyncio.to_thread(host.process.wait, 30) == 0


async def test_a_killed_worker_is_gone_and_the_next_on_that_host_is_another(lan: Lan) -> None:
    host, other = lan.add(), lan.add()
    fleet = lan.fleet()
    await lan.ready(fleet, 2)
    spec = lan.spec("hold")
    worker = await fleet.acquire(need(spec))
    if worker.address != host.address:
        host, other = other, host
    ending = asyncio.create_task(fleet.gone(worker.worker_id))
    async with lan.workers.connect(worker) as link:
        await link.start_attempt(spec)
        stream = link.watch_attempt(spec.attempt, 1)
        await anext(stream)
        assert not ending.done()
        assert host.process is not None
        os.kill(host.process.pid, signal.SIGKILL)
        host.process.wait(30)
        with pytest.raises(WorkerLost):
            async for _ in stream:
                pass
    assert await asyncio.wait_for(ending, 30) == "the worker ended: nothing listens on its port"
    assert await fleet.verdict(worker.worker_id) is Reason.WORKER_LOST
    assert await fleet.find(worker.worker_id) is None
    # Not reusable, and nothing is there: no harm is done to whoever comes next.
    await fleet.release(worker.worker_id, reusable=False, attempt=spec.attempt)
    assert (await fleet.acquire(need(lan.spec("quick")))).address == other.address
    host.start()
    await lan.ready(fleet, 1)
    again = await fleet.acquire(need(lan.spec("quick")))
    assert again.address == host.address
    assert again.worker_id != worker.worker_id
    assert await fleet.find(worker.worker_id) is None
    views = {view.worker_id: view.health for view in await fleet.survey()}
    assert views[worker.worker_id] is WorkerHealth.GONE
    assert views[again.worker_id] is WorkerHealth.HEALTHY


async def test_the_next_process_finds_the_attempt_of_the_one_before(lan: Lan) -> None:
    lan.add()
    before = lan.fleet()
    await lan.ready(before, 1)
    spec = lan.spec("hold")
    worker = await before.acquire(need(spec))
    async with lan.workers.connect(worker) as link:
        await link.start_attempt(spec)
    await before.close()
    after = lan.fleet()
    assert await after.find(worker.worker_id) == worker
    assert after.slots() == 0
    lan.open_gate()
    assert await lan.run(worker, spec) is EventKind.DONE
    await after.release(worker.worker_id, reusable=True, attempt=spec.attempt)
    assert after.slots() == 1


@pytest.mark.parametrize("found", [False, True])
async def test_a_worker_whose_attempt_is_over_and_that_nobody_gives_back_is_used_again(
    lan: Lan, monkeypatch: pytest.MonkeyPatch, *, found: bool
) -> None:
    monkeypatch.setattr(host_fleet, "_UNSEEN_SECONDS", 0.5)
    lan.add()
    fleet = lan.fleet()
    await lan.ready(fleet, 1)
    lost = lan.spec("hold")
    worker = await fleet.acquire(need(lost))
    await asyncio.sleep(1.5)  # Several answers that show its claim.
    assert fleet.slots() == 0
    async with lan.workers.connect(worker) as link:
        await link.start_attempt(lost)
    if found:  # By the process that was started next.
        await fleet.close()
        fleet = lan.fleet()
        assert await fleet.find(worker.worker_id) == worker
    await asyncio.sleep(1.5)  # And that show the attempt.
    assert fleet.slots() == 0
    lan.open_gate()
    assert await lan.run(worker, lost) is EventKind.DONE
    await lan.ready(fleet, 1)
    assert await fleet.acquire(need(lan.spec("quick"))) == worker
    # Whoever had it has been slow: nothing happens to the worker that is another's.
    await fleet.release(worker.worker_id, reusable=False, attempt=lost.attempt)
    assert await fleet.find(worker.worker_id) == worker
    assert fleet.slots() == 0


async def test_a_worker_with_a_certificate_of_another_ca_gets_nothing(lan: Lan, tmp_path: Path) -> None:
    certs.make_all(tmp_path / "strange")
    good, strange = lan.add(), lan.add(tmp_path / "strange")
    fleet = lan.fleet()
    await lan.ready(fleet, 1)

    await lan.shown(fleet, strange.address, WorkerHealth.UNHEALTHY, "TLS handshake failed")
    assert (await fleet.acquire(need(lan.spec("quick")))).address == good.address
    with pytest.raises(NoCapacity, match="1 of 2 workers on hosts answer"):
        await fleet.acquire(need(lan.spec("quick")))


async def test_the_certificate_of_one_host_is_not_another_s_and_the_pair_of_all_is_any_s(lan: Lan) -> None:
    good, impostor, common = lan.add(), lan.add(start=False), lan.add(start=False)
    for name in ("worker.pem", "worker.key"):
        shutil.copy(good.root / "certs" / name, impostor.root / "certs" / name)
        shutil.copy(lan.ca / name, common.root / "certs" / name)
    impostor.start()
    common.start()
    fleet = lan.fleet()
    await lan.ready(fleet, 2)
    await lan.shown(fleet, impostor.address, WorkerHealth.UNHEALTHY, "TLS handshake failed")
    specs = [lan.spec("quick") for _ in range(2)]
    workers = [await fleet.acquire(need(spec)) for spec in specs]
    assert {worker.address for worker in workers} == {good.address, common.address}
    for worker, spec in zip(workers, specs, strict=True):
        assert await lan.run(worker, spec) is EventKind.DONE


async def test_a_worker_of_another_build_is_shown_and_not_used(lan: Lan) -> None:
    lan.add(GOOSEHERD_BUILD="another")
    fleet = lan.fleet()
    with pytest.raises(NoCapacity):
        await fleet.acquire(need(lan.spec("quick")))
    await lan.shown(fleet, lan.hosts[0].address, WorkerHealth.UNHEALTHY, "it is of another build (another)")


async def test_a_worker_told_to_end_takes_nothing_more_and_ends_well(lan: Lan) -> None:
    host = lan.add()
    fleet = lan.fleet()
    await lan.ready(fleet, 1)
    worker = await fleet.acquire(need(lan.spec("quick")))
    await fleet.stop(worker.worker_id, "an operator asked for it")
    assert host.process is not None
    assert await asyncio.to_thread(host.process.wait, 30) == 0
    assert await asyncio.wait_for(fleet.gone(worker.worker_id), 30)
    assert fleet.slots() == 0


async def test_hosts_come_and_go_with_the_file_and_a_wrong_line_changes_nothing(
    lan: Lan, tmp_path: Path
) -> None:
    first, second = lan.add(), lan.add()
    listed = tmp_path / "hosts"
    listed.write_text(f"# the first\n{first.address}\n")
    fleet = lan.fleet(str(listed))
    await lan.ready(fleet, 1)
    spec = lan.spec("hold")
    worker = await fleet.acquire(need(spec))
    async with lan.workers.connect(worker) as link:
        await link.start_attempt(spec)
    listed.write_text(f"{second.address}\n")
    await lan.ready(fleet, 1)
    # Off the list and at work: it keeps what it has, and gets nothing more.
    assert await fleet.find(worker.worker_id) == worker
    listed.write_text("no address\n")
    await asyncio.sleep(1.0)
    assert (await fleet.acquire(need(lan.spec("quick")))).address == second.address
    with pytest.raises(NoCapacity):
        await fleet.acquire(need(lan.spec("quick")))
    lan.open_gate()
    assert await lan.run(worker, spec) is EventKind.DONE
    await fleet.release(worker.worker_id, reusable=True, attempt=spec.attempt)
    with suppress(AttemptLost):
        await fleet.disown(worker.worker_id)
    for _ in range(100):
        if [view.worker_id for view in await fleet.view() if first.name in view.worker_id] == []:
            break
        await asyncio.sleep(0.1)
    assert [view.worker_id for view in await fleet.view() if first.name in view.worker_id] == []


async def test_no_worker_is_reserved(lan: Lan) -> None:
    lan.add()
    with pytest.raises(Misconfigured, match="are not reserved"):
        await lan.fleet().acquire(need(lan.spec("quick"), reserved=True))


async def test_a_name_of_another_kind_of_fleet_is_nobody_here(lan: Lan) -> None:
    lan.add()
    fleet = lan.fleet()
    for name in ("w-0123456789ab", "0123456789abcdef0123456789abcdef"):
        assert await fleet.find(WorkerId(name)) is None
        assert await fleet.gone(WorkerId(name)) == "it was a worker of another kind of fleet"
