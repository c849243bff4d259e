"""What all records share: the service's JSON as typed, frozen attributes, and whole as a mapping."""

from __future__ import annotations

import functools
import types
from collections.abc import Callable, Iterator, Mapping
from dataclasses import MISSING, dataclass, fields
from datetime import datetime
from typing import TYPE_CHECKING, Any, Self, Union, get_args, get_origin, get_type_hints

if TYPE_CHECKING:
    from gooseherd.client.endpoint import Endpoint


class NotThisRecord(ValueError):
    """The JSON lacks what makes a record of that kind."""


@dataclass(frozen=True, eq=False)
class Model(Mapping[str, Any]):
    """A record as the service sent it. `record.status` is typed; `record["status"]` is the JSON's own value.

    As a mapping it has all that was sent, also what this version of the client does not know; two with the
    same content are equal. Times are UTC, `datetime` as attributes and text in the mapping.
    """

    @classmethod
    def of(cls, raw: Mapping[str, Any], endpoint: Endpoint | None = None) -> Self:
        """Take a JSON object. `endpoint` is where more can be learned of it, for displays that stay live.

        Raises:
            NotThisRecord: what every record of this kind has is not in it.
        """
        values = {}
        for name, required, convert in _members(cls):
            if name in raw:
                values[name] = convert(raw[name])
            elif required:
                raise NotThisRecord(f"it has no {name!r}")
        model = cls(**values)
        object.__setattr__(model, "_raw", types.MappingProxyType(dict(raw)))
        object.__setattr__(model, "_endpoint", endpoint)
        return model

    def __getitem__(self, name: str) -> Any:
        return self._content[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._content)

    def __len__(self) -> int:
        return len(self._content)

    def __reduce__(self) -> tuple[Any, ...]:
        # Without the endpoint, which may have a key in it.
        return type(self).of, (dict(self._content),)

    @property
    def endpoint(self) -> Endpoint | None:
        """Where it was read; None for one that was unpickled."""
        return self.__dict__.get("_endpoint")

    @property
    def _content(self) -> Mapping[str, Any]:
        content: Mapping[str, Any] = self.__dict__.get("_raw", {})
        return content


Convert = Callable[[Any], Any]


@functools.cache
def _members(model: type[Model]) -> list[tuple[str, bool, Convert]]:
    hints = get_type_hints(model)
    return [
        (
            field.name,
            field.default is MISSING and field.default_factory is MISSING,
            _converter(hints[field.name]),
        )
        for field in fields(model)
    ]


def _converter(hint: Any) -> Convert:
    """From JSON to what the annotation says; a value of another shape stays as it is."""
    origin, args = get_origin(hint), get_args(hint)
    if origin in (Union, types.UnionType):
        return _converter(next(arg for arg in args if arg is not type(None)))
    if hint is datetime:
        return _time
    if isinstance(hint, type) and issubclass(hint, Model):
        return lambda value: hint.of(value) if isinstance(value, Mapping) else value
    if origin is tuple:
        if len(args) == 2 and args[1] is ...:
            member = _converter(args[0])
            return lambda value: tuple(map(member, value)) if isinstance(value, list) else value
        return lambda value: tuple(value) if isinstance(value, list) else value
    if origin is Mapping:
        inner = _converter(args[1])
        return lambda value: (
            types.MappingProxyType({key: inner(one) for key, one in value.items()})
            if isinstance(value, Mapping)
            else value
        )
    return lambda value: value


def _time(value: Any) -> Any:
    try:
        return datetime.fromisoformat(value)
    except (TypeError, ValueError):
        return value
