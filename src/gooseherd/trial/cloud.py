"""What a trial on the local cloud needs besides the service: inputs by http, and a look at what is left."""

from __future__ import annotations

import functools
import http.server
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from gooseherd.devcloud.admin_client import LocalCloudAdmin
from gooseherd.devcloud.deployment import running_local_cloud, unfinished_uploads

__all__ = ["left_over", "running_local_cloud", "serving"]

_SETTLE_SECONDS: Final = 30.0
"""From StopTask to a task without a process, on two busy cores."""


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        """Says nothing."""


@contextmanager
def serving(folder: Path) -> Iterator[str]:
    """The folder's files on a free loopback port; gives the URL without a slash at the end."""
    handler = functools.partial(_Quiet, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, name="inputs")
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}"
        finally:
            server.shutdown()
            thread.join()


def left_over(cloud: Mapping[str, str]) -> dict[str, int]:
    """Tasks, processes of tasks and unfinished uploads that are still there, after a time to settle."""
    cloud_admin = LocalCloudAdmin.of(cloud)
    deadline = time.monotonic() + _SETTLE_SECONDS
    while True:
        tasks = cloud_admin.tasks()
        live = [task for task in tasks if task["status"] != "STOPPED"]
        processes = sum(1 for task in tasks if _alive(task))
        if not (live or processes) or time.monotonic() > deadline:
            return {"tasks": len(live), "processes": processes, "staging_objects": unfinished_uploads(cloud)}
        time.sleep(0.2)


def _alive(task: Mapping[str, Any]) -> bool:
    return any(Path(f"/proc/{pid}").exists() for pid in task.get("pids", ()))
