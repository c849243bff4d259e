"""What a pickle from the other side of a worker's port may do here: hold what we send ourselves."""

from __future__ import annotations

import inspect
import os
import pickle
import pickletools
import uuid
from pathlib import Path
from types import CodeType, FunctionType
from typing import Any

import cloudpickle
import grpc
import pytest
import wool
from wool import protocol
from wool.runtime.routine.task import Task

from gooseherd.domain.attempt import Event, EventKind
from gooseherd.domain.failures import Reason
from gooseherd.worker import routines
from gooseherd.worker.unpickling import ForeignPickle, loads


class Calls:
    """A pickle of it is a call of `function`."""

    def __init__(self, function: Any, *args: Any, state: Any = None) -> None:
        self._call = (function, args) if state is None else (function, args, state)

    def __reduce__(self) -> Any:
        return self._call


def cloudpickled(thing: Any) -> bytes:
    return bytes(wool.__serializer__.dumps(thing))


def global_of(module: str, name: str) -> bytes:
    return f"c{module}\n{name}\n".encode()


def a_function_by_value(path: Path) -> bytes:
    """As cloudpickle sends what is defined in __main__: code and all."""

    def forged() -> None:
        path.touch()

    forged.__module__ = "__main__"
    return bytes(cloudpickle.dumps(forged))


def forgeries(path: Path) -> dict[str, bytes]:
    touch = f"touch {path}"
    routine = global_of("gooseherd.worker.routines", "describe")
    builtin_type = global_of("cloudpickle.cloudpickle", "_builtin_type")
    return {
        "a call of the system": pickle.dumps(Calls(os.system, touch)),
        "the same in an old protocol": pickle.dumps(Calls(os.system, touch), protocol=0),
        "a call of a built-in function": pickle.dumps(Calls(eval, f"open({str(path)!r}, 'w')")),
        "a call hidden in an argument": pickle.dumps({"job": [Calls(os.system, touch)]}),
        "a call instead of an exception": pickle.dumps(ValueError(Calls(os.system, touch))),
        "a function with its code": a_function_by_value(path),
        "the type of functions": b"\x80\x04" + builtin_type + b"(VFunctionType\ntR.",
        "the type of code": b"\x80\x04" + builtin_type + b"(VCodeType\ntR.",
        "a name within an allowed one": global_of("gooseherd.worker.routines", "describe.__globals__") + b".",
        "another function of an allowed module": global_of("gooseherd.worker.routines", "_supervisor") + b".",
        "a module that an allowed one imports": global_of("gooseherd.worker.routines", "asyncio") + b".",
        "a call of a routine": routine + b")R.",
        "a change of a routine": routine + b"}(V__wrapped__\nVx\nudb.",
        "a change of a class": b"\x80\x04" + global_of("uuid", "UUID") + b"N}(V__init__\nVx\nu\x86b.",
        "a change of the class of an exception": b"\x80\x04" + global_of("builtins", "ValueError")
        + b")R}(V__class__\nVx\nub.",
        "an attribute of an allowed class": pickle.dumps(Calls(getattr, uuid.UUID, "__init__")),
        "an attribute of an allowed enumeration": pickle.dumps(Calls(getattr, grpc.Compression, "__class__")),
        "an attribute of a routine": b"\x80\x04" + global_of("builtins", "getattr") + b"(" + routine
        + b"V__globals__\ntR.",
        "an object of a class that was not named": pickle.dumps(Path(path)),
        "an exception that ends the process": pickle.dumps(SystemExit(0)),
        "an old operation": b"(ios\nsystem\n.",
        "a registered extension": b"\x82\x01.",
        "a persistent id": b"Px\n.",
        "a slot of another's buffer": b"\x80\x05\x97.",
    }  # fmt: skip


def test_every_forgery_is_refused_and_nothing_is_done(tmp_path: Path) -> None:
    marker = tmp_path / "done"
    for what, forged in forgeries(marker).items():
        with pytest.raises(pickle.UnpicklingError):
            pytest.fail(f"{what}: {loads(forged)!r}")
        assert not marker.exists(), what


