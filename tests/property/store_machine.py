"""What state machines over a store share: how calls are made, who makes them, and how a machine is run."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from datetime import timedelta
from functools import partial
from typing import Any

from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, run_state_machine_as_test

from gooseherd.domain.job import Owner, Requester

LONG, OVER = timedelta(hours=1), timedelta(0)
WHO = st.sampled_from([Requester("anne"), Requester("bert")])
OWNERS = st.sampled_from([Owner("here"), Owner("there")])
WHICH = st.integers(0, 99)
"""One of those that are known; which one depends on how many there are."""

OpenStore = Callable[[], AbstractAsyncContextManager[Any]]


class StoreMachine(RuleBasedStateMachine):
    """Over one store, which is emptied before each example."""

    def __init__(self, runner: asyncio.Runner, store: Any) -> None:
        super().__init__()
        self.runner, self.store = runner, store
        self.run(store.forget_jobs())

    def run(self, work: Awaitable[Any]) -> Any:
        async def call() -> Any:
            return await work

        return self.runner.run(call())


def run_machine(machine: type[StoreMachine], open_store: OpenStore, *, examples: int, steps: int) -> None:
    """Try so many sequences of so many calls at most."""
    with asyncio.Runner() as runner:
        opened = open_store()
        store = runner.run(opened.__aenter__())
        try:
            run_state_machine_as_test(
                partial(machine, runner, store),  # type: ignore[arg-type]  # any callable will do
                settings=settings(
                    max_examples=examples,
                    stateful_step_count=steps,
                    deadline=None,
                    suppress_health_check=list(HealthCheck),
                    # Not shrunk: each replay goes over the wire, and the steps can be read.
                    phases=[Phase.explicit, Phase.reuse, Phase.generate],
                ),
            )
        finally:
            runner.run(opened.__aexit__(None, None, None))
