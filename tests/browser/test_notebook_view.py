"""`client.view` as a notebook shows it: the widget's two halves, a real browser and a real service between.

The notebook around them is a page of another origin. What the halves say to each other goes over, as in
Jupyter, as messages of a comm; the kernel's end of it is real (ipywidgets), the browser's is the model that
anywidget gives to a module (`MODEL`).
"""

from __future__ import annotations

import base64
import json
import os
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import comm
import pytest
from comm.base_comm import BaseComm
from tests.browser.driver import Driver, Tab
from tests.browser.service import ASSEMBLY, Herd

from gooseherd.client import GooseherdClient
from gooseherd.client.notebook.view import FilesView, packed_igv

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

MODEL = """<!doctype html><meta charset="utf-8"><title>a notebook</title><body>
<div id="cell" style="width: 900px"></div>
<script type="module">
import widget from './widget.js'
const acts = {}, state = STATE
const fire = (event, ...given) => (acts[event] ?? []).slice().forEach(act => act(...given))
window.outbox = []
window.model = {
  get: name => state[name],
  set: (name, value) => { state[name] = value; window.changed = { ...window.changed, [name]: value } },
  save_changes: () => {
    window.outbox.push({ method: 'update', state: window.changed })
    window.changed = {}
  },
  on: (event, act) => (acts[event] ??= []).push(act),
  off: (event, act) => { acts[event] = (acts[event] ?? []).filter(one => one !== act) },
  send: content => window.outbox.push({ method: 'custom', content }),
}
window.deliver = (data, buffers) => {
  if (data.method === 'custom') {
    const bytes = one => Uint8Array.from(atob(one), each => each.charCodeAt(0)).buffer
    return fire('msg:custom', data.content, buffers.map(one => new DataView(bytes(one))))
  }
  for (const [name, value] of Object.entries(data.state)) { state[name] = value; fire(`change:${name}`) }
}
window.close_view = widget.render({ model: window.model, el: document.getElementById('cell') })
</script>"""


class Notebook:
    """A page with a view, and the comm between it and the kernel's object."""

    def __init__(self, tab: Tab, view: FilesView, sent: list[dict[str, Any]], url: str) -> None:
        self.tab, self.view, self._sent, self.url = tab, view, sent, url

    def until(self, there: Callable[[], Any], what: str, seconds: float = 60) -> Any:
        """The first true thing, while messages go to and fro."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            for data in self.tab.value("window.outbox?.splice(0) ?? []"):
                self.view.comm.handle_msg({"content": {"data": data}, "buffers": []})
            while self._sent:
                message = self._sent.pop(0)
                self.tab.value(f"deliver({json.dumps(message['data'])}, {json.dumps(message['buffers'])})")
            if found := there():
                return found
            time.sleep(0.1)
        raise AssertionError(
            f"{what}: not within {seconds:g} s; {self.tab.value('document.body.innerText')!r}"
        )

    def drawn(self, tracks: int) -> None:
        self.until(
            lambda: self.tab.value(f"document.querySelector('.gooseherd-view').dataset.drawn === '{tracks}'"),
            f"{tracks} tracks",
        )

    def coloured(self, least: int) -> int:
        found: int = self.until(
            lambda: (n := self.tab.coloured(".igv-box")) >= least and n, f"{least} coloured pixels"
        )
        return found

    def picture(self, name: str) -> None:
        if folder := os.environ.get("GOOSEHERD_SCREENSHOTS"):
            self.tab.picture(Path(folder) / f"notebook-{name}.png")

    @property
    def elsewhere(self) -> list[str]:
        """Requests to hosts that are not this one."""
        return [
            one["url"]
            for one in self.tab.requests
            if not one["url"].startswith(("http://127.0.0.1:", "data:", "blob:"))
        ]


@pytest.fixture
def notebook(chromium: Driver, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Shows a view in a page of another origin than the service's."""
    sent: list[dict[str, Any]] = []

    class Kernel(BaseComm):
        def publish_msg(
            self, msg_type: str, data: Any = None, metadata: Any = None, buffers: Any = None, **keys: Any
        ) -> None:
            if msg_type == "comm_msg":
                sent.append(
                    {"data": data, "buffers": [base64.b64encode(one).decode() for one in buffers or ()]}
                )

    monkeypatch.setattr(comm, "create_comm", Kernel)
    served: dict[str, bytes] = {}

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = served.get(self.path, b"")
            self.send_response(200 if body else 404)
            self.send_header("Content-Type", "text/html" if self.path == "/" else "text/javascript")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    url = f"http://127.0.0.1:{server.server_port}"
    with chromium.tab() as tab:

        def show(view: FilesView) -> Notebook:
            sent.clear()
            served["/widget.js"] = view._esm.encode()
            served["/"] = MODEL.replace("STATE", json.dumps({"files": view.files, "at": view.at})).encode()
            tab.open(url)
            return Notebook(tab, view, sent, url)

        yield show
    server.shutdown()
    server.server_close()


