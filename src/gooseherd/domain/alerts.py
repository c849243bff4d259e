"""Alerts that lines of the log stand for, by the names of the rules in deploy/prometheus/alerts.yaml."""

from __future__ import annotations

from enum import StrEnum
from typing import Final

ALERT_FIELD: Final = "alert"
"""Of a log line: what whoever watches the log instead of the metrics looks for."""


class Alert(StrEnum):
    """What docs/alerts.md says what to do for."""

    STORE_AWAY = "GooseherdStoreAway"
    JOB_STUCK = "GooseherdJobStuck"
    JOB_UNOWNED = "GooseherdJobUnowned"
    QUEUE_OLD = "GooseherdQueueOld"
    LAUNCHES_FAIL = "GooseherdLaunchesFail"
    ORPHAN_SEEN = "GooseherdOrphanSeen"
    RECONCILER_HELD_BACK = "GooseherdReconcilerHeldBack"
    RECONCILE_BLIND = "GooseherdReconcileBlind"
    CERTIFICATE_ENDS = "GooseherdCertificateEnds"
