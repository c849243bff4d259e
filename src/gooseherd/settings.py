"""Every setting, once: its environment name, bounds, unit, default and the reason for it.

`docs/settings.md` is generated from here: `python -m gooseherd.settings > docs/settings.md`.
"""

from __future__ import annotations

import os
import re
import sys
from enum import StrEnum
from pathlib import Path
from typing import Literal

from pydantic import Field
from pydantic_settings import SettingsConfigDict

from gooseherd import environment
from gooseherd.domain.errors import Misconfigured
from gooseherd.domain.quantities import MOST_THREADS
from gooseherd.http_settings import HttpSettings, check_delivery
from gooseherd.setting_types import LEAST_SPANS, Folder, Size, Switch, Text, Words
from gooseherd.settings_page import settings_page
from gooseherd.source_settings import SourceSettings
from gooseherd.tool_settings import ToolSettings
from gooseherd.usage_settings import UsageSettings, check_usage


class Profile(StrEnum):
    """What the environment amounts to."""

    EMBEDDED = "embedded"
    DEVCLOUD = "devcloud"
    AWS = "aws"


def default_state_dir() -> Path:
    """Where the embedded profile keeps everything (XDG base directories: state)."""
    home = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
    return Path(home) / "gooseherd"


class Settings(ToolSettings, SourceSettings, HttpSettings, UsageSettings):
    """Read from the environment only; nothing needs to be set on a laptop."""

    model_config = SettingsConfigDict(env_prefix="", case_sensitive=False, frozen=True, extra="ignore")

    gooseherd_state_dir: Path = Field(
        default_factory=default_state_dir,
        description="Folder of one service: the database unless DATABASE_URL is set, artifacts, work, logs.",
    )
    gooseherd_log_level: str = Field("INFO", description="DEBUG, INFO, WARNING or ERROR; of workers too.")
    gooseherd_log_json: bool = Field(
        False, description="One JSON object a line and nothing else (docs/logs.md)."
    )

    # -- state
    database_url: Text = Field(
        None,
        description="The store: sqlite:///absolute/path (one machine), postgresql://… or mongodb://…. Unset: "
        "SQLite in the state folder, gooseherd.db.",
    )
    database_name: str = Field(
        "gooseherd",
        description="Database on a server whose URL names none; of MongoDB always.",
        pattern=r"^[A-Za-z0-9_-]+$",
    )

    # -- artifacts
    sync_data_dir: Folder = Field(
        None,
        description="Folder for artifacts. Unset: inside the state folder; with a database server there is "
        "none, and processing is off.",
    )
    workflow_s3_bucket: Text = Field(None, description="Bucket for artifacts; used instead of the folder.")
    workflow_s3_prefix: str = Field("", description="Key prefix inside the bucket.")
    workflow_s3_attempt_role: Text = Field(
        None,
        description="Role (ARN) that the API assumes for each attempt, narrowed to its artifact; tasks then "
        "need no role. Unset: workers use that of their task, for the whole bucket.",
    )
    workflow_digest_max_bytes: Size | None = Field(
        None,
        ge=0,
        description="Parts up to this size are read by the API and compared with the SHA-256 that the worker "
        "named, before they are published; of larger ones the size is compared. Unset: all parts where "
        "WORKFLOW_S3_ATTEMPT_ROLE confines workers to their artifact, else 8 MiB.",
    )
    artifact_max_idle_seconds: float = Field(
        0, ge=0, description="Artifacts that nobody read for so long go, two days at least; 0: they stay."
    )
    artifact_max_total_bytes: Size = Field(
        0, ge=0, description="Above it artifacts that nobody read for longest go; 0: no limit."
    )
    artifact_superseded_seconds: float = Field(
        0,
        ge=0,
        description="What a version of a processor made that is not current goes after so long, 30 days "
        "at least (a rollback needs it); 0: it stays.",
    )
    artifact_unlisted_seconds: float = Field(
        0,
        ge=0,
        description="Artifacts whose content no catalog entry has go when nobody read them for so long, two "
        "days at least; 0: they stay.",
    )
    artifact_unfinished_seconds: float = Field(
        7 * 86400,
        ge=2 * 86400,
        description="What attempts left of artifacts that were never published goes after so long.",
    )
    artifact_remove_leftovers: bool = Field(
        False,
        description="Whether the service removes from its bucket what attempts left, which needs "
        "s3:DeleteObject; without it that stays there. From a folder it is removed anyway.",
    )
    aws_endpoint_url: Text = Field(None, description="Another endpoint than AWS's own: a local cloud.")
    aws_region: str = Field(environment.REGION, description="Region of bucket and cluster.")

    # -- workflow
    workflow_duration_cap_seconds: float = Field(
        4 * 3600, gt=0, description="Longest an attempt may run; then it ends with deadline_exceeded."
    )
    workflow_heartbeat_seconds: float = Field(300, gt=0, description="How often a lease is renewed.")
    workflow_stale_seconds: float = Field(
        900,
        gt=0,
        description="Length of a lease: a holder silent for this long is replaced. Three heartbeats.",
    )
    workflow_finalize_grace_seconds: float = Field(
        300, ge=0, description="How long past its lease a finalizing job is left alone."
    )
    workflow_hard_ceiling_seconds: float = Field(
        24 * 3600, gt=0, description="Oldest an attempt may be; the reaper ends its job, whatever it says."
    )
    workflow_queue_ttl_seconds: float = Field(
        24 * 3600,
        gt=0,
        description="Longest wait in the queue, anew after an attempt that had a worker.",
    )
    workflow_tick_seconds: float = Field(
        5, gt=0, description="Safety net of the control loops, which are otherwise woken by events."
    )
    workflow_reconcile_seconds: float = Field(
        60, ge=0, description="How often the fleet is reconciled with the jobs; 0: not by this process."
    )
    workflow_retention_seconds: float = Field(
        3600,
        ge=0,
        description="How often all that is kept is looked over for what may go; 0: not here.",
    )
    workflow_keep_ended_seconds: float = Field(
        30 * 86400, ge=0, description="How long ended jobs and batches stay, at least a day; 0: for ever."
    )
    workflow_shutdown_grace_seconds: float = Field(
        20,
        ge=0,
        description="How long finalizers may take at shutdown; below ECS's default stop timeout of 30 s.",
    )
    workflow_finalizer_marker: bool = Field(True, description="Kill switch of the live-finalizer registry.")
    workflow_max_active_jobs: int = Field(10_000, ge=1, description="Jobs waiting or running; more get 429.")
    workflow_max_pending_per_requester: int = Field(
        1_000, ge=1, description="Jobs one requester may have waiting."
    )
    workflow_max_open_batches: int = Field(100, ge=1, description="Batches under way; more get 429.")
    workflow_max_open_batches_per_requester: int = Field(
        10, ge=1, description="Batches one requester may have under way."
    )
    workflow_batch_ttl_seconds: float = Field(
        7 * 86400, gt=0, description="Oldest a batch may be; then its files that still wait are given up."
    )
    workflow_max_running_per_requester: int = Field(
        0,
        ge=0,
        description="Jobs one requester may have running, over all API processes; more wait. 0: one "
        "fewer than there may be workers, so that slow files of one leave a worker to others; all of them "
        "on a loopback address without proxies (API_TRUSTED_PROXIES), where everybody is one requester.",
    )
    workflow_max_sessions: int = Field(
        4, ge=0, le=1000, description="Sessions at a time, of all API processes; a requester has one at most."
    )
    workflow_session_idle_seconds: float = Field(
        900,
        gt=0,
        le=86400,
        description="A session with nothing in flight for this long ends, unless it asks.",
    )
    workflow_compression_level: int = Field(
        0,
        ge=0,
        le=9,
        description="Compression of new artifacts: 0 is soonest ready (local workers that lack the kernel "
        "take 1), 4 a tenth smaller for three times as long, 6 what the tools themselves would take.",
    )
    workflow_density: bool = Field(
        True,
        description="New artifacts get a density (how many records lie where, a small bigWig). Part of their "
        "keys: after a change files are prepared anew when they are asked for.",
    )
    workflow_cram: Literal["bam", "cram"] = Field(
        "bam",
        description="What a CRAM becomes: BAM, which all viewers read, or a sorted CRAM with its CRAI, half "
        "the size, for viewers that have the reference. Part of its keys.",
    )
    workflow_backoff_scale: float = Field(
        1.0, ge=0, le=10, description="Factor on the waits between attempts."
    )

    # -- workers
    worker_max_local: int = Field(
        max(1, min(os.cpu_count() or 1, 8)),
        ge=1,
        le=256,
        description="Worker processes of the embedded fleet. One per core: each runs one attempt.",
    )
    worker_threads: int = Field(
        0,
        ge=0,
        le=MOST_THREADS,
        description="Threads a tool may use inside one attempt. 0: at least 2, on ECS the task's vCPUs, of a "
        "local worker its share of the cores.",
    )
    worker_idle_timeout_seconds: float = Field(
        environment.IDLE_TIMEOUT_SECONDS,
        gt=0,
        description="A worker without an attempt stops itself after this long.",
    )
    worker_max_lifetime_seconds: float = Field(
        environment.MAX_LIFETIME_SECONDS,
        ge=0,
        description="After this a worker takes no new attempt, and is stopped; 0: never.",
    )
    worker_orphan_grace_seconds: float = Field(
        300,
        ge=0,
        description="A worker no job has needed for this long is stopped; at least twice the idle timeout.",
    )
    worker_start_timeout_seconds: float = Field(
        60, gt=0, description="A worker not healthy by then has failed."
    )
    worker_silence_seconds: float = Field(
        60, gt=0, description="A worker that sends nothing for this long is lost; it sends heartbeats."
    )
    worker_scratch_bytes: Size = Field(
        512 * 2**30, gt=0, description="Most an attempt may write to its work folder."
    )
    # -- workers on hosts
    worker_hosts: Text = Field(
        None,
        description="Workers that run on other machines: host:port, comma-separated, or the path of a "
        "file with one a line, which is read again when it changes. Unset: they are local, or on ECS.",
    )

    # -- workers on ECS
    ecs_cluster: Text = Field(None, description="Cluster of the workers. Unset: they are local processes.")
    ecs_worker_task_definition: Text = Field(
        None, description="Task definition of workers: family, family:revision or ARN."
    )
    ecs_worker_subnets: Words = Field((), description="Subnets of workers, comma-separated.")
    ecs_worker_security_groups: Words = Field((), description="Security groups of workers, comma-separated.")
    ecs_worker_assign_public_ip: Switch = Field(
        False, description="Whether workers get a public address: true or false, or ENABLED or DISABLED."
    )
    ecs_worker_container: str = Field("worker", description="The worker's container in that definition.")
    ecs_worker_placement: Literal["fargate", "spot", "spot_first"] = Field(
        "fargate", description="Capacity: on demand, Spot only, or Spot with on demand when there is none."
    )
    ecs_worker_max_cpu: int = Field(4096, ge=256, le=16384, description="Most CPU units of a worker.")
    ecs_worker_max_memory_mib: int = Field(16384, ge=512, le=122880, description="Most memory, MiB.")
    ecs_worker_max_disk_gib: int = Field(200, ge=21, le=200, description="Most disk, GiB.")
    ecs_worker_min_cpu: int = Field(1024, ge=256, le=16384, description="Least CPU units of a worker.")
    ecs_worker_min_memory_mib: int = Field(2048, ge=512, le=122880, description="Least memory, MiB.")
    ecs_poll_calls_per_minute: int = Field(
        120, ge=6, description="Most ListTasks and DescribeTasks calls; the account shares 1,200 a minute."
    )
    ecs_fleet: str = Field(
        "gooseherd", description="Marks our tasks (startedBy); two deployments in one cluster need two names."
    )
    ecs_max_workers: int = Field(20, ge=1, le=1000, description="Workers at a time, of all API processes.")
    ecs_warm_workers: int = Field(
        0,
        ge=0,
        le=100,
        description="Idle workers of the smallest size kept ready, by all API processes together, so that a "
        "small file waits for no cold start. One of 1 vCPU costs some 30 dollars a month.",
    )
    ecs_start_timeout_seconds: float = Field(
        300, gt=0, description="From RunTask to healthy; a cold start on Fargate takes 60 s and more."
    )
    worker_port: int = Field(
        environment.WORKER_PORT, ge=1, le=65535, description="Wool port of workers in tasks."
    )
    worker_health_port: int = Field(
        environment.WORKER_HEALTH_PORT, ge=1, le=65535, description="Health port of workers in tasks."
    )

    @property
    def profile(self) -> Profile:
        """Chosen by environment, never by code."""
        if self.workflow_s3_bucket is None:
            return Profile.EMBEDDED
        return Profile.DEVCLOUD if self.aws_endpoint_url else Profile.AWS

    @property
    def artifacts_dir(self) -> Path | None:
        """Where LocalFsCache lives; None when artifacts go to S3 or processing is off.

        A deployment with a database server must also name a place for artifacts; a single machine need not.
        """
        if self.workflow_s3_bucket is not None:
            return None
        if self.sync_data_dir is not None:
            return self.sync_data_dir.absolute()
        return None if self.has_database_server else self.gooseherd_state_dir.absolute() / "artifacts"

    @property
    def default_database(self) -> Path:
        """The SQLite file that is the store unless DATABASE_URL is set."""
        return self.gooseherd_state_dir.absolute() / "gooseherd.db"

    @property
    def takes_uploads(self) -> bool:
        """Whether clients may send files."""
        if self.api_uploads == "off" or self._uploads_problem:
            return False
        return self.api_uploads == "on" or self.is_local

    @property
    def _uploads_problem(self) -> str:
        """Why none can be taken; empty: they can."""
        local = self.ecs_cluster is None and self.artifacts_dir is not None and not self.has_database_server
        return "" if local else "uploads are for workers and artifacts on this machine only"

    @property
    def uploads_dir(self) -> Path:
        """What clients sent."""
        return self.gooseherd_state_dir.absolute() / "uploads"

    @property
    def has_database_server(self) -> bool:
        """Whether the store is a server's, and other machines may use it."""
        return self.database_url is not None and not self.database_url.startswith("sqlite:")

    def checked(self) -> Settings:
        """Refuse at start what would only fail later.

        Raises:
            Misconfigured: naming the variable.
        """
        if self.workflow_heartbeat_seconds * 2 > self.workflow_stale_seconds:
            raise Misconfigured(
                "WORKFLOW_STALE_SECONDS",
                "must be at least twice WORKFLOW_HEARTBEAT_SECONDS, or live jobs get replaced",
            )
        for name, (least, words) in LEAST_SPANS.items():
            if 0 < getattr(self, name) < least:
                raise Misconfigured(name.upper(), f"must be at least {words}")
        if self.worker_hosts and self.ecs_cluster:
            raise Misconfigured("WORKER_HOSTS", "and ECS_CLUSTER exclude each other: workers are of one kind")
        if self.ecs_warm_workers and self.ecs_cluster is None:
            raise Misconfigured("ECS_WARM_WORKERS", "local workers are not kept ready: leave it unset")
        if self.ecs_warm_workers >= self.ecs_max_workers:
            raise Misconfigured(
                "ECS_WARM_WORKERS", "must be less than ECS_MAX_WORKERS, or larger files never get a worker"
            )
        check_usage(self)
        if self.api_uploads == "on" and self._uploads_problem:
            raise Misconfigured("API_UPLOADS", self._uploads_problem)
        check_delivery(self, in_bucket=self.workflow_s3_bucket is not None)
        if self.source_file_roots and self.profile is Profile.AWS:
            raise Misconfigured("SOURCE_FILE_ROOTS", "file: sources are for workers on this machine only")
        for origin in self.api_allow_origins:
            if not re.fullmatch(r"[a-z][a-z0-9+.-]*://[^/\s]+/?|null|\*", origin, re.IGNORECASE):
                raise Misconfigured("API_ALLOW_ORIGINS", f"{origin!r} is no origin, as https://host:port is")
        for root in self.source_file_roots:
            if not root.is_dir():
                raise Misconfigured("SOURCE_FILE_ROOTS", f"{root}: no such folder")
        return self


def reference() -> str:
    """The settings page, in Markdown."""
    return settings_page(Settings)


if __name__ == "__main__":
    sys.stdout.write(reference())
