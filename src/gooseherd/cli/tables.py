"""Tables for people on a terminal; the same rows, tab-separated, for whatever else reads them."""

from __future__ import annotations

import sys
from collections.abc import Sequence


def show_table(heads: Sequence[str], rows: Sequence[Sequence[object]], *, empty: str = "") -> None:
    """Print `rows` under `heads`; tab-separated without heads when standard output is no terminal."""
    if not rows:
        if empty:
            print(empty, file=sys.stderr)
        return
    told = [["" if cell is None else str(cell) for cell in row] for row in rows]
    if not sys.stdout.isatty():
        for row in told:
            print("\t".join(row))
        return
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, header_style="bold")
    for head in heads:
        table.add_column(head, overflow="fold")
    for row in told:
        table.add_row(*(Text(cell) for cell in row))
    Console().print(table)
