"""What Wool may unpickle: our calls, plain data, exceptions and Wool's own description of a worker.

Wool sends calls and answers as pickles, and a pickle may name any callable: whoever is answered by a
worker, or called by an API process, would have to trust it with all that this user may do. Certificates
do not help against a worker that was taken over. So both sides read through an unpickler that knows a
closed list of names and refuses the rest before anything is called.

It is the standard library's reader in Python, a tenth of a millisecond for a message: that in C cannot
be kept from changing a class it was allowed to name.
"""

from __future__ import annotations

import io
import pickle
import sys
import types
import uuid
from collections.abc import Callable, Mapping
from enum import EnumMeta
from functools import cache
from types import SimpleNamespace
from typing import Any, Final

_ROUTINES: Final = "gooseherd.worker.routines"
_OUR_CALLS: Final = frozenset(
    {
        *("start_attempt", "watch_attempt", "cancel_attempt", "renew_credentials"),
        *("describe", "keep", "claim", "end_worker"),
    }
)
_OF_WOOL: Final = frozenset(
    {
        ("wool", "ChannelOptions"),
        ("wool", "DiscoveryEvent"),
        ("wool", "RoundRobinLoadBalancer"),
        ("wool", "WorkerMetadata"),
        ("wool.runtime.worker.proxy", "ReducibleAsyncIterator"),
        ("wool.runtime.worker.proxy", "_restore_proxy"),
        ("grpc", "Compression"),
    }
)
"""The proxy that travels with every call, and what it holds."""
_END_THE_PROCESS: Final = (SystemExit, KeyboardInterrupt)
_MOST_BYTES: Final = 4 << 20
"""Of one pickle. Ours are some kilobytes; the longest holds the notes of a finished artifact."""


class ForeignPickle(pickle.UnpicklingError):
    """The pickle wants something that is not on the list."""


def restrict_unpickling() -> None:
    """From now on Wool reads through `loads` in this process."""
    import wool
    from wool.runtime.routine import task
    from wool.runtime.serializer import CloudpickleSerializer

    class Serializer(CloudpickleSerializer):  # type: ignore[misc]
        def loads(self, data: bytes) -> Any:
            return loads(data)

    wool.__serializer__ = Serializer()
    # Task.from_protobuf calls it by this name and none of `wool.__serializer__`'s.
    vars(task)["cloudpickle"] = SimpleNamespace(loads=loads)


def loads(data: bytes) -> Any:
    """The object, if all that it names is on the list.

    Raises:
        ForeignPickle: it is not; nothing was called.
        pickle.UnpicklingError: no pickle.
    """
    if len(data) > _MOST_BYTES:
        raise ForeignPickle(f"{len(data)} bytes")
    try:
        return _Reader(io.BytesIO(data)).load()
    except (pickle.UnpicklingError, RecursionError, MemoryError):
        raise
    except Exception as error:
        raise pickle.UnpicklingError(type(error).__name__) from error


class _Omitted:
    """In place of what tracebacks are made of: they would be the other side's, with its paths."""

    def __init__(self, *_: object, **__: object) -> None: ...

    def __setstate__(self, _: object) -> None: ...


def _without_traceback(*_: object) -> None:
    return None


def _exception(kind: Callable[..., BaseException], args: tuple[Any, ...], *_: object) -> BaseException:
    """For the function of tblib, without the cause, traceback and notes that follow."""
    _require(_is_exception(kind), "an exception of another kind")
    return kind(*args)


def _exception_with_attributes(
    kind: type[BaseException], attributes: Mapping[str, Any], *rest: Any
) -> BaseException:
    """The function of tblib for exceptions without arguments of their own, likewise.

    `rest`: cause, traceback, context, whether that is suppressed, notes, and the arguments, if any.
    """
    _require(_is_exception(kind), "an exception of another kind")
    made = kind.__new__(kind, *(rest[5] if len(rest) > 5 else ()))
    for name, value in attributes.items():
        if not name.startswith("__"):
            setattr(made, name, value)
    return made


def _builtin_type(name: str) -> type:
    """For the function of cloudpickle, which would also give the type of functions."""
    _require(name == "MappingProxyType", f"the type {name}")
    return types.MappingProxyType


