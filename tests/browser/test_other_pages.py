"""A page of another host, in a browser of somebody who runs a service for themselves."""

from __future__ import annotations

import json
from typing import Any

import pytest

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(400)]

ASKING = """
(async addresses => Promise.all(addresses.map(async ([address, options]) => {
  try { const answer = await fetch(address, options); return [answer.status, (await answer.text()).length] }
  catch (error) { return [error.name, 0] }
})))
"""


def test_a_page_elsewhere_reads_a_public_remote_file_and_no_list(
    chromium: Any, herd: Any, pages: str
) -> None:
    names = herd.names(herd.register("regions.bed"))
    assert herd.get(f"{names['data'].removeprefix(herd.url)}?wait=60").status_code == 200
    asked = [
        [names["data"], {"headers": {"Range": "bytes=0-9"}}],
        [names["index"], {}],
        [f"{herd.url}/files", {}],
        [f"{herd.url}/jobs", {}],
        [f"{herd.url}/files/lab/none", {}],
        [f"{herd.url}/batches", {"method": "POST", "body": '{"files": ["lab/none"]}'}],
    ]
    run = chromium.open_page(
        f"{pages.replace('127.0.0.1', 'viewer.example')}/igv.html?files=[]&view=[%22chr1%22,0,1]&assembly=[]",
        least=[],
        args=["--host-resolver-rules=MAP viewer.example 127.0.0.1"],
        value=f"{ASKING}({json.dumps(asked)})",
    )
    data, index, *refused = run.values
    assert data == [206, 10]
    assert index[0] == 200
    assert refused == [["TypeError", 0]] * 4
    assert herd.get("/batches").json()["batches"] == []
    assert "--allow-origin http://viewer.example" in herd.log()
