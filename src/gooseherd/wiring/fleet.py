"""Which fleet the environment asks for: local processes, or FleetTasks of ECS when a cluster is named."""

from __future__ import annotations

import os
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Final

from gooseherd.control.loop import Loop
from gooseherd.control.wakeups import Wakeup
from gooseherd.domain.errors import GooseherdError, Misconfigured
from gooseherd.domain.ports.fleet import Fleet, WarmWorkers
from gooseherd.domain.ports.source import Sources
from gooseherd.domain.ports.worker import Workers
from gooseherd.domain.quantities import tool_threads
from gooseherd.fleet.deferred_workers import DeferredWoolWorkers
from gooseherd.fleet.local_certificates import LocalCertificates
from gooseherd.fleet.local_fleet import LocalFleet
from gooseherd.processing.tools.limits import sort_memory
from gooseherd.settings import Settings
from gooseherd.sources.references import SETTING as SOURCE_REFERENCES
from gooseherd.sources.rules import OutboundRules
from gooseherd.statedir import StateDir, secrets_of
from gooseherd.wiring.local_cloud import use_key_of_local_cloud
from gooseherd.worker.resources import cores, memory_bytes
from gooseherd.worker.sandbox_paths import HIDDEN
from gooseherd.worker.settings import build_id

_SYSTEM: Final = ("PATH", "HOME", "TMPDIR", "LANG", "TZ", "GOOSEHERD_BUILD", "AWS_ENDPOINT_URL")
_CREDENTIALS: Final = (
    *("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_PROFILE"),
    "AWS_SHARED_CREDENTIALS_FILE",
    *("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI", "AWS_CONTAINER_CREDENTIALS_FULL_URI"),
)

_MOST_REFERENCES_CHARACTERS: Final = 4096
"""ECS takes 8192 for all overrides of a RunTask."""
_LEAST_LOCAL_CAP: Final = 256 << 20
"""Bytes: of a machine with many workers and little memory; hardly ever do all sort at once."""


async def open_fleet(
    settings: Settings, state: StateDir, floor: WarmWorkers | None = None
) -> tuple[Fleet, Workers]:
    """The fleet and how to talk to its workers; the caller closes the fleet. On ECS it uses the warm `floor`.

    Raises:
        Misconfigured: naming the variable.
    """
    if settings.ecs_cluster is not None:
        return _ecs(settings, floor)
    if settings.worker_hosts is not None:
        return _on_hosts(settings)
    inherited = {name: os.environ[name] for name in _SYSTEM if name in os.environ}
    if settings.workflow_s3_bucket is not None and settings.workflow_s3_attempt_role is None:
        inherited |= {name: os.environ[name] for name in _CREDENTIALS if name in os.environ}
    certificates = LocalCertificates(state.path / "certs")
    fleet = LocalFleet(
        state_dir=state.path,
        max_workers=settings.worker_max_local,
        start_timeout=settings.worker_start_timeout_seconds,
        idle_timeout=settings.worker_idle_timeout_seconds,
        environment=inherited
        | local_share(settings)
        | worker_environment(settings)
        | _for_sandboxes(settings, state.path)
        | {"SOURCE_REFERENCES_DIR": str(references_folder(settings, state.path))},
        build=build_id(),
        certificates=certificates,
    )
    workers = DeferredWoolWorkers(silence_seconds=settings.worker_silence_seconds, certificates=certificates)
    return fleet, workers


def _on_hosts(settings: Settings) -> tuple[Fleet, Workers]:
    from gooseherd.fleet.certificate_expiry import CertificateWatch
    from gooseherd.fleet.host_fleet import HostFleet
    from gooseherd.fleet.host_list import HostList
    from gooseherd.fleet.wool_workers import WoolWorkers
    from gooseherd.worker.tls import Certificates

    certificates = Certificates.from_env(os.environ)
    if certificates is None:
        raise Misconfigured(
            "WORKER_TLS_CA", "the port of workers needs mutual TLS: `gooseherd certs make` makes it"
        )
    watch = CertificateWatch(certificates, by_host=True)
    watch.publish()
    workers = WoolWorkers(
        silence_seconds=settings.worker_silence_seconds,
        credentials=certificates.to_call(),
        credentials_of_host=certificates.to_call,
        watch=watch,
    )
    return HostFleet(hosts=HostList(settings.worker_hosts or ""), workers=workers, build=build_id()), workers


