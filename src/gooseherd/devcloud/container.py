"""What a container runtime does for one program: when it ends, everything it started ends too.

Run as a program: `python -I -S container.py ARGV...`. Standard input is a line to the owner:
`T` sends SIGTERM to the program, `K` SIGKILL, and its end (the owner died) kills everything.
The exit status is the program's as a container shows it: 128 + n after signal n, 127 when
it could not be started. Nothing survives: also what left the session or the process group
is reparented to us (PR_SET_CHILD_SUBREAPER, prctl(2)). Standard library only, Linux only.
"""

from __future__ import annotations

import ctypes
import os
import select
import signal
import sys
from contextlib import suppress

_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36


def main(argv: list[str]) -> int:
    """Run `argv` to its end, or the owner's; the status to exit with."""
    prctl = ctypes.CDLL(None, use_errno=True).prctl
    prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    keeper = os.getpid()
    program = os.fork()
    if program == 0:
        prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        if os.getppid() != keeper:  # it died before the line above
            os._exit(127)
        _become(argv)
    # Not before the fork: a child that ignores SIGTERM until it is the program would lose one.
    for ignored in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(ignored, signal.SIG_IGN)
    try:
        _watch(program)
        with suppress(ProcessLookupError):
            os.kill(program, signal.SIGKILL)
        _, status = os.waitpid(program, 0)
    finally:
        _end_all()
    code = os.waitstatus_to_exitcode(status)
    return code if code >= 0 else 128 - code


def _become(argv: list[str]) -> None:
    try:
        os.setsid()
        for changed in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGPIPE, signal.SIGXFSZ):
            signal.signal(changed, signal.SIG_DFL)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        os.execvp(argv[0], argv)
    except OSError as error:
        os.write(2, f"{argv[0]}: {error.strerror}\n".encode())
    finally:
        os._exit(127)


def _watch(program: int) -> None:
    """Return when the program has ended or is to be killed with all it started."""
    ended = os.pidfd_open(program)
    poll = select.poll()
    poll.register(ended, select.POLLIN)
    poll.register(0, select.POLLIN | select.POLLHUP)
    try:
        while True:
            ready = [fd for fd, _ in poll.poll()]
            if ended in ready:
                return
            data = os.read(0, 1)
            if data == b"T":
                signal.pidfd_send_signal(ended, signal.SIGTERM)
            else:
                return
    finally:
        os.close(ended)


def _end_all() -> None:
    """Kill descendants until there are none; each one killed hands its children to us."""
    while True:
        for pid in _children(os.getpid()):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        try:
            os.waitpid(-1, 0)
        except ChildProcessError:
            return


def _children(parent: int) -> list[int]:
    found: list[int] = []
    for name in os.listdir("/proc"):  # noqa: PTH208 - pathlib takes longer to import than all this
        if name.isdigit():
            # proc(5): the parent is the second field behind the name, which stands in parentheses.
            with suppress(OSError), open(f"/proc/{name}/stat", "rb") as file:  # noqa: PTH123 - likewise
                fields = file.read().rpartition(b")")[2].split()
                if int(fields[1]) == parent:
                    found.append(int(name))
    return found


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