def _member(kind: Any, name: str) -> Any:
    """For getattr(), by which Python 3.11.0 to 3.11.3 pickle members of enumerations."""
    _require(any(kind is one for one in _callables().values()), "an attribute of something else")
    _require(isinstance(kind, EnumMeta) and name in kind.__members__, f"the attribute {name}")
    return kind[name]


def _is_exception(thing: object) -> bool:
    return isinstance(thing, type) and issubclass(thing, BaseException) and thing not in _END_THE_PROCESS


def _require(holds: bool, wanted: str) -> None:
    if not holds:
        raise ForeignPickle(wanted[:200])


@cache
def _callables() -> Mapping[tuple[str, str], Any]:
    """What may be called to make an object, by the names that pickles have for it."""
    found: dict[tuple[str, str], Any] = {
        ("uuid", "UUID"): uuid.UUID,
        ("builtins", "getattr"): _member,
        ("cloudpickle.cloudpickle", "_builtin_type"): _builtin_type,
        ("tblib.pickling_support", "unpickle_exception"): _exception,
        ("tblib.pickling_support", "unpickle_exception_with_attrs"): _exception_with_attributes,
        ("tblib.pickling_support", "unpickle_traceback"): _without_traceback,
        ("tblib", "Traceback"): _Omitted,
        ("tblib", "Frame"): _Omitted,
        ("tblib", "Code"): _Omitted,
    }
    for module, name in _OF_WOOL:
        __import__(module)
        found[module, name] = vars(sys.modules[module])[name]
    return found


_PythonReader: Any = vars(pickle)["_Unpickler"]


class _Reader(_PythonReader):  # type: ignore[misc]
    """Calls what is on the list, changes only what it has made itself."""

    dispatch: Final = dict(_PythonReader.dispatch)

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) in _callables():
            return _callables()[module, name]
        if module == _ROUTINES and name in _OUR_CALLS:
            return getattr(sys.modules[_ROUTINES], name)
        of_ours = module.partition(".")[0] in ("wool", "gooseherd") and module in sys.modules
        if of_ours or module in ("builtins", "asyncio.exceptions"):
            found = vars(sys.modules[module]).get(name)
            if _is_exception(found):
                return found
        raise ForeignPickle(f"{module[:100]}.{name[:100]}")

    def persistent_load(self, pid: Any) -> Any:
        raise ForeignPickle("a persistent id")

    def load_reduce(self) -> None:
        args = self.stack.pop()
        called = self.stack[-1]
        self._require_callable(called)
        self.stack[-1] = called(*args)

    def load_newobj(self) -> None:
        args = self.stack.pop()
        self._make(self.stack.pop(), args, {})

    def load_newobj_ex(self) -> None:
        keywords, args = self.stack.pop(), self.stack.pop()
        self._make(self.stack.pop(), args, keywords)

    def load_build(self) -> None:
        made = self.stack[-2]
        kind = type(made)
        listed = _is_exception(kind) or any(kind is one for one in _callables().values())
        _require(listed, f"to change a {kind.__name__}")
        for part in self.stack[-1] if isinstance(self.stack[-1], tuple) else (self.stack[-1],):
            names = part if isinstance(part, Mapping) else ()
            _require(not any(str(name).startswith("__") for name in names), "to change what Python relies on")
        super().load_build()

    def refuse(self) -> None:
        raise ForeignPickle("an operation that our side does not write")

    def _make(self, kind: Any, args: Any, keywords: Any) -> None:
        self._require_callable(kind)
        _require(isinstance(kind, type), "a new object of what is no class")
        self.append(kind.__new__(kind, *args, **keywords))

    def _require_callable(self, called: Any) -> None:
        listed = any(called is one for one in (*_callables().values(), types.MappingProxyType))
        _require(listed or _is_exception(called), f"to call a {type(called).__name__}")


_Reader.dispatch.update(
    {
        code[0]: method
        for method, codes in (
            (_Reader.load_reduce, (pickle.REDUCE,)),
            (_Reader.load_newobj, (pickle.NEWOBJ,)),
            (_Reader.load_newobj_ex, (pickle.NEWOBJ_EX,)),
            (_Reader.load_build, (pickle.BUILD,)),
            (_Reader.refuse, (pickle.INST, pickle.OBJ, pickle.EXT1, pickle.EXT2, pickle.EXT4)),
            (_Reader.refuse, (pickle.NEXT_BUFFER, pickle.READONLY_BUFFER)),
        )
        for code in codes
    }
)