def _ecs(settings: Settings, floor: WarmWorkers | None) -> tuple[Fleet, Workers]:
    from gooseherd.fleet.certificate_expiry import CertificateWatch
    from gooseherd.fleet.discovery import EcsDiscovery, PollPace
    from gooseherd.fleet.ecs_api import EcsApi
    from gooseherd.fleet.ecs_fleet import EcsFleet
    from gooseherd.fleet.ecs_health import http_probe
    from gooseherd.fleet.ecs_launches import describe_over_wool, keep_over_wool
    from gooseherd.fleet.provisioner import EcsProvisioner, LaunchTemplate, Placement
    from gooseherd.fleet.sizes import SizeBounds
    from gooseherd.fleet.wool_workers import WoolWorkers
    from gooseherd.worker.tls import Certificates

    if settings.workflow_s3_bucket is None:
        raise Misconfigured("WORKFLOW_S3_BUCKET", "tasks on ECS publish to a bucket; name it")
    use_key_of_local_cloud(settings)
    if len(",".join(settings.source_references)) > _MOST_REFERENCES_CHARACTERS:
        raise Misconfigured(
            SOURCE_REFERENCES,
            f"at most {_MOST_REFERENCES_CHARACTERS} characters can be handed to a task: name assemblies "
            "instead of single sequences, or use {m5} in a URL",
        )
    certificates = Certificates.from_env(os.environ)
    if certificates is None:
        raise Misconfigured(
            "WORKER_TLS_CA", "the port of tasks needs mutual TLS: `gooseherd certs make` makes it"
        )
    watch = CertificateWatch(certificates)
    watch.publish()
    workers = WoolWorkers(
        silence_seconds=settings.worker_silence_seconds, credentials=certificates.to_call(), watch=watch
    )
    api = EcsApi(
        settings.ecs_cluster or "", region=settings.aws_region, endpoint_url=settings.aws_endpoint_url
    )
    template = LaunchTemplate(
        fleet=settings.ecs_fleet,
        task_definition=settings.ecs_worker_task_definition or "",
        subnets=settings.ecs_worker_subnets,
        security_groups=settings.ecs_worker_security_groups,
        assign_public_ip=settings.ecs_worker_assign_public_ip,
        container=settings.ecs_worker_container,
        placement=Placement(settings.ecs_worker_placement),
        # Not the build: an image says its own, or the wrong one would pass for ours.
        environment=worker_environment(settings),
        build=build_id(),
    )
    discovery = EcsDiscovery(
        api,
        settings.ecs_fleet,
        worker_port=settings.worker_port,
        pace=PollPace(calls_per_minute=settings.ecs_poll_calls_per_minute),
        probe=http_probe(settings.worker_health_port),
        secure=True,
    )
    fleet = EcsFleet(
        api=api,
        provisioner=EcsProvisioner(api, template),
        discovery=discovery,
        describe=describe_over_wool(workers),
        build=build_id(),
        max_workers=settings.ecs_max_workers,
        bounds=SizeBounds(
            least_cpu=settings.ecs_worker_min_cpu,
            least_memory_mib=settings.ecs_worker_min_memory_mib,
            most_cpu=settings.ecs_worker_max_cpu,
            most_memory_mib=settings.ecs_worker_max_memory_mib,
            most_disk_gib=settings.ecs_worker_max_disk_gib,
        ),
        start_timeout=settings.ecs_start_timeout_seconds,
        idle_timeout=settings.worker_idle_timeout_seconds,
        floor=floor,
        # Long enough for its attempt to begin; afterwards its own idle timeout counts.
        unreserve=keep_over_wool(workers, settings.worker_idle_timeout_seconds),
    )
    return fleet, workers


def certificate_loop(workers: Workers) -> Loop[Mapping[str, datetime], tuple[str, datetime]] | None:
    """Writes a line for each certificate between here and the workers, at the start and once a day."""
    if isinstance(workers, DeferredWoolWorkers):
        return None  # Those of local workers are renewed by the service.
    from gooseherd.fleet.certificate_expiry import REPORT_SECONDS
    from gooseherd.fleet.wool_workers import WoolWorkers

    watch = workers.watch if isinstance(workers, WoolWorkers) else None
    if watch is None:
        return None

    async def report(one: tuple[str, datetime]) -> None:
        await watch.report(*one)

    return Loop(
        "certificates",
        observe=watch.all_ends,
        plan=lambda ends: [*ends.items()],
        act=report,
        wakeup=Wakeup(),
        tick_seconds=REPORT_SECONDS,
    )