def test_cold_files_are_prepared_and_drawn_in_a_cell(herd: Herd, notebook: Any) -> None:
    names = [f"lab/{herd.register(name)}" for name in ("reads.sam", "calls.vcf", "regions.bed")]
    with GooseherdClient(herd.url) as client:
        view = client.view(names, at="chr1:90000-110000")
    cell = notebook(view)
    cell.drawn(6)
    assert cell.coloured(2000)
    cell.picture("three-files")
    assert cell.elsewhere == []
    # 404: the page has no icon; 503: a file is being made.
    assert not [line for line in cell.tab.console if "Uncaught" in line or "TypeError" in line]
    # igv.js came from the kernel, and everything else from the service.
    hosts = {one["url"].split("/")[2] for one in cell.tab.requests if one["url"].startswith("http")}
    assert hosts == {herd.url.split("/")[2], cell.url.split("/")[2]}

    # The place goes both ways.
    view.at = "chr1:95000-96000"
    cell.until(
        lambda: "95,000" in cell.tab.value(PLACE) or "95000" in cell.tab.value(PLACE), "the place is taken"
    )
    cell.tab.value("window.outbox.push({method: 'update', state: {at: 'chr2:1-500'}})")
    cell.until(lambda: view.at == "chr2:1-500", "the kernel knows the place")

    # Other files begin anew, and closing leaves nothing.
    view.files = names[:1]
    cell.drawn(2)
    cell.tab.value("close_view()")
    assert cell.tab.value("document.getElementById('cell').children.length") == 0


PLACE = "document.querySelector('.igv-box').shadowRoot?.querySelector('.igv-search-input')?.value ?? ''"


def test_files_that_are_not_public_are_drawn_by_tokens_that_the_notebook_does_not_keep(
    herd: Herd, notebook: Any
) -> None:
    local_id = herd.register("genes.gff3")
    entry = herd.get(f"/files/lab/{local_id}").json()
    with GooseherdClient(herd.url, "key") as client:
        client.register(
            {
                **{
                    name: entry[name] for name in ("dcc", "local_id", "filename", "access_url", "version_tag")
                },
                "data_access_level": "protected",
            }
        )
        view = client.view([f"lab/{local_id}"], at="chr1:90000-110000")
    cell = notebook(view)
    cell.drawn(2)
    assert cell.coloured(500)
    read = [one["url"] for one in cell.tab.requests if f"/lab/{local_id}" in one["url"]]
    assert read
    assert all("token=ght_" in url for url in read)
    # What Jupyter may save with the notebook.
    assert "ght_" not in json.dumps(view.get_state(), default=str)
    assert "X-API-Key" not in json.dumps(view.get_state(), default=str)


def test_a_file_that_fails_says_why_and_the_others_are_drawn(
    herd: Herd, notebook: Any, sources: Path
) -> None:
    (herd.origin.folder / "broken.bed").write_text("chr1\tabc\t5\n")
    names = [f"lab/{herd.register(name)}" for name in ("broken.bed", "regions.bed")]
    with GooseherdClient(herd.url) as client:
        cell = notebook(client.view(names, at="chr1:90000-110000"))
    cell.drawn(2)
    cell.tab.until("document.querySelector('.gooseherd-view').innerText.includes('not a whole number')")


def test_a_reference_of_the_catalog_is_prepared_and_its_letters_are_read(herd: Herd, notebook: Any) -> None:
    folder = herd.origin.folder
    (folder / "letters.fa").write_text(
        "".join(f">{name}\n" + "ACGTTGCA" * (length // 8) + "\n" for name, length in ASSEMBLY)
    )
    reference, regions = herd.register("letters.fa"), herd.register("regions.bed")
    with GooseherdClient(herd.url) as client:
        view = client.view([f"lab/{regions}"], at="chr1:95000-95040", reference=f"lab/{reference}")
    cell = notebook(view)
    cell.drawn(2)
    cell.until(
        lambda: [one for one in cell.tab.requests if "letters.fa.gz" in one["url"] and one["status"] == 206],
        "letters are read by range",
    )
    assert cell.elsewhere == []


def test_what_the_kernel_cannot_do_is_said_in_the_cell(herd: Herd, notebook: Any) -> None:
    with GooseherdClient(herd.url) as client:
        cell = notebook(client.view(["lab/nobody"]))
    text = "document.querySelector('.gooseherd-view').innerText"
    cell.until(lambda: "nobody" in cell.tab.value(text), "the file is not there")


def test_what_the_wheel_brings_is_small() -> None:
    sizes = {"widget.js": len(FilesView._esm), "igv.js, packed": len(packed_igv())}
    print(sizes)
    assert sizes["widget.js"] < 12_000
    assert sizes["igv.js, packed"] < 460_000
