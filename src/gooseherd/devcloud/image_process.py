"""What a container runtime does before the program: its image for a root, and nothing of ours to write to.

Run as a program: `python -I -S image_process.py BWRAP PLAN ARGV...`; PLAN is a JSON file (image.py
writes it), ARGV comes behind the image's entry point. bubblewrap (at BWRAP) makes the mounts, in a user
namespace of one user, so that no privileges are needed; network and process ids are the machine's.
Signals are passed on to the program, and this process ends as the program ended. Standard library
only, Linux only.
"""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
from types import FrameType
from typing import Any

_PASSED_ON = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2)


def main(argv: list[str]) -> int:
    """Run the image's program to its end; the status to exit with."""
    bubblewrap, path, *more = argv
    with open(path, encoding="utf-8") as file:  # noqa: PTH123 - no pathlib, as in container.py
        plan = json.load(file)
    given = {name: value for name, value in os.environ.items() if name not in plan["not_for_images"]}
    program = [*plan["argv"], *more]
    return _run([bubblewrap, *_mounts(plan)], program, {**plan["environment"], **given})


def _mounts(plan: dict[str, Any]) -> list[str]:
    """Options of bubblewrap; what it mounts on is made here, since the image is read-only to it."""
    root, user = plan["root"], str(plan["user"])
    # The task's folder, in which we are started, goes with the task.
    volumes = {volume: f"{os.getcwd()}/volume{n}" for n, volume in enumerate(plan["volumes"])}  # noqa: PTH109
    options = ["--unshare-user", "--uid", user, "--gid", user, "--die-with-parent", "--ro-bind", root, "/"]
    for shared in plan["shared"]:
        if os.path.exists(shared):  # noqa: PTH110 - as above
            options += ["--dev-bind" if shared in ("/dev", "/proc") else "--ro-bind", shared, shared]
    for volume, folder in volumes.items():
        os.mkdir(folder, 0o700)  # noqa: PTH102
        options += ["--bind", folder, volume]
    for source in _source_folders(plan["volumes"]):
        below = next((volume for volume in volumes if source.startswith(f"{volume}/")), "")
        _make_inside(volumes.get(below, root), source.removeprefix(below))
        options += ["--ro-bind", source, source]
    return [*options, "--chdir", plan["folder"]]


def _source_folders(volumes: list[str]) -> list[str]:
    """This machine's folders that local sources may be read from, as the task's variable names them."""
    named = os.environ.get("SOURCE_FILE_ROOTS", "").split(os.pathsep)
    folders = [os.path.normpath(name) for name in named if name]
    for folder in folders:
        if folder == "/" or any(f"{volume}/".startswith(f"{folder}/") for volume in volumes):
            raise OSError(errno.EBUSY, "SOURCE_FILE_ROOTS would hide the image or a volume of it", folder)
    return folders


def _make_inside(root: str, folder: str) -> None:
    """A place for it in the image, which has none of its own there."""
    target = root + folder
    if not os.path.realpath(target).startswith(os.path.realpath(root) + "/"):
        raise OSError(errno.EXDEV, "reaches out of the image", folder)
    os.makedirs(target, exist_ok=True)  # noqa: PTH103
    if os.listdir(target):  # noqa: PTH208
        raise OSError(errno.EBUSY, "SOURCE_FILE_ROOTS would hide files of the image", folder)


def _run(bubblewrap: list[str], program: list[str], environment: dict[str, str]) -> int:
    early: list[int] = []
    pid: int | None = None

    def pass_on(number: int, _: FrameType | None) -> None:
        if pid is None:
            early.append(number)
        else:
            os.kill(pid, number)

    for number in _PASSED_ON:
        signal.signal(number, pass_on)
    reading, writing = os.pipe()
    command = [*bubblewrap, "--info-fd", str(writing), "--", *program]
    with subprocess.Popen(command, env=environment, pass_fds=(writing,)) as process:
        os.close(writing)
        with open(reading, encoding="utf-8") as file:  # noqa: PTH123
            information = file.read()
        if not information:
            process.wait()
            raise OSError(errno.EPERM, "bubblewrap refuses; user namespaces may not be allowed here")
        pid = json.loads(information)["child-pid"]
        for passed in early:
            pass_on(passed, None)
        status = process.wait()
    if status > 128:  # As bubblewrap says that a signal ended the program.
        signal.signal(status - 128, signal.SIG_DFL)
        os.kill(os.getpid(), status - 128)
    return status


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except OSError as error:
        sys.stderr.write(f"{error}\n")
        sys.exit(127)
