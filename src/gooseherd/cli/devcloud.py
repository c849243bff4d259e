"""`gooseherd devcloud`: the local cloud on its own, and the faults that can be injected into it."""

from __future__ import annotations

import os
import shlex
import signal
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gooseherd.cli import options
from gooseherd.cli.outcome import CommandError, Exit, emit, print_status, run

if TYPE_CHECKING:
    from gooseherd.devcloud.admin_client import LocalCloudAdmin

app = typer.Typer(
    help="A local cloud: S3, and ECS whose tasks are processes of this machine.",
    no_args_is_help=True,
    rich_markup_mode=None,
)

Endpoint = Annotated[
    str | None,
    typer.Option(
        "--endpoint",
        envvar="AWS_ENDPOINT_URL",
        help="The local cloud's address; default: the one that runs below the state folder.",
    ),
]
Task = Annotated[str, typer.Argument(metavar="TASK", help="The task's id or ARN.")]


@app.command("start")
def start(
    port: Annotated[
        int, typer.Option(min=0, max=65535, help="Port to listen on, 0 for any free one.")
    ] = 4566,
    pace: Annotated[
        str, typer.Option(help="How long a task's states last: `instant`, or `fargate` for AWS's own.")
    ] = "instant",
    state_dir: options.StateDir = None,
    as_json: options.Json = False,
) -> None:
    """Run it until Ctrl-C, with bucket, cluster and workers made; prints what to put into the environment."""

    def command() -> None:
        from gooseherd.devcloud.deployment import running_local_cloud
        from gooseherd.devcloud.pace import PACES

        if pace not in PACES:
            raise CommandError(Exit.USAGE, f"--pace {pace}: one of {', '.join(PACES)}")
        with running_local_cloud(_state(state_dir), port=port, pace=pace) as environment:
            if as_json:
                emit(_without_secrets(environment, _state(state_dir)))
            else:
                print(f"unset {' '.join(_UNSET)}")
                for name, value in _without_secrets(environment, _state(state_dir)).items():
                    print(f"export {name}={shlex.quote(value)}", flush=True)
                print_status(f"local cloud at {environment['AWS_ENDPOINT_URL']} until Ctrl-C")
            _until_signalled()
        print_status("stopped")

    raise typer.Exit(run(command, as_json=as_json))


@app.command("make")
def make(
    endpoint: Annotated[
        str, typer.Option("--endpoint", help="Of a cloud that runs already, LocalStack's say.")
    ],
    certs: Annotated[Path, typer.Option(help="Folder of the certificates; made when there is none.")],
    worker_image: Annotated[str, typer.Option(help="Image of the workers.")] = "gooseherd-worker:dev",
    as_json: options.Json = False,
) -> None:
    """Make bucket, cluster and task definition there; again changes nothing. Prints as `start` does."""

    def command() -> None:
        from gooseherd.devcloud.deployment import make_configuration

        environment = make_configuration(endpoint, certs, worker_image)
        if as_json:
            emit(environment)
        else:
            for name, value in environment.items():
                print(f"export {name}={shlex.quote(value)}")

    raise typer.Exit(run(command, as_json=as_json))


@app.command("deploy")
def deploy(
    folder: Annotated[Path, typer.Argument(help="Folder with gooseherd.yaml: deploy/cloudformation.")],
    formats: Annotated[
        list[str] | None, typer.Option("--format", help="Only this format; repeat for more.")
    ] = None,
    keep: Annotated[bool, typer.Option(help="Leave the folder it worked in, with the logs.")] = False,
    timeout: Annotated[float, typer.Option(min=1, help="Seconds for each format.")] = 300,
    as_json: options.Json = False,
) -> None:
    """Deploy the CloudFormation template on a local cloud, try every format, delete the stack."""

    def command() -> None:
        from gooseherd import smoke

        report = smoke.run_on_stack(
            folder,
            keep=keep,
            timeout_seconds=timeout,
            print_status=(lambda line: None) if as_json else print_status,
            formats=formats or (),
        )
        good = sum(one.ok for one in report.smoke.formats)
        if as_json:
            emit(report.to_json())
        else:
            for name, count in report.left_over.items():
                if count:
                    print_status(f"left over: {count} {name}")
            print_status(f"only checked: {', '.join(report.only_checked)}")
            print_status(f"{good} of {len(report.smoke.formats)} formats")
        if not report.ok:
            raise typer.Exit(Exit.FAILED)

    raise typer.Exit(run(command, as_json=as_json))


_UNSET = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_PROFILE")


def _without_secrets(environment: Mapping[str, str], state_dir: Path) -> dict[str, str]:
    """The file of the key instead of the key: what is printed ends up in files that others can read."""
    from gooseherd.devcloud.access_key import FILE, folder_of

    shown = {name: value for name, value in environment.items() if name not in _UNSET}
    return {**shown, "AWS_SHARED_CREDENTIALS_FILE": str(folder_of(state_dir) / FILE)}


def _until_signalled() -> None:
    signals = {signal.SIGINT, signal.SIGTERM}
    signal.pthread_sigmask(signal.SIG_BLOCK, signals)
    signal.sigwait(signals)