def _for_sandboxes(settings: Settings, state_dir: Path) -> dict[str, str]:
    """What tools on this machine may read, and the keys of the service, which they never may."""
    readable = map(str, settings.worker_readable_paths)
    return {
        "WORKER_READABLE_PATHS": os.pathsep.join(readable),
        HIDDEN: os.pathsep.join(map(str, secrets_of(state_dir))),
    }


def outbound_rules(settings: Settings) -> OutboundRules:
    """The SOURCE_ variables as rules, the same for the API and its workers."""
    return OutboundRules(
        allow_http=settings.source_allow_http,
        allow_hosts=settings.source_allow_hosts,
        allow_networks=settings.source_allow_networks,
        file_roots=(
            *settings.source_file_roots,
            *((settings.uploads_dir / "files",) if settings.takes_uploads else ()),
        ),
        drs_prefixes=settings.source_drs_prefixes,
        s3_endpoint=settings.source_s3_endpoint,
        s3_region=settings.source_s3_region,
        references=settings.source_references,
        references_max_bytes=settings.source_references_max_bytes,
        references_dir=settings.source_references_dir,
        min_bytes_per_second=settings.source_min_bytes_per_second,
        slow_seconds=settings.source_slow_seconds,
    )


def references_folder(settings: Settings, state: Path) -> Path:
    """The folder of reference sequences of the workers on this machine."""
    return settings.source_references_dir or state / "references"


def check_references(settings: Settings, sources: Sources) -> None:
    """Refuse at start what would fail with the first CRAM.

    Raises:
        Misconfigured: an entry of SOURCE_REFERENCES cannot be read, or its URL is against the rules.
    """
    for reference in outbound_rules(settings).reference_sources():
        try:
            sources.judge(reference.url_of("0" * 32))
        except GooseherdError as error:
            raise Misconfigured(SOURCE_REFERENCES, f"{reference.name}: {error}") from None


def worker_environment(settings: Settings) -> dict[str, str]:
    """Of the settings what a worker reads, wherever it runs. No secret: RunTask's overrides can be read."""
    artifacts = (
        {"SYNC_DATA_DIR": str(settings.artifacts_dir)}
        if settings.workflow_s3_bucket is None
        else {
            "WORKFLOW_S3_BUCKET": settings.workflow_s3_bucket,
            "WORKFLOW_S3_PREFIX": settings.workflow_s3_prefix,
            "AWS_REGION": settings.aws_region,
            # Each order brings credentials: nobody is to be asked for others, which takes seconds.
            **({"AWS_EC2_METADATA_DISABLED": "true"} if settings.workflow_s3_attempt_role else {}),
        }
    )
    return {
        **artifacts,
        **outbound_rules(settings).to_env(),
        "WORKER_SANDBOX": settings.worker_sandbox,
        **({"GOOSEHERD_LOG_JSON": "true"} if settings.gooseherd_log_json else {}),
        **(
            {"GOOSEHERD_LOG_LEVEL": settings.gooseherd_log_level}
            if settings.gooseherd_log_level != "INFO"
            else {}
        ),
        **(
            {"WORKER_MEMORY_BYTES": str(settings.worker_memory_bytes)} if settings.worker_memory_bytes else {}
        ),
        "WORKER_IDLE_TIMEOUT_SECONDS": str(settings.worker_idle_timeout_seconds),
        "WORKER_MAX_LIFETIME_SECONDS": str(settings.worker_max_lifetime_seconds),
        # What is not said follows from the size of the worker, which each knows itself.
        **{
            name: str(value)
            for name, value in (
                ("WORKER_THREADS", settings.worker_threads),
                ("CFDB_SORT_MEMORY_CAP", settings.cfdb_sort_memory_cap),
                ("CFDB_SAMTOOLS_MEMORY_CAP", settings.cfdb_samtools_memory_cap),
            )
            if value
        },
    }


def local_share(settings: Settings) -> dict[str, str]:
    """What a worker on this machine is told of its size, beside other workers and other people's programs."""
    many = settings.worker_max_local
    memory = settings.worker_memory_bytes or memory_bytes() // 2 // many
    cap = str(max(sort_memory(memory), _LEAST_LOCAL_CAP))
    return {
        "WORKER_THREADS": str(tool_threads(cores() // many)),
        "CFDB_SORT_MEMORY_CAP": cap,
        "CFDB_SAMTOOLS_MEMORY_CAP": cap,
    }
