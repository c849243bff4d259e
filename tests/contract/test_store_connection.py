"""The connection to the store: durable, silent about secrets, and with a clock of its own."""

from __future__ import annotations

import asyncio
import gc
import warnings
from datetime import UTC, timedelta

import pytest
from pymongo.errors import DuplicateKeyError, NetworkTimeout, OperationFailure

from gooseherd.domain.errors import Misconfigured, StoreUnavailable
from gooseherd.domain.ports.store import StoreRefused
from gooseherd.settings import Settings
from gooseherd.store.mongo.clock import StoreClock
from gooseherd.store.mongo.connect import CODEC, connect, durable, ping, translated
from gooseherd.store.mongo.turns import Turns
from gooseherd.wiring.store import open_store


async def test_writes_wait_for_the_majority_and_the_journal():
    db = connect("mongodb://127.0.0.1:1/", "any")
    assert db.write_concern.document == {"w": "majority", "j": True}
    await db.client.close()


async def test_a_place_in_the_queue_is_not_waited_for():
    """Its loss costs fairness only; the job that has it waits for the journal."""
    db = connect("mongodb://127.0.0.1:1/", "any")
    assert vars(Turns(db))["_turns"].write_concern.document == {"w": 1, "j": False}
    await db.client.close()


async def test_what_the_url_says_wins():
    db = connect(
        "mongodb://127.0.0.1:1/?retryWrites=false&SERVERSELECTIONTIMEOUTMS=70&w=1&appName=mine", "any"
    )
    assert db.client.options.retry_writes is False
    assert db.client.options.server_selection_timeout == 0.07
    assert db.client.options.pool_options.appname == "mine"
    assert db.write_concern.document["w"] == 1
    assert durable(db, "jobs").write_concern.document == {"w": "majority", "j": True}
    await db.client.close()


@pytest.mark.parametrize(
    "url", ["", "nonsense", "http://u:s3cret@host/", "mongodb://u:s3cret@host:port/", "mongodb://"]
)
def test_a_url_that_cannot_be_used_is_told_without_repeating_it(url):
    with pytest.raises(Misconfigured) as caught:
        connect(url, "any")
    assert caught.value.setting == "DATABASE_URL"
    assert "s3cret" not in str(caught.value)
    assert caught.value.__cause__ is None


@pytest.mark.parametrize(
    ("driver", "domain"),
    [
        (NetworkTimeout("host:1 timed out"), StoreUnavailable),
        (OperationFailure("not primary", 10107), StoreUnavailable),
        (OperationFailure("auth failed", 18), StoreRefused),
        (DuplicateKeyError("E11000"), StoreUnavailable),
        (ValueError("ours"), ValueError),
    ],
)
def test_driver_errors_become_the_domains(driver, domain):
    with pytest.raises(domain), translated("asking"):
        raise driver


@pytest.mark.integration
async def test_the_clock_is_the_stores(database):
    clock = StoreClock(database, refresh_seconds=0)
    for _ in range(5):
        before = await database.client.admin.command("hello", codec_options=CODEC)
        now = await clock.now()
        after = await database.client.admin.command("hello", codec_options=CODEC)
        slack = (after["localTime"] - before["localTime"]) / 2 + timedelta(milliseconds=2)
        assert before["localTime"] - slack <= now <= after["localTime"] + slack
        assert now.tzinfo is UTC
        assert now.microsecond % 1000 == 0


@pytest.mark.integration
async def test_the_clock_asks_once_for_many_and_goes_on_by_itself(database):
    asked = 0

    class Counted:
        class client:  # noqa: N801
            class admin:  # noqa: N801
                @staticmethod
                async def command(*args, **kwargs):
                    nonlocal asked
                    asked += 1
                    return await database.client.admin.command(*args, **kwargs)

    await ping(database)
    clock = StoreClock(Counted)  # type: ignore[arg-type]
    times = await asyncio.gather(*(clock.now() for _ in range(20)))
    assert asked <= 3
    first = asked
    assert await clock.now() >= max(times)
    assert asked == first


@pytest.mark.integration
async def test_all_that_a_process_keeps_in_a_store_goes_by_one_clock(database_url, database):
    """Two are apart by half a round trip: what was written later could have the earlier time."""
    async with open_store(Settings(database_url=database_url, database_name=database.name)) as store:
        kept: list[object] = [
            store.jobs,
            store.reservations,
            store.batches,
            store.access,
            store.keys,
            store.usage,
        ]
        assert len({id(vars(port)["_clock"]) for port in kept}) == 1


async def test_a_server_without_a_clock_is_refused():
    class Silent:
        class client:  # noqa: N801
            class admin:  # noqa: N801
                @staticmethod
                async def command(*args, **kwargs):
                    return {"ok": 1}

    with pytest.raises(Misconfigured, match="localTime"):
        await StoreClock(Silent).now()  # type: ignore[arg-type]


async def test_a_cancellation_during_a_call_is_never_lost(database):
    async def call() -> None:
        await ping(database)
        await asyncio.sleep(0)  # Only a call that had ended before can be let through.

    await ping(database)
    lost = 0
    for number in range(300):
        task = asyncio.create_task(call())
        async with asyncio.timeout(10):
            await asyncio.sleep(number % 30 / 10_000)
            ended = task.done()
            task.cancel()
            await asyncio.wait({task})
        lost += not ended and not task.cancelled()
    assert lost == 0


async def test_a_cancellation_while_it_connects_leaves_no_socket_to_the_collector(database_url):
    """Python would warn of it in another test."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", ResourceWarning)
        for turns in range(40):
            db = connect(database_url, "any")
            await ping(db)
            calls = [asyncio.create_task(ping(db)) for _ in range(8)]
            for _ in range(turns % 8):
                await asyncio.sleep(0)
            for call in calls:
                call.cancel()
            await asyncio.gather(*calls, return_exceptions=True)
            await db.client.close()
        gc.collect()
    assert [str(warning.message) for warning in caught] == []