@app.command("tasks")
def tasks(
    ended: Annotated[bool, typer.Option("--ended", help="Also those that are STOPPED.")] = False,
    endpoint: Endpoint = None,
    state_dir: options.StateDir = None,
    as_json: options.Json = False,
) -> None:
    """List the tasks with their addresses, processes and logs."""

    def show(cloud_admin: LocalCloudAdmin) -> None:
        found = [task for task in cloud_admin.tasks() if ended or task["status"] != "STOPPED"]
        if as_json:
            emit(found)
            return
        rows = [
            (
                task["id"],
                task["status"],
                task["health"],
                task["address"],
                " ".join(map(str, task["pids"])),
                task["reason"] or task["logs"][0],
            )
            for task in found
        ]
        _table(("task", "status", "health", "address", "pids", "reason or log"), rows, "no tasks")

    _with(endpoint, state_dir, show, as_json=as_json)


@app.command("calls")
def calls(
    forget: Annotated[bool, typer.Option("--forget", help="Count from zero afterwards.")] = False,
    endpoint: Endpoint = None,
    state_dir: options.StateDir = None,
    as_json: options.Json = False,
) -> None:
    """How often each operation was called."""

    def show(cloud_admin: LocalCloudAdmin) -> None:
        counted = cloud_admin.calls()
        if as_json:
            emit(counted)
        else:
            rows = [
                (name, counts["total"], counts["last_minute"], counts["busiest_minute"])
                for name, counts in sorted(counted["operations"].items())
            ]
            _table(("operation", "total", "last minute", "busiest minute"), rows, "no calls")
        if forget:
            cloud_admin.forget_calls()

    _with(endpoint, state_dir, show, as_json=as_json)


@app.command("fault")
def fault(
    kind: Annotated[
        str | None, typer.Argument(help="capacity, throttle, error, reset, latency, slow_start, dies, …")
    ] = None,
    operation: Annotated[
        list[str] | None, typer.Option(help="RunTask, GetObject, …; repeat for more.")
    ] = None,
    service: Annotated[str, typer.Option(help="ecs or s3.")] = "",
    times: Annotated[int | None, typer.Option(help="How often; default: until it is cleared.")] = None,
    lasts: Annotated[float | None, typer.Option(help="Seconds until it ends by itself.")] = None,
    share: Annotated[float, typer.Option(help="Share of the calls that are hit.")] = 1.0,
    seconds: Annotated[float, typer.Option(help="How much later, for latency and slow_start.")] = 0.0,
    exit_code: Annotated[int, typer.Option(help="Of a container that dies.")] = 1,
    endpoint: Endpoint = None,
    state_dir: options.StateDir = None,
    as_json: options.Json = False,
) -> None:
    """Inject a fault; without a kind: list those that are active."""

    def inject(cloud_admin: LocalCloudAdmin) -> None:
        from gooseherd.devcloud.faults import Fault

        if kind is not None:
            fields: dict[str, Any] = {
                "kind": kind,
                "operations": operation or [],
                "service": service,
                "times": times,
                "lasts": lasts,
                "share": share,
                "seconds": seconds,
                "exit_code": exit_code,
            }
            cloud_admin.inject(Fault.from_json(fields))
        active = cloud_admin.faults()
        if as_json:
            emit(active)
            return
        rows = [
            (one["id"], one["kind"], _rest(one, "id", "kind", "left"), one.get("left", "")) for one in active
        ]
        _table(("number", "kind", "of", "times left"), rows, "no active faults")

    _with(endpoint, state_dir, inject, as_json=as_json)


@app.command("clear")
def clear(
    number: Annotated[int | None, typer.Argument(help="Of one fault; default: all.")] = None,
    endpoint: Endpoint = None,
    state_dir: options.StateDir = None,
    as_json: options.Json = False,
) -> None:
    """Remove injected faults."""
    _with(endpoint, state_dir, lambda cloud_admin: cloud_admin.clear(number), as_json=as_json)


@app.command("kill")
def kill(
    task: Task, endpoint: Endpoint = None, state_dir: options.StateDir = None, as_json: options.Json = False
) -> None:
    """SIGKILL to a task's containers."""
    _with(endpoint, state_dir, lambda cloud_admin: cloud_admin.kill(task), as_json=as_json)


@app.command("reclaim")
def reclaim(
    task: Task, endpoint: Endpoint = None, state_dir: options.StateDir = None, as_json: options.Json = False
) -> None:
    """Take a Spot task's capacity back: SIGTERM, then SIGKILL when the notice has run out."""
    _with(endpoint, state_dir, lambda cloud_admin: cloud_admin.reclaim(task), as_json=as_json)


def _with(
    url: str | None, state_dir: Path | None, act: Callable[[LocalCloudAdmin], None], *, as_json: bool
) -> None:
    def command() -> None:
        from gooseherd.devcloud.access_key import of_endpoint, recorded_endpoint
        from gooseherd.devcloud.admin_client import LocalCloudAdmin

        state = _state(state_dir)
        where = url or recorded_endpoint(state)
        if where is None:
            raise CommandError(
                Exit.NOT_THERE, "no local cloud runs here", "start one: gooseherd devcloud start"
            )
        # Its own key, whatever else the environment names: no other opens it.
        with LocalCloudAdmin(where, of_endpoint(where, state)) as cloud_admin:
            act(cloud_admin)

    raise typer.Exit(run(command, as_json=as_json))


def _state(state_dir: Path | None) -> Path:
    from gooseherd.settings import default_state_dir

    return state_dir or Path(os.environ.get("GOOSEHERD_STATE_DIR") or default_state_dir())


def _rest(fields: dict[str, Any], *without: str) -> str:
    return " ".join(f"{name}={value}" for name, value in fields.items() if name not in without)


def _table(heads: tuple[str, ...], rows: list[tuple[Any, ...]], empty: str) -> None:
    from gooseherd.cli.tables import show_table

    show_table(heads, rows, empty=empty)
