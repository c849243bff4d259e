"""A page author names files that nobody has made yet, and they are drawn."""

from __future__ import annotations

import json
from typing import Any

import pytest
from tests.browser.service import page_of

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(400)]

FILES = {
    "bam": ("bam", "reads.sam"),
    "vcf": ("vcf", "calls.vcf"),
    "gff3": ("gff", "genes.gff3"),
    "gtf": ("gff", "models.gtf"),
    "bed": ("bed", "regions.bed"),
    "narrowpeak": ("bed", "peaks.narrowPeak"),
    "bigwig": ("bigwig", "signal.bw"),
    "csv": ("csv", "table.csv"),
}


def together(viewer: str, formats: str, least: int) -> Any:
    return pytest.param(viewer, formats.split(), least, id=f"{viewer}-{formats.replace(' ', '-')}")


@pytest.mark.parametrize(
    ("viewer", "formats", "least"),
    [
        together("gosling", "bam vcf gff3 gtf bed narrowpeak csv", 200),
        together("gosling", "bigwig", 200),  # in a crowd it stays blank now and then, whoever serves it
        together("igv", "bam vcf gff3 gtf bed narrowpeak bigwig", 200),
        together("jbrowse", "bam vcf gff3 gtf bed narrowpeak", 200),
        together("jbrowse", "bigwig", 200),
    ],
)
def test_a_page_with_nothing_but_addresses_draws_cold_files(
    chromium: Any, herd: Any, pages: str, viewer: str, formats: list[str], least: int
) -> None:
    tracks = [herd.track(*FILES[name]) for name in formats]
    run = chromium.open_page(page_of(pages, viewer, tracks), least=[least] * len(tracks), seconds=120)
    assert run.drawn, (run.pixels, run.console, run.failed)
    assert run.without_bytes(herd.url) == []
    assert {request["status"] for request in run.of(herd.url)} <= {200, 206, 304, 307}


FOLLOWING = """
(async ([data, ...asked]) => {
  const answers = []
  for (const [address, headers] of asked) {
    const answer = await fetch(address, { headers })
    answers.push([answer.status, answer.headers.get('retry-after') !== null, answer.headers.get('location')])
  }
  const job = new URL(answers[0][2], data).href
  const states = [(await (await fetch(job)).json()).status]
  await new Promise(ended => {
    const events = new EventSource(`${job}/events`)
    events.addEventListener('job', event => {
      states.push(JSON.parse(event.data).status)
      if (states.at(-1) === 'completed') { events.close(); ended() }
    })
  })
  return { answers, states, bytes: (await (await fetch(data)).arrayBuffer()).byteLength }
})
"""


def test_a_pages_own_code_follows_the_job_instead_of_being_held(chromium: Any, herd: Any, pages: str) -> None:
    data = herd.names(herd.register("regions.bed"))["data"]
    path = f"{herd.url}/data/lab/{data.split('/')[-2]}"
    asked = [data, [f"{path}?wait=0", {}], [path, {"Prefer": "respond-async"}]]
    run = chromium.open_page(page_of(pages, "igv", []), least=[], value=f"{FOLLOWING}({json.dumps(asked)})")
    (first, second), states = run.values["answers"], run.values["states"]
    assert first == second
    assert first[:2] == [202, True]
    assert states[-1] == "completed"
    assert run.values["bytes"] > 1000


READY = """
new Promise(ended => {
  const state = document.getElementById('state')
  setInterval(() => { if (state.textContent.includes('ready')) ended(state.textContent) }, 50)
})
"""


def test_a_person_who_opens_a_cold_file_sees_the_job_and_then_gets_the_file(
    chromium: Any, herd: Any, origin: Any
) -> None:
    url = herd.names(herd.register("genes.gff3"))["data"]
    origin.let_go.clear()
    try:
        run = chromium.open_page(url, least=[], acts=[(origin.let_go.set, READY)], value="document.title")
    finally:
        origin.let_go.set()
    assert "genes.gff3" in run.values
    assert "the download begins" in run.text
    assert next(request["status"] for request in run.of(url)) == 202
