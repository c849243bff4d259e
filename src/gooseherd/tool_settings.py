"""The settings of what holds the tools of an attempt: memory, sandbox; `Settings` has them."""

from __future__ import annotations

from typing import Literal

from pydantic import Field
from pydantic_settings import BaseSettings

from gooseherd.setting_types import AbsolutePaths, Cap, Size


class ToolSettings(BaseSettings):
    """Limits and isolation of tools."""

    worker_memory_bytes: Size = Field(
        0,
        ge=0,
        description="Memory of a local worker with its tools: a tool that allocates more ends with "
        "out_of_memory. 0: what the machine or its control group has. On ECS the task's size.",
    )
    worker_sandbox: Literal["auto", "on", "off"] = Field(
        "auto",
        description="Tools run in a sandbox (bubblewrap): where the kernel allows it, always, or never; "
        "never is without the filter of system calls, too.",
    )
    worker_readable_paths: AbsolutePaths = Field(
        (),
        description="What tools in a sandbox of a local worker may read besides what belongs to programs and "
        "libraries, `:` between: folders of libraries that are installed in an unusual place.",
    )
    cfdb_sort_memory_cap: Cap = Field(
        0,
        description="Memory in which intervals are sorted, bytes: 1 MiB or more; the rest goes to disk. "
        "0: on ECS two thirds of the task's less 256 MiB; locally the same of the worker's share of half the "
        "machine's, at least 256 MiB.",
    )
    cfdb_samtools_memory_cap: Cap = Field(
        0,
        description="Memory of samtools sort, all its threads, bytes: 1 MiB or more. 0: likewise.",
    )
