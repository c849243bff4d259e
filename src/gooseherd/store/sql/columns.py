"""Column types that mean the same in SQLite and PostgreSQL."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from sqlalchemy import TIMESTAMP, BigInteger, Dialect, Text
from sqlalchemy.types import TypeDecorator, TypeEngine

to_json: Final = json.JSONEncoder(separators=(",", ":")).encode
"""A document as ASCII."""
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND: Final = timedelta(milliseconds=1)


PLAIN: Final = Text().with_variant(Text(collation="C"), "postgresql")
"""Text that sorts by code point. What is bound to it is storable already."""


class Words(TypeDecorator[str]):
    """Text that sorts by code point. What no database takes (NUL, lone surrogates) becomes U+FFFD."""

    impl = Text
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        """PostgreSQL would sort by the locale of whoever made the database."""
        return dialect.type_descriptor(Text(collation="C") if dialect.name == "postgresql" else Text())

    def process_bind_param(self, value: str | None, dialect: Dialect) -> str | None:
        """As it is stored, and as it is looked up."""
        return None if value is None else storable(value)


class Json(TypeDecorator[Any]):
    """A document as JSON in ASCII: any text reads back equal, and the database need not understand it."""

    impl = Text
    cache_ok = True

    def process_bind_param(self, value: Any, dialect: Dialect) -> str | None:
        """None is SQL's NULL."""
        return None if value is None else to_json(value)

    def process_result_value(self, value: str | None, dialect: Dialect) -> Any:
        """The document."""
        return None if value is None else json.loads(value)


class Moment(TypeDecorator[datetime]):
    """UTC to the millisecond: TIMESTAMPTZ, or in SQLite, which has no type for times, Unix milliseconds."""

    impl = BigInteger
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        """The nearest thing the database has."""
        wanted = TIMESTAMP(timezone=True) if dialect.name == "postgresql" else BigInteger()
        return dialect.type_descriptor(wanted)

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> Any:
        """Whole milliseconds, as it will be read back."""
        if value is None:
            return None
        return whole_milliseconds(value) if dialect.name == "postgresql" else to_milliseconds(value)

    def process_result_value(self, value: Any, dialect: Dialect) -> datetime | None:
        """An aware datetime in `datetime.UTC` itself."""
        if value is None:
            return None
        if isinstance(value, datetime):
            return value.astimezone(UTC)
        return from_milliseconds(value)


def storable(text: str) -> str:
    """`text` as every database takes it."""
    if text.isascii():
        return text.replace("\0", "\ufffd") if "\0" in text else text
    return text.encode("utf-8", "surrogatepass").decode("utf-8", "replace").replace("\0", "\ufffd")


def whole_milliseconds(moment: datetime) -> datetime:
    """`moment` as it comes back from the store."""
    return moment.replace(microsecond=moment.microsecond // 1000 * 1000)


def to_milliseconds(moment: datetime) -> int:
    """Since 1970, rounded down."""
    return (moment - _EPOCH) // _MILLISECOND


def from_milliseconds(count: int) -> datetime:
    """The inverse of `to_milliseconds`. Raises OverflowError for a time that no calendar has."""
    return _EPOCH + timedelta(milliseconds=count)
