"""What the demo prints: a table of the files, and commands to try."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rich.console import Console
from rich.table import Table
from rich.text import Text

from gooseherd.client import GooseherdClient
from gooseherd.client.local_service import LocalService
from gooseherd.domain.region import Region
from gooseherd.trial.demo_files import DCC, DemoFile

_WIDE_COLUMNS = 150
"""A terminal as wide as this has room for the descriptions too."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one file."""

    file: DemoFile
    ok: bool
    detail: str
    seconds: float
    cached: bool


def print_table(console: Console, outcomes: Sequence[Outcome]) -> None:
    """One line for each file, with what was read back."""
    table = Table(box=None, header_style="bold", pad_edge=False)
    for head in ("file", "format", "", "seconds"):
        table.add_column(head, no_wrap=True)
    table.add_column("read back and compared", overflow="fold")
    if console.width >= _WIDE_COLUMNS:
        table.add_column("what it is")
    for one in outcomes:
        mark = Text("FAILED", "bold red") if not one.ok else Text("cached" if one.cached else "made", "green")
        row: list[str | Text] = [
            one.file.local_id,
            one.file.file_format.name,
            mark,
            f"{one.seconds:.1f}",
            Text(one.detail),
        ]
        if console.width >= _WIDE_COLUMNS:
            row.append(Text(one.file.description))
        table.add_row(*row)
    console.print(table)
    console.print("each also: ETag = sha256, 206 clamped at the end, 304, 416, If-Range, CORS", style="dim")


def print_suggestions(console: Console, service: LocalService, outcomes: Sequence[Outcome]) -> None:
    """Commands that people may try on the service while it runs."""
    name = next((o.file.local_id for o in outcomes if o.file.region is not None), outcomes[0].file.local_id)
    with GooseherdClient(service.url) as client:
        data, index = client.region_urls(DCC, name)
        job = next(client.jobs(limit=1), None)
    lines = [
        f"curl -s -D - -o /dev/null -r 0-65535 {data}",
        f"curl -s -o index {index}",
        f"curl -s '{service.url}/files?dcc={DCC}'",
    ]
    if job is not None:
        lines.append(f"curl -s {client.url('/jobs/' + str(job['job_id']))}")
    lines.append(f"gooseherd get --url {service.url} {DCC}/{name} --region '{_region_of(outcomes, name)}'")
    console.print("\n[bold]to try[/]")
    for line in lines:
        console.print("  " + line, highlight=False, markup=False, soft_wrap=True)
    console.print(f"  {service.url}/docs", highlight=False)


def _region_of(outcomes: Sequence[Outcome], name: str) -> Region | None:
    return next(one.file.region for one in outcomes if one.file.local_id == name)
