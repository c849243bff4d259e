"""Until when the certificates of this process are valid: in the log at its start, and in its metrics."""

from __future__ import annotations

import logging
import math
from datetime import UTC, datetime
from functools import partial
from typing import Final

from gooseherd.certs import validity
from gooseherd.domain.alerts import ALERT_FIELD, Alert
from gooseherd.domain.errors import Misconfigured
from gooseherd.telemetry import CERTIFICATE_EXPIRY
from gooseherd.worker.tls import Certificates

_log = logging.getLogger(__name__)

API: Final = "api"


def report_expiry(certificates: Certificates) -> None:
    """Log it, and let each scrape of the metrics read it anew.

    Raises:
        Misconfigured: a certificate cannot be read.
    """
    for role, ends in certificates.expiries(API).items():
        lasts, text = validity(f"the certificate of {role}", ends, datetime.now(UTC))
        alert = {} if lasts else {ALERT_FIELD: Alert.CERTIFICATE_ENDS}
        _log.log(logging.INFO if lasts else logging.WARNING, "%s", text, extra={"role": role, **alert})
        CERTIFICATE_EXPIRY.labels(role).set_function(partial(_ends, certificates, role))


def _ends(certificates: Certificates, role: str) -> float:
    try:
        return certificates.expiries(API)[role].timestamp()
    except Misconfigured:
        return math.nan  # being replaced, or gone: a scrape must not fail for that
