"""The pages a person gets who opens a file's address in a browser: a job under way, or what went wrong."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from html import escape
from typing import Final

from gooseherd.api.models.jobs import STARTING
from gooseherd.api.problems import Pairs, Problem
from gooseherd.domain.job import Job
from gooseherd.domain.states import Status

_REFRESH_SECONDS: Final = 5
"""Where scripts are off the page asks again so often."""

_STYLE: Final = """
body{font:16px/1.5 system-ui,sans-serif;max-width:40rem;margin:4rem auto;padding:0 1rem}
body{color:#222;background:#fff}h1{font-size:1.3rem;overflow-wrap:anywhere}progress{width:100%}code,small{color:#555;overflow-wrap:anywhere}
@media(prefers-color-scheme:dark){body{color:#ddd;background:#181818}code,small{color:#aaa}}
"""

_SCRIPT: Final = """
const state = document.getElementById('state'), bar = document.querySelector('progress');
const events = new EventSource(document.body.dataset.events);
events.addEventListener('job', event => {
  const job = JSON.parse(event.data);
  bar.value = job.progress.percent;
  const doing = job.waiting ? job.waiting.detail : job.progress.step || job.status;
  state.textContent = `${doing}, ${Math.round(job.progress.percent)} %`;
  if (!['completed', 'failed', 'cancelled'].includes(job.status)) return;
  events.close();
  state.textContent = job.status === 'completed' ? 'It is ready: the download begins.' : job.status;
  location.reload();
});
"""


@dataclass(frozen=True, slots=True)
class Page:
    """A page ready for the wire; `headers` are complete but for the request id and CORS."""

    headers: Pairs
    body: bytes


def waiting_page(job: Job, location: Callable[[str], str], filename: str) -> Page:
    """How far `job` is, live; it goes on to the file when that is ready. `location`: of a path here."""
    doing = job.progress.step or ("in the queue" if job.status is Status.PENDING else STARTING)
    path, events = (escape(location(f"/jobs/{job.job_id}{rest}")) for rest in ("", "/events"))
    percent = f"{job.progress.percent:.0f}"
    return _page(
        f"{filename} is being made",
        f'<p id="state" role="status">{escape(doing)}, {percent} %</p>'
        f'<progress max="100" value="{percent}">{percent} %</progress>'
        f"<p>The download begins when the file is ready. You may leave: the work goes on.</p>"
        f'<p><small>Job <a href="{path}">{escape(job.job_id)}</a></small></p>'
        f"<script>{_SCRIPT}</script>",
        head=f'<noscript><meta http-equiv="refresh" content="{_REFRESH_SECONDS}"></noscript>',
        body=f' data-events="{events}"',
    )


def problem_page(answer: Problem) -> Problem:
    """The same problem for a person: its title and detail, and whether trying again may help."""
    again = "<p>Trying again later may help.</p>" if answer.retryable else ""
    page = _page(
        answer.title,
        f"<p>{escape(answer.detail)}</p>{again}<p><small>Request {escape(answer.request_id)}</small></p>",
    )
    named = {name for name, _ in page.headers}
    return Problem(
        answer.status,
        [*page.headers, *(pair for pair in answer.headers if pair[0] not in named)],
        page.body,
        title=answer.title,
        detail=answer.detail,
        retryable=answer.retryable,
        request_id=answer.request_id,
    )


def listing_page(title: str, lines: Iterable[tuple[str, str]]) -> Page:
    """A list of links: (address, text) each."""
    items = "".join(f'<li><a href="{escape(href)}">{escape(text)}</a></li>' for href, text in lines)
    return _page(title, f"<ul>{items}</ul>")


def _digest(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


_POLICY: Final = (
    f"default-src 'none'; style-src {_digest(_STYLE)}; script-src {_digest(_SCRIPT)}; connect-src 'self'; "
    "img-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
).encode()
"""Only this module's own style and script run, whatever a file is called."""


def _page(title: str, content: str, *, head: str = "", body: str = "") -> Page:
    text = (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{escape(title)}</title>'
        f'<meta name="viewport" content="width=device-width">{head}<style>{_STYLE}</style></head>'
        f"<body{body}><h1>{escape(title)}</h1>{content}</body></html>"
    ).encode("utf-8", "replace")
    return Page(
        [
            (b"content-type", b"text/html; charset=utf-8"),
            (b"content-length", b"%d" % len(text)),
            (b"cache-control", b"no-store"),
            (b"content-security-policy", _POLICY),
            (b"referrer-policy", b"no-referrer"),
        ],
        text,
    )
