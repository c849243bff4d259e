"""WORKER_HOSTS, and what observations of a host mean."""

from __future__ import annotations

from pathlib import Path

import pytest
import wool

from gooseherd.domain.errors import Misconfigured, WorkerLost
from gooseherd.domain.job import WorkerId
from gooseherd.domain.ports.fleet import WorkerHandle, WorkerHealth
from gooseherd.fleet.host_list import HostList, parse
from gooseherd.fleet.host_state import HostState, Unreachable, address_of, observe
from gooseherd.fleet.wool_workers import WoolWorkers

ANSWER = {"build": "b", "instance": "i" * 32, "uptime_seconds": 5, "attempts": [], "draining": False}
REFUSED = Unreachable("nothing listens", refused=True)


def test_addresses_are_taken_from_a_list_or_a_file_each_once(tmp_path: Path) -> None:
    listed = HostList("one:50051, 10.0.0.2:50052,ONE:50051")
    assert listed.addresses == listed.refresh() == ("one:50051", "10.0.0.2:50052")
    file = tmp_path / "hosts"
    file.write_text("# ours\none.example.org:1\n\ntwo:2 # the second\n")
    assert HostList(str(file)).addresses == ("one.example.org:1", "two:2")


@pytest.mark.parametrize(
    "text", ["one", "one:0", "one:70000", "[::1]:50051", "a b:1", "-x:1", "x:1;y", "http://x:1"]
)
def test_what_is_no_address_is_refused(text: str) -> None:
    with pytest.raises(Misconfigured, match="WORKER_HOSTS"):
        parse(text)


def test_a_file_that_is_not_there_is_refused_at_start_and_later_changes_nothing(tmp_path: Path) -> None:
    file = tmp_path / "hosts"
    with pytest.raises(Misconfigured, match="cannot be read"):
        HostList(str(file))
    file.write_text("one:1\n")
    listed = HostList(str(file))
    file.unlink()
    assert listed.refresh() == ("one:1",)
    file.write_text("two:2\nthree:3\n")
    assert listed.refresh() == ("two:2", "three:3")
    file.write_text("nonsense\n")
    assert listed.refresh() == ("two:2", "three:3")


def test_a_worker_has_ended_when_another_answers_or_nothing_listens_twice() -> None:
    state, ended = observe(HostState("h:1"), ANSWER, 100.0)
    assert (state.worker_id, state.started_at, ended) == ("h:1@iiiiiiiiiiii", 95.0, {})
    again, ended = observe(state, {**ANSWER, "instance": "j" * 32}, 110.0)
    assert again.worker_id == "h:1@jjjjjjjjjjjj"
    assert ended == {"h:1@iiiiiiiiiiii": "the worker was started anew"}
    once, ended = observe(state, REFUSED, 110.0)
    assert (once.worker_id, once.usable("b"), ended) == (state.worker_id, False, {})
    twice, ended = observe(once, REFUSED, 111.0)
    assert (twice.worker_id, list(ended)) == (None, ["h:1@iiiiiiiiiiii"])


def test_a_host_that_is_silent_may_have_a_worker_that_lives() -> None:
    state, _ = observe(HostState("h:1"), {**ANSWER, "attempts": ["j/1"]}, 100.0)
    for second in range(50):
        state, ended = observe(state, Unreachable("it does not answer"), 100.0 + second)
        assert ended == {}
    # Refused, silent, refused is not twice in a row.
    state, _ = observe(state, REFUSED, 200.0)
    state, _ = observe(state, Unreachable("it does not answer"), 201.0)
    state, ended = observe(state, REFUSED, 202.0)
    assert ended == {}
    assert state.worker_id == "h:1@iiiiiiiiiiii"
    assert state.health("b") is WorkerHealth.UNHEALTHY


@pytest.mark.parametrize(
    "answer",
    [
        *({"failed": "the worker's disk is full"}, {}, [], None, "busy", 7),
        {name: value for name, value in ANSWER.items() if name != "build"},
        *(
            {**ANSWER, name: value}
            for name, value in [
                *(("instance", ""), ("instance", 7), ("instance", "i" * 65), ("instance", "a\nb")),
                *(("build", None), ("build", "b" * 301), ("claimed_by", 7), ("claimed_by", ["j.1"])),
                *(("attempts", 7), ("attempts", None), ("attempts", "j.1"), ("attempts", [7])),
                *(("attempts", ["j.1"] * 101), ("draining", "no"), ("uptime_seconds", "5")),
                *(("uptime_seconds", float("nan")), ("uptime_seconds", 1e300), ("uptime_seconds", None)),
            ]
        ),
    ],
)
def test_an_answer_that_is_no_worker_s_is_not_the_end_of_the_worker_before(answer: object) -> None:
    state, _ = observe(HostState("h:1"), {**ANSWER, "attempts": ["j.1"]}, 100.0)
    for second in range(3):
        state, ended = observe(state, answer, 101.0 + second)
        assert ended == {}
    assert (state.worker_id, state.user, state.usable("b")) == ("h:1@iiiiiiiiiiii", "j.1", False)
    assert state.detail == "it gave an answer that is not understood"
    again, ended = observe(state, ANSWER, 110.0)
    assert (again.usable("b"), again.started_at, ended) == (True, 95.0, {})


def test_a_worker_is_used_only_while_it_takes_attempts_and_is_of_our_build() -> None:
    state, _ = observe(HostState("h:1"), ANSWER, 0.0)
    assert (state.usable("b"), state.usable("c"), state.user) == (True, False, None)
    draining, _ = observe(state, {**ANSWER, "draining": True}, 0.0)
    assert (draining.usable("b"), draining.health("b")) == (False, WorkerHealth.DRAINING)
    claimed, _ = observe(state, {**ANSWER, "claimed_by": "j/2"}, 0.0)
    assert claimed.user == "j/2"
    assert HostState("h:1").health("b") is WorkerHealth.STARTING


def test_a_worker_s_name_tells_its_address() -> None:
    assert address_of(observe(HostState("h:1"), ANSWER, 0.0)[0].worker_id or "") == "h:1"  # type: ignore[arg-type]
    assert address_of("w-0123") is None  # type: ignore[arg-type]


async def test_a_worker_that_cannot_describe_itself_does_not_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SYNC_DATA_DIR", raising=False)
    worker = wool.LocalWorker()
    await worker.start(timeout=30)
    try:
        async with WoolWorkers().connect(WorkerHandle(WorkerId("w"), worker.address or "")) as link:
            # It has no place to work in.
            with pytest.raises(WorkerLost, match="worker code raised Misconfigured"):
                await link.describe()
    finally:
        await worker.stop()
