"""The worker's entrypoint: a Wool server on one port, ending itself when it has nothing to do.

`python -m gooseherd.worker.main`. Wool serves from a child process that imports this
module again, so it imports little and acts only at its end.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from gooseherd import logs
from gooseherd.certs import validity
from gooseherd.domain.errors import Misconfigured
from gooseherd.worker import container, tls
from gooseherd.worker.lifecycle import EXIT_MISCONFIGURED, NOT_DUMPABLE, START_TIMEOUT_SECONDS, Worker
from gooseherd.worker.options import UNNAMED, check, is_loopback, parse
from gooseherd.worker.settings import WorkerSettings

log = logging.getLogger("gooseherd.worker.main")  # Not __main__, which it mostly runs as.


def _report_preflight(work_dir: Path) -> int:
    """Print the findings; EXIT_MISCONFIGURED when something is missing without which no attempt succeeds."""
    from gooseherd.worker.preflight import examine

    try:
        report = examine(WorkerSettings.from_env(), work_dir)
    except Misconfigured as error:
        log.error("worker is misconfigured: %s", error)
        return EXIT_MISCONFIGURED
    sys.stdout.write(json.dumps(report.to_json(), indent=1) + "\n")
    sys.stdout.flush()
    return 0 if report.ok else EXIT_MISCONFIGURED


def _log_expiry(certificates: tls.Certificates) -> None:
    for role, ends in certificates.expiries("this worker").items():
        lasts, text = validity(f"the certificate of {role}", ends, datetime.now(UTC))
        log.log(logging.INFO if lasts else logging.WARNING, "%s", text)


def main(argv: Sequence[str] | None = None) -> int:
    """Run one worker; the exit status says how it ended."""
    logs.configure_from_environment(os.environ, only_json=True)
    options = parse(argv)
    if options.worker_id != UNNAMED:
        os.environ[logs.FIELDS] = json.dumps({"worker": options.worker_id})  # For children as well.
        logs.configure_from_environment(os.environ, only_json=True)
    logs.hide_credentials(os.environ)
    logs.hide(str(options.work_dir), "<work>")
    if options.doctor:
        return _report_preflight(options.work_dir)
    try:
        host = options.host or container.bind_address(os.environ)
        certificates = tls.Certificates.from_env(os.environ)
        check(host, certificates)
        if certificates is not None and not is_loopback(host):
            _log_expiry(certificates)  # Local ones are renewed by the service.
        settings = WorkerSettings.from_env()
    except Misconfigured as error:
        log.error("worker is misconfigured: %s", error)
        return EXIT_MISCONFIGURED
    worker = Worker(options, settings, host=host, certificates=certificates)
    # Not asyncio.run, whose end waits for threads: one may wait for a child that will never answer.
    return asyncio.new_event_loop().run_until_complete(worker.run())


if __name__ == "__mp_main__":  # Wool's child, before Wool sets up logging of its own kind.
    from gooseherd.worker.spawning import spawner

    spawner().warm_up()  # Imports at the same time as we do.
    # Loaded now, not by the first call: that would be done on the loop that answers gRPC.
    from gooseherd.worker import (
        attempt_supervisor,  # noqa: F401
        routines,  # noqa: F401
    )

    if os.environ.pop(NOT_DUMPABLE, None):
        container.forbid_dumps()
    logs.configure_from_environment(os.environ)
    # A worker that could not start its first attempt at once is not ready. If the fork server is not
    # ready in this time, the first attempt reports why.
    spawner().wait_warm(START_TIMEOUT_SECONDS / 2)

if __name__ == "__main__":
    status = main()
    logging.shutdown()
    os._exit(status)  # Nor wait for such threads here.
