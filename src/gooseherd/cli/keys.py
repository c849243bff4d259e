"""`gooseherd keys`: API keys, and tokens for viewers that can send none."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Any, Final

import typer

from gooseherd.cli import formatting
from gooseherd.cli.outcome import CommandError, Exit, print_status
from gooseherd.cli.service_command import ServiceConnection, service_command

app = typer.Typer(
    help="API keys, and download tokens for viewers.", no_args_is_help=True, rich_markup_mode=None
)

KeyArgument = Annotated[
    str, typer.Argument(metavar="KEY", help="The key's id: what stands between its underscores.")
]
_SPAN: Final = re.compile(r"(\d{1,9})\s*([smhdw])")
_SECONDS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 7 * 86400}


@app.command("create")
@service_command
def create(
    service: ServiceConnection,
    owner: Annotated[str, typer.Argument(metavar="OWNER", help="Whose jobs are the key's: a name.")],
    scope: Annotated[
        list[str] | None,
        typer.Option("--scope", help="read, submit or admin; repeat for more. Default: read and submit."),
    ] = None,
    collection: Annotated[
        list[str] | None,
        typer.Option(
            "--collection", metavar="DCC", help="Whose files it opens that are not public; repeat; '*': all."
        ),
    ] = None,
    label: Annotated[str, typer.Option(help="What it is for.")] = "",
    expires: Annotated[
        str | None, typer.Option(metavar="SPAN", help="It ends after so long: 90d, 12h. Default: never.")
    ] = None,
    budget_per_day: Annotated[
        float | None,
        typer.Option(min=0, help="What its owner may use in a day, in the price table's currency."),
    ] = None,
    budget_per_month: Annotated[
        float | None, typer.Option(min=0, help="The same for a calendar month.")
    ] = None,
) -> None:
    """Make a key and print it, this once."""
    seconds = None if expires is None else _seconds(expires)
    with service.connected() as client:
        record = client.create_key(
            owner,
            scopes=scope or ["read", "submit"],
            collections=collection or [],
            label=label,
            expires_in_seconds=seconds,
            budget_per_day=budget_per_day,
            budget_per_month=budget_per_month,
        )
    _show_new(service, record)


@app.command("ls")
@service_command
def ls(
    service: ServiceConnection,
    ended: Annotated[
        bool, typer.Option("--all", help="Also those that have expired or were revoked.")
    ] = False,
) -> None:
    """List keys, the oldest first."""
    with service.connected() as client:
        keys = [key for key in client.api_keys() if ended or key["state"] == "active"]
    if service.emitted({"keys": keys}):
        return
    from gooseherd.cli.tables import show_table

    rows = [
        (
            key["key_id"],
            key["owner"],
            ",".join(key["scopes"]),
            ",".join(key["collections"]),
            key["state"],
            _moment(key["expires_at"]),
            _moment(key["last_used_at"]),
            key["label"],
        )
        for key in keys
    ]
    titles = ("key", "owner", "scopes", "collections", "state", "expires", "last used", "label")
    show_table(titles, rows, empty="no keys")


@app.command("revoke")
@service_command
def revoke(service: ServiceConnection, key: KeyArgument) -> None:
    """End a key and its tokens for good."""
    with service.connected() as client:
        record = client.revoke_key(_key_id(key))
    if not service.emitted(record):
        print_status(f"key {record['key_id']} of {record['owner']}: {record['state']}")


@app.command("rotate")
@service_command
def rotate(
    service: ServiceConnection,
    key: KeyArgument,
    overlap: Annotated[
        str, typer.Option(metavar="SPAN", help="For so long the old key goes on working.")
    ] = "1d",
) -> None:
    """Make a key that may do the same, and let the old one expire."""
    with service.connected() as client:
        record = client.rotate_key(_key_id(key), overlap_seconds=_seconds(overlap))
    _show_new(service, record)


@app.command("token")
@service_command
def token(
    service: ServiceConnection,
    file: Annotated[str | None, typer.Argument(metavar="[DCC/ID]", help="A file of the catalog.")] = None,
    collection: Annotated[
        str | None, typer.Option("--collection", metavar="DCC", help="All files of a collection instead.")
    ] = None,
    revoke_it: Annotated[
        bool, typer.Option("--revoke", help="Make our tokens for that invalid instead.")
    ] = False,
) -> None:
    """Print a URL with a token that opens a file, or a collection's files, for viewers without headers."""
    if (file is None) == (collection is None):
        raise CommandError(Exit.USAGE, "name either a file (DCC/ID) or a --collection")
    with service.connected() as client:
        record: Mapping[str, Any] = (
            client.revoke_tokens(file, collection=collection)
            if revoke_it
            else client.token(file, collection=collection)
        )
    if service.emitted(record):
        return
    if revoke_it:
        print_status(f"tokens for {record['resource']}: revoked")
        return
    print(record["url"])
    print_status(f"good until {formatting.moment(record['expires_at'])}")


@app.command("whoami")
@service_command
def whoami(service: ServiceConnection) -> None:
    """Say what the key that is used may do."""
    with service.connected() as client:
        record = client.caller()
    if service.emitted(record):
        return
    print(f"{'credential':13} {record['credential']}")
    print(f"{'owner':13} {record['owner'] or '(your address)'}")
    print(f"{'scopes':13} {', '.join(record['scopes']) or 'none: what anybody may'}")
    print(f"{'collections':13} {', '.join(record['collections']) or 'none: public files'}")


def _show_new(service: ServiceConnection, record: Mapping[str, Any]) -> None:
    if service.emitted(record):
        return
    print(record["key"])
    print_status(f"key {record['key_id']} of {record['owner']}; it is not shown again")


def _key_id(text: str) -> str:
    """Of an id, or of the whole key."""
    return text.split("_")[1] if text.count("_") == 2 else text


def _moment(text: str | None) -> str:
    return "" if text is None else formatting.moment(text)


def _seconds(text: str) -> int:
    found = _SPAN.fullmatch(text.strip())
    if text.strip() == "0":
        return 0
    if found is None:
        raise CommandError(Exit.USAGE, f"{text!r} is no span of time: write 90d, 12h, 30m")
    return int(found[1]) * _SECONDS[found[2]]