def test_the_forgeries_would_do_their_work_elsewhere(tmp_path: Path) -> None:
    """Or the test above would show nothing."""
    marker = tmp_path / "done"
    for what in ("a call of the system", "the same in an old protocol", "a call hidden in an argument"):
        pickle.loads(forgeries(marker)[what])
        assert marker.exists(), what
        marker.unlink()
    cloudpickle.loads(forgeries(marker)["a function with its code"])()
    assert marker.exists()
    assert pickle.loads(forgeries(marker)["the type of functions"]) is FunctionType
    assert pickle.loads(forgeries(marker)["the type of code"]) is CodeType


@pytest.mark.parametrize(
    "thing",
    [
        {"event": {"seq": 1, "kind": "done", "at": 1.5, "notes": ("é", "x" * 100_000)}},
        [None, True, 2**70, -1.5, b"bytes", {"a": {1, 2}}, frozenset({"x"})],
        uuid.uuid4(),
        routines.start_attempt,
    ],
)
def test_what_is_sent_arrives(thing: Any) -> None:
    assert loads(cloudpickled(thing)) == thing


@pytest.mark.parametrize(
    "kind", [ValueError, TimeoutError, ModuleNotFoundError, ForeignPickle, wool.NoWorkersAvailable]
)
def test_exceptions_arrive_without_the_other_sides_traceback(kind: type[Exception]) -> None:
    try:
        raise kind("why") from OSError("cause")
    except Exception as error:
        arrived = loads(cloudpickled(error))
    assert type(arrived) is kind
    assert arrived.args == ("why",)
    assert arrived.__traceback__ is None


def test_an_event_names_no_class_of_ours() -> None:
    event = Event(3, EventKind.FAILED, 1.0, reason=Reason.TOOL_FAILED, detail="x")
    names = [argument for opcode, argument, _ in pickletools.genops(pickle.dumps(event.to_json()))
             if opcode.name in ("GLOBAL", "STACK_GLOBAL")]  # fmt: skip
    assert names == []
    assert Event.from_json(event.to_json()) == event


def test_a_member_of_an_enumeration_may_be_named_by_getattr() -> None:
    """As Python 3.11.2 does it."""
    assert loads(pickle.dumps(Calls(getattr, grpc.Compression, "Gzip"))) is grpc.Compression.Gzip


def test_the_proxy_that_travels_with_every_call_arrives() -> None:
    worker = wool.WorkerMetadata(uid=uuid.uuid4(), address="127.0.0.1:1", pid=0, version="1")
    assert loads(cloudpickled(worker)) == worker


def test_a_pickle_of_megabytes_is_not_begun() -> None:
    with pytest.raises(ForeignPickle, match="bytes"):
        loads(pickle.dumps(b"x" * (5 << 20)))


def test_what_is_no_pickle_is_an_unpickling_error() -> None:
    for data in (b"", b"x", b"\x80", b"\x80\x04]\x94(", b"h\x05."):
        with pytest.raises(pickle.UnpicklingError):
            loads(data)


def test_wool_reads_tasks_and_answers_through_it(tmp_path: Path) -> None:
    """Fails when another release of Wool unpickles in another place."""
    marker = tmp_path / "done"
    forged = pickle.dumps(Calls(os.system, f"touch {marker}"))
    with pytest.raises(ForeignPickle):
        wool.__serializer__.loads(forged)
    for field in ("callable", "args", "kwargs", "proxy"):
        task = protocol.Task(
            id=str(uuid.uuid4()),
            **dict.fromkeys(("callable", "args", "kwargs", "proxy"), pickle.dumps(None)) | {field: forged},
        )
        with pytest.raises(ForeignPickle):
            Task.from_protobuf(task)
    assert not marker.exists()


def test_each_routine_may_be_named_and_nothing_else_of_its_module() -> None:
    ours = {
        name
        for name, thing in vars(routines).items()
        if hasattr(thing, "__wrapped__") and inspect.getmodule(thing) is routines
    }
    assert len(ours) >= 5
    for name in vars(routines):
        forged = global_of("gooseherd.worker.routines", name) + b"."
        if name in ours:
            assert loads(forged) is vars(routines)[name]
        else:
            with pytest.raises(pickle.UnpicklingError):
                loads(forged)
