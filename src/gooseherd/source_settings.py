"""The settings of what is fetched, and from where; `Settings` has them."""

from __future__ import annotations

from typing import Literal

from pydantic import Field
from pydantic_settings import BaseSettings

from gooseherd import environment
from gooseherd.setting_types import Flag, Folder, Paths, Size, Text, Words


class SourceSettings(BaseSettings):
    """Sources, and the reference sequences that some of them leave out."""

    source_max_bytes: Size = Field(200 * 2**30, gt=0, description="Largest source that is fetched.")
    source_bad_lines: Literal["refuse", "skip"] = Field(
        "refuse",
        description="Lines of VCF, GFF, GTF, BED and its kin (peaks, tagAlign, interact), BEDPE, PAF, pairs, "
        "bedGraph, wiggle and tables (seg, interval lists, MACS, UCSC) that make no record: the file is "
        "refused, or up to 100 are left out, counted and named. Part of these files' keys: after a change "
        "they are prepared anew when they are asked for.",
    )
    source_file_roots: Paths = Field(
        (),
        description="Folders below which file: sources are allowed, `:` between. For workers on this "
        "machine: the embedded profile and the local cloud.",
    )
    source_allow_hosts: Words = Field(
        (), description="Host patterns sources may come from, comma-separated. Empty: any public host."
    )
    source_allow_networks: Words = Field(
        (), description="Networks (CIDR) that are allowed although private, comma-separated: a local cloud."
    )
    source_allow_http: Flag = Field(False, description="Allow plain http: sources.")
    source_drs_prefixes: Words = Field(
        (), description="Where compact DRS ids live: prefix=https://host/path/{id}, comma-separated."
    )
    source_s3_endpoint: Text = Field(
        None, description="Endpoint of s3: sources; naming it allows it, also plain http. Unset: AWS's own."
    )
    source_s3_region: Text = Field(None, description="Region of s3: sources, where it must be named.")
    source_headers: Words = Field(
        (),
        description="Headers for private hosts: https://HOST[:PORT]=HEADER:env:VARIABLE, "
        "…:env:VARIABLE.KEY (of a JSON object) or …:file:/PATH, comma-separated; the secret is in that "
        "variable or file of the API, and is sent there alone.",
    )
    source_s3_buckets: Words = Field(
        (),
        description="Private buckets: BUCKET=ROLE_ARN (assumed by the API), BUCKET=own (its own "
        "credentials), BUCKET=env:VARIABLE, …=env:VARIABLE.KEY (of a JSON object) or BUCKET=file:/PATH (a "
        "key of its own, ACCESS_KEY_ID:SECRET_ACCESS_KEY), comma-separated. Each may have "
        "+endpoint=URL (of another S3), +region=REGION, +drs=HOST[:PORT] (a DRS server that may name its "
        "objects) and +requester-pays. Workers get a signed URL.",
    )
    source_min_bytes_per_second: Size = Field(
        environment.MIN_BYTES_PER_SECOND,
        ge=0,
        description="Slowest that a source may send, on average over SOURCE_SLOW_SECONDS: it holds a worker. "
        "Below it the download is tried once more and ends with source_unavailable. 0: any speed.",
    )
    source_slow_seconds: float = Field(
        environment.SLOW_SECONDS, gt=0, le=3600, description="How long a source may be slower than that."
    )
    source_references: Words = Field(
        (),
        description="FASTA files of the reference sequences that CRAMs leave out: NAME=URL, comma-separated; "
        "NAME is an assembly (hg38) or the M5 of a sequence, {m5} in the URL stands for the M5 of each.",
    )
    source_references_max_bytes: Size = Field(
        environment.REFERENCES_MAX_BYTES,
        gt=0,
        description="Most that the reference sequences of a machine may take on disk, and a FASTA of them; a "
        "human genome takes 3 GB. Never more than half of the disk.",
    )
    source_references_dir: Folder = Field(
        None,
        description="Folder of them, shared by the workers of a machine. Unset: in the state folder; of a "
        "task, its own.",
    )
