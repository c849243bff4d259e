"""Conditions on rows that name a catalog entry: that it is seen (domain/visibility.py)."""

from __future__ import annotations

from sqlalchemy import ColumnElement, Table, and_, or_

from gooseherd.domain.visibility import Visibility


def only_visible(table: Table, visible: Visibility) -> ColumnElement[bool] | None:
    """Of a table with `public`, `dcc` and `local_id`; None: everything is seen."""
    if visible.everything:
        return None
    # The column alone, as the conditions of the partial indexes have it.
    terms: list[ColumnElement[bool]] = [table.c.public]
    if visible.collections:
        terms.append(table.c.dcc.in_(sorted(visible.collections)))
    if visible.file is not None:
        dcc, local_id = visible.file
        terms.append(and_(table.c.dcc == dcc, table.c.local_id == local_id))
    return or_(*terms) if len(terms) > 1 else terms[0]


def visible_words(visible: Visibility, dialect: str) -> tuple[str, dict[str, object]]:
    """The same as words behind an AND, of a table `files`, and the values that they name."""
    if visible.everything:
        return "", {}
    values: dict[str, object] = {f"seen_{n}": dcc for n, dcc in enumerate(sorted(visible.collections))}
    terms = ["files.public = 1" if dialect == "sqlite" else "files.public"]
    if values:
        terms.append(f"files.dcc IN ({', '.join(f':{name}' for name in values)})")
    if visible.file is not None:
        terms.append("(files.dcc = :seen_dcc AND files.local_id = :seen_local_id)")
        values["seen_dcc"], values["seen_local_id"] = visible.file
    return f" AND ({' OR '.join(terms)})", values
