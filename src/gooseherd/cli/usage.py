"""`gooseherd usage`: worker time, bytes and what they cost, by day, requester, collection or job."""

from __future__ import annotations

from typing import Annotated, Any, Final

import typer

from gooseherd.cli import formatting
from gooseherd.cli.outcome import print_status
from gooseherd.cli.service_command import ServiceConnection, service_command

_GROUPS: Final = ("day", "requester", "collection", "job", "capacity")


@service_command
def usage(
    service: ServiceConnection,
    first: Annotated[
        str | None,
        typer.Option("--from", metavar="YYYY-MM-DD", help="First day, UTC. Default: of this month."),
    ] = None,
    last: Annotated[
        str | None, typer.Option("--to", metavar="YYYY-MM-DD", help="Last day. Default: today.")
    ] = None,
    by: Annotated[
        list[str] | None,
        typer.Option("--by", help=f"{', '.join(_GROUPS)}; repeat for more. Default: day and requester."),
    ] = None,
    requester: Annotated[
        str | None, typer.Option(metavar="NAME", help="Only of this one; `me`: of the key that is used.")
    ] = None,
    collection: Annotated[
        str | None, typer.Option("--collection", metavar="DCC", help="Only of this collection.")
    ] = None,
) -> None:
    """Show what was used and what it cost: everybody's with the admin key, else your own."""
    with service.connected() as client:
        record = client.usage(
            first=first, last=last, by=by or ("day", "requester"), requester=requester, collection=collection
        )
    if service.emitted(record):
        return
    from gooseherd.cli.tables import Rounded, show_table

    groups = record["by"]

    def row(line: dict[str, Any], names: list[object]) -> list[object]:
        return [
            *names,
            line["attempts"],
            Rounded(line["worker_seconds"], formatting.span(line["worker_seconds"])),
            Rounded(line["vcpu_seconds"], f"{line['vcpu_seconds'] / 3600:.2f}"),
            Rounded(line["memory_gb_seconds"], f"{line['memory_gb_seconds'] / 3600:.2f}"),
            *(Rounded(line[name], formatting.size(line[name])) for name in _BYTES),
            Rounded(line["cost"], f"{line['cost']:.4f}"),
        ]

    def names(line: dict[str, Any], first: str) -> list[object]:
        found = [line[name] or "" for name in groups] or [""]
        at = groups.index("requester") if "requester" in groups else 0
        found[at] = " ".join(filter(None, (found[at], first)))
        return found

    rows = [row(line, names(line, "" if groups else "used")) for line in record["used"]]
    rows += [row(line, names(line, f"(idle, {line['purpose']})")) for line in record["idle"]]
    rows.append(row(record["total"], ["total", *[""] * (max(1, len(groups)) - 1)]))
    heads = (
        *(groups or ("",)),
        "attempts",
        "worker time",
        "vCPU h",
        "GB h",
        "read",
        "made",
        "served",
        "cost",
    )
    show_table(heads, rows)
    print_status(f"cost in {record['currency']}, prices of {record['prices_as_of']}")
    if record.get("budget") is not None:
        _show_budget(record["budget"], record["currency"])


_HEADS: Final = ("attempts", "worker time", "vCPU h", "GB h", "read", "made", "served", "cost")
_BYTES: Final = ("bytes_in", "bytes_out", "bytes_served")


def _show_budget(budget: dict[str, Any], currency: str) -> None:
    for period, spent, frees in (
        ("day", "spent_today", "day_frees_at"),
        ("month", "spent_this_month", "month_frees_at"),
    ):
        allowed = budget[f"per_{period}"]
        if allowed is not None:
            used = f"{budget[spent]:.4f} of {allowed:g} {currency}"
            print_status(f"budget of the {period}: {used}, anew at {budget[frees]}")
