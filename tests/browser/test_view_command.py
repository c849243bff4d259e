"""`gooseherd view FOLDER`: one command, and a browser draws what is in the folder."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import urllib.parse
from pathlib import Path

import pytest
from tests.browser.driver import Driver

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

_OURS = ("GOOSEHERD_", "API_", "SOURCE_", "WORKFLOW_", "WORKER_", "DATABASE_", "SYNC_", "AWS_", "ECS_")
PLACE = "chr1:1-40000000"


def real_files() -> list[Path]:
    """Of PyRanges' examples the ten of hg19 that are larger than a handful of lines."""
    pyranges = pytest.importorskip("pyranges")  # it has no wheels for later versions of Python
    folder = Path(pyranges.__file__).parent / "example_data"
    names = (
        *("bw.bw", "chipseq.bed", "chipseq_background.bed", "control.bam", "cpg.bed", "exons.bed"),
        *("gencode_human.gtf.gz", "lamina.bed", "ucsc_human.bed.gz", "aorta.bed"),
    )
    return [folder / name for name in names]


def test_one_command_draws_a_folder_of_ten_real_files(chromium: Driver, tmp_path: Path) -> None:
    folder = tmp_path / "a folder"
    folder.mkdir()
    for path in real_files():
        (folder / path.name).write_bytes(path.read_bytes())
    address, browser = tmp_path / "address", tmp_path / "browser"
    browser.write_text(f'#!/bin/sh\nprintf %s "$1" > {address}.part && mv {address}.part {address}\n')
    browser.chmod(0o755)
    environ = {name: value for name, value in os.environ.items() if not name.startswith(_OURS)}
    environ |= {"GOOSEHERD_STATE_DIR": str(tmp_path / "state"), "BROWSER": str(browser)}
    command = [sys.executable, "-m", "gooseherd.cli", "view", str(folder), "--at", PLACE]
    with chromium.tab() as tab, (tmp_path / "log").open("wb") as log:
        began = time.monotonic()
        view = subprocess.Popen(command, cwd=tmp_path, env=environ, stdout=log, stderr=log)
        try:
            while not address.exists():
                assert view.poll() is None, (tmp_path / "log").read_text()
                time.sleep(0.02)
            page = address.read_text()
            opened = time.monotonic() - began
            tab.open(page)
            tab.until(DRAWN, 120)
            while (pixels := tab.coloured(".igv")) < 5000:
                assert time.monotonic() - began < 200, f"{pixels} coloured pixels"
                time.sleep(0.1)
            drawn = time.monotonic() - began
            print(f"opened after {opened:.1f} s, ten files drawn after {drawn:.1f} s")
            if kept := os.environ.get("GOOSEHERD_SCREENSHOTS"):
                tab.picture(Path(kept) / "view-command.png")
            host = urllib.parse.urlsplit(page).netloc
            assert {urllib.parse.urlsplit(one["url"]).netloc for one in tab.requests} <= {host, ""}
            view.send_signal(signal.SIGINT)
            assert view.wait(100) == 130, (tmp_path / "log").read_text()
        finally:
            view.kill()
            view.wait()


DRAWN = """(() => {
  const box = document.querySelector('.igv')?.shadowRoot
  const names = [...box?.querySelectorAll('.igv-track-label') ?? []].map(one => one.innerText)
  const files = new Set(names.map(name => name.replace(', density', '')))
  return files.size >= 10 && !box.querySelector('.igv-loading-spinner-container:not([style*=none])')
})()"""
