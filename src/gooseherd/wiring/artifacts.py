"""Where artifacts lie and what makes them, from settings."""

from __future__ import annotations

from gooseherd.api.artifact_delivery import ArtifactDelivery
from gooseherd.domain.ports.cache import CacheBackend, SignedObjects
from gooseherd.domain.ports.credentials import CredentialIssuer
from gooseherd.http_settings import PRESIGNED
from gooseherd.processing.registry import ProcessorRegistry, default_registry
from gooseherd.processing.step_context import quickest_level
from gooseherd.settings import Settings
from gooseherd.storage.local import LocalFsCache
from gooseherd.wiring.local_cloud import use_key_of_local_cloud


def make_registry(settings: Settings) -> ProcessorRegistry:
    """All processors, with the settings that new artifacts are made by."""
    return default_registry(
        sort_memory=settings.cfdb_sort_memory_cap,
        samtools_memory=settings.cfdb_samtools_memory_cap,
        threads=settings.worker_threads,
        level=compression_level(settings),
        density=settings.workflow_density,
        skip_bad_lines=settings.source_bad_lines == "skip",
        keep_cram=settings.workflow_cram == "cram",
    )


def open_cache(settings: Settings) -> CacheBackend | None:
    """The place for artifacts; None: there is none, and processing is off."""
    if settings.workflow_s3_bucket is not None:
        from gooseherd.storage.s3 import S3Cache

        use_key_of_local_cloud(settings)
        return S3Cache(
            settings.workflow_s3_bucket,
            prefix=settings.workflow_s3_prefix,
            endpoint_url=settings.aws_endpoint_url,
            region=settings.aws_region,
        )
    return LocalFsCache(settings.artifacts_dir) if settings.artifacts_dir is not None else None


def open_issuer(settings: Settings) -> CredentialIssuer | None:
    """Of credentials for attempts; None: their workers have some of their own, or need none."""
    if settings.workflow_s3_bucket is None or settings.workflow_s3_attempt_role is None:
        return None
    from gooseherd.storage.keys import normal_prefix
    from gooseherd.storage.s3_credentials import S3Credentials

    use_key_of_local_cloud(settings)
    return S3Credentials(
        settings.workflow_s3_attempt_role,
        settings.workflow_s3_bucket,
        normal_prefix(settings.workflow_s3_prefix),
        endpoint_url=settings.aws_endpoint_url,
        region=settings.aws_region,
    )


def make_delivery(settings: Settings, cache: CacheBackend | None) -> ArtifactDelivery:
    """Who sends the bytes."""
    presigned = settings.artifact_redirect_url == PRESIGNED
    storage: object = cache
    return ArtifactDelivery(
        mode=settings.artifact_delivery,
        base_url=None if presigned else settings.artifact_redirect_url,
        secret=settings.artifact_redirect_secret,
        signed=storage if presigned and isinstance(storage, SignedObjects) else None,
        redirect_seconds=settings.artifact_redirect_seconds,
        # Who sets a limit wants every byte counted; the one that is there by default bounds floods alone.
        lookups=not settings.api_max_bytes_per_minute_per_requester,
    )


def compression_level(settings: Settings) -> int:
    """The one that is asked for, or what local workers have instead; the images of others have all."""
    level = settings.workflow_compression_level
    return level if settings.ecs_cluster is not None else max(level, quickest_level())
