"""`smoke`, `demo`, `doctor`, `version`: does it work, here and now?"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gooseherd.cli import options
from gooseherd.cli.outcome import CommandError, Exit, emit, print_status, run

if TYPE_CHECKING:
    from gooseherd.settings import Settings


def smoke(
    keep: Annotated[
        bool, typer.Option("--keep", help="Keep inputs, catalog entries, state and logs.")
    ] = False,
    inputs: Annotated[
        Path | None,
        typer.Option(help="Where the inputs are made; a running service must be allowed to read it."),
    ] = None,
    timeout: Annotated[float, typer.Option(min=1, help="Longest wait for one format, seconds.")] = 120.0,
    url: Annotated[
        str | None,
        typer.Option("--url", help="A running service; default: one of its own, on the configured profile."),
    ] = None,
    devcloud: options.Devcloud = False,
    worker_image: options.WorkerImage = None,
    formats: Annotated[
        list[str] | None, typer.Option("--format", help="Only this format; repeat for more.")
    ] = None,
    api_key: options.ApiKey = None,
    state_dir: options.StateDir = None,
    as_json: options.Json = False,
) -> None:
    """Take every format end to end and check what comes out."""

    def command() -> None:
        from gooseherd import smoke as it

        if worker_image is not None and not devcloud:
            raise CommandError(Exit.USAGE, "--worker-image is for --devcloud")
        report = it.run(
            url=url,
            api_key=api_key,
            state_dir=state_dir,
            inputs=inputs,
            keep=keep,
            timeout_seconds=timeout,
            devcloud=devcloud,
            worker_image=worker_image,
            formats=formats or (),
            print_status=(lambda line: None) if as_json else print_status,
        )
        if as_json:
            emit(report.to_json())
        else:
            from gooseherd.cli.tables import show_table

            rows = [
                (f.format, "ok" if f.ok else "FAILED", f"{f.seconds:.2f}", f.detail) for f in report.formats
            ]
            show_table(("format", "", "seconds", "detail"), rows)
            print_status(
                f"smoke: {'ok' if report.ok else 'FAILED'} ({report.profile}, {len(report.formats)} formats)"
            )
        if not report.ok:
            raise typer.Exit(Exit.FAILED)

    raise typer.Exit(run(command, as_json=as_json))


def demo(
    once: Annotated[bool, typer.Option("--once", help="End after the checks.")] = False,
    data: Annotated[
        Path | None,
        typer.Option(
            envvar="GOOSEHERD_DEMO_DATA",
            help="Folder with the demo's files and demo-data.json; default: they are downloaded and cached.",
        ),
    ] = None,
    port: Annotated[
        int | None,
        typer.Option(min=1, max=65535, help="Port; default: 8080, or a free one when it is taken."),
    ] = None,
    state_dir: options.StateDir = None,
) -> None:
    """Real files in, byte ranges out, checked; then it keeps serving until Ctrl-C."""

    def command() -> None:
        from gooseherd import demo as it
        from gooseherd.trial.demodata import REMEDY, DataMissing

        try:
            ok = it.run(data=data, once=once, port=port, state_dir=state_dir)
        except DataMissing as missing:
            for failure in missing.failures:
                print_status(f"demo data: {failure}")
            raise CommandError(Exit.NOT_THERE, "the demo's files could not be downloaded", REMEDY) from None
        if not ok:
            raise typer.Exit(Exit.FAILED)

    raise typer.Exit(run(command, as_json=False))


def doctor(
    state_dir: options.StateDir = None,
    exposure: Annotated[
        bool, typer.Option("--exposure", help="Instead: what of this host is open to whom.")
    ] = False,
    as_json: options.Json = False,
) -> None:
    """Say what this machine lacks, and how to get it."""

    def command() -> None:
        from gooseherd import doctor as it
        from gooseherd.cli.up import read_settings

        if exposure:
            _show_exposure(read_settings(state_dir=state_dir), as_json=as_json)
            return
        report = it.examine(read_settings(state_dir=state_dir), os.environ)
        if as_json:
            emit(report.to_json())
        else:
            from gooseherd.cli.tables import show_table

            marks = {"ok": "ok", "warn": "note", "missing": "MISSING"}
            show_table(("check", "", "what"), [(c.name, marks[c.state], c.detail) for c in report.checks])
            for check in report.checks:
                if check.remedy and check.state != "ok":
                    print_status(f"{check.name}: {check.remedy}")
        if not report.ok:
            raise typer.Exit(Exit.NOT_THERE)

    raise typer.Exit(run(command, as_json=as_json))


def _show_exposure(settings: Settings, *, as_json: bool) -> None:
    from gooseherd.cli.tables import show_table
    from gooseherd.exposure import examine_exposure

    report = examine_exposure(settings, os.environ)
    if as_json:
        emit(report.to_json())
    else:
        marks = {"ok": "ok", "note": "note", "open": "OPEN"}
        rows = [(one.name, marks[one.state], one.reach, one.credential) for one in report.found]
        show_table(("what", "", "open to", "by"), rows)
        for one in report.found:
            if one.remedy and one.state != "ok":
                print_status(f"{one.name}: {one.remedy}")
    if not report.ok:
        raise typer.Exit(Exit.FAILED)


def version(as_json: options.Json = False) -> None:
    """Say which version this is."""
    from gooseherd import __version__

    if as_json:
        emit({"version": __version__})
    else:
        print(__version__)
