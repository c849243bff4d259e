"""Records as HTML that needs no script: how they are when they are shown."""

from __future__ import annotations

from html import escape

from gooseherd.client.models import Batch, File, Job, Model

_STYLE = "font-family:var(--jp-ui-font-family,system-ui,sans-serif);font-size:13px;line-height:1.6"
_BAR = "width:12em;vertical-align:middle"


def html_of(record: Model) -> str:
    """The record as a fragment of a page; what comes from the service is escaped."""
    if isinstance(record, Job):
        return _line(record.file, record.progress.percent, describe(record), ended=record.ended)
    if isinstance(record, Batch):
        title = f"{record.total} file{'' if record.total == 1 else 's'}"
        return _line(title, record.percent, describe_batch(record), ended=record.ended) + _failures(record)
    if isinstance(record, File):
        return _entry(record)
    return f"<pre>{escape(repr(record))}</pre>"


def describe(job: Job) -> str:
    """Where a job stands, in words; as gooseherd.js says it."""
    waiting, progress = job.waiting, job.progress
    if job.status == "pending":
        if waiting is not None and waiting.reason != "queued":
            return _next_try(waiting.detail, waiting.next_try_seconds)
        if job.position is None:
            return "in the queue"
        return f"{job.position} before it" if job.position else "next in the queue"
    if job.status == "running":
        if waiting is not None:
            launching = waiting.reason == "launching"
            return "starting a worker" if launching else _next_try(waiting.detail, waiting.next_try_seconds)
        left = f", {_span(progress.eta_seconds)} left" if progress.eta_seconds else ""
        return f"{progress.step or 'starting'} {progress.percent:.0f} %{left}"
    if job.status == "finalizing":
        return "verifying"
    if job.status == "completed":
        return "ready"
    why = job.detail or job.reason
    return f"{job.status}: {why}" if why else job.status


def describe_batch(batch: Batch) -> str:
    """Where a batch stands, in words."""
    counts = batch.counts
    states = [
        f"{count} {name}"
        for name in ("ready", "running", "pending", "waiting", "failed", "cancelled")
        if (count := getattr(counts, name))
    ]
    return ", ".join(states) if states else batch.status


def _line(title: str, percent: float, text: str, *, ended: bool) -> str:
    bar = (
        ""
        if ended
        else f'<progress style="{_BAR}" max="100" value="{percent:.1f}" aria-label="progress"></progress> '
    )
    return (
        f'<div style="{_STYLE}"><b>{escape(title)}</b> {bar}<span role="status">{escape(text)}</span></div>'
    )


def _failures(batch: Batch) -> str:
    items = "".join(
        f"<li>{escape(file.dcc)}/{escape(file.local_id)}: {escape(file.detail or file.reason or '')}</li>"
        for file in batch.failures or ()
    )
    return f'<ul style="{_STYLE}">{items}</ul>' if items else ""


def _entry(file: File) -> str:
    rows = {
        "name": file.filename,
        "format": file.file_format,
        "size": "" if file.size_in_bytes is None else f"{file.size_in_bytes:,} bytes",
        "access": file.data_access_level,
        "data": file.data_url,
    }
    cells = "".join(
        f'<tr><th style="text-align:left">{name}</th><td style="text-align:left">{escape(value)}</td></tr>'
        for name, value in rows.items()
        if value
    )
    return f'<table style="{_STYLE}"><caption><b>{escape(file.name)}</b></caption>{cells}</table>'


def _next_try(detail: str, seconds: float | None) -> str:
    return f"{detail}; next try in {_span(seconds)}" if seconds else detail


def _span(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.0f} h"
