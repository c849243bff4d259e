"""Tables for people on a terminal; the same rows, tab-separated, for whatever else reads them."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass

from gooseherd.terminal import visible


@dataclass(frozen=True, slots=True)
class Rounded:
    """A value that people see rounded (`text`) and programs get as it is (`exact`)."""

    exact: object
    text: str

    def __str__(self) -> str:
        return "" if self.exact is None else str(self.exact)


def show_table(heads: Sequence[str], rows: Sequence[Sequence[object]], *, empty: str = "") -> None:
    """Print `rows` under `heads`; tab-separated without heads, nothing rounded, when no terminal reads it."""
    if not rows:
        if empty:
            print(empty, file=sys.stderr)
        return
    if not sys.stdout.isatty():
        for row in rows:
            print("\t".join("" if cell is None else visible(str(cell)) for cell in row))
        return
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, header_style="bold")
    for head in heads:
        table.add_column(head, overflow="fold")
    for row in rows:
        table.add_row(*(Text(visible(_text(cell))) for cell in row))
    Console().print(table)


def _text(cell: object) -> str:
    if isinstance(cell, Rounded):
        return cell.text
    return "" if cell is None else str(cell)
