"""A web browser that opens pages without a person: what it drew, asked for and logged."""

from __future__ import annotations

import base64
import json
import os
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


@dataclass
class PageRun:
    """What became of a page."""

    drawn: bool
    pixels: list[int]
    requests: list[dict[str, Any]] = field(default_factory=list)
    console: list[str] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)
    text: str = ""
    values: Any = None

    def of(self, url: str) -> list[dict[str, Any]]:
        """The requests to addresses that begin so."""
        return [request for request in self.requests if request["url"].startswith(url)]

    def without_bytes(self, url: str) -> list[dict[str, Any]]:
        """Those with a response that a viewer takes for the file, and that has no bytes of it."""
        return [
            request
            for request in self.of(url)
            if 200 <= request["status"] < 300 and "json" in (request["type"] or "")
        ]


class Tab:
    """An open page and what a person does with it."""

    def __init__(self, step: Callable[..., Any]) -> None:
        self._step = step

    def open(self, url: str) -> None:
        self._step("open", url=url)

    def value(self, code: str) -> Any:
        """What the expression gives in the page."""
        return self._step("evaluate", code=code)

    def until(self, code: str, seconds: float = 30) -> None:
        """Until the expression is true in the page."""
        self._step("wait", code=code, seconds=seconds)

    def until_text(self, text: str, selector: str = "body", seconds: float = 30) -> None:
        self.until(f"document.querySelector({selector!r})?.innerText.includes({text!r})", seconds)

    def click(self, selector: str) -> None:
        self._step("click", selector=selector)

    def write(self, text: str, selector: str | None = None) -> None:
        self._step("type", text=text, selector=selector)

    def press(self, key: str) -> None:
        self._step("press", key=key)

    def look(self, *, dark: bool = False, width: int = 1200, height: int = 900) -> None:
        """With the colours and the window of another device."""
        self._step("look", dark=dark, width=width, height=height)

    def coloured(self, selector: str) -> int:
        """How many pixels of the element are neither white nor grey."""
        found: int = self._step("pixels", selector=selector)
        return found

    def load(self, script: Path) -> None:
        """Run a script in the page, whatever its policy."""
        self._step("script", path=str(script))

    def picture(self, path: Path) -> None:
        path.write_bytes(base64.b64decode(self._step("picture")))

    @property
    def requests(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self._step("log")["requests"]
        return found

    @property
    def console(self) -> list[str]:
        found: list[str] = self._step("log")["lines"]
        return found

    @property
    def failed(self) -> list[str]:
        """Requests without a response."""
        found: list[str] = self._step("log")["failed"]
        return found


class Driver:
    """A browser for each page, without a person."""

    def __init__(
        self, bundle: Path, program: Path, browser: str, folder: Path, *, display: str | None = None
    ) -> None:
        self._browser, self._program, self._folder = browser, program, folder
        self._runs = 0
        self._node = subprocess.Popen(
            ["node", str(bundle / "driver.cjs")],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=os.environ if display is None else {**os.environ, "DISPLAY": display},
            start_new_session=True,
        )

    def open_page(
        self,
        url: str,
        *,
        least: Sequence[int],
        seconds: float = 60,
        args: Sequence[str] = (),
        acts: Sequence[tuple[Callable[[], None], str]] = (),
        value: str | None = None,
    ) -> PageRun:
        """Open the page, until each of its tracks has at least so many coloured pixels.

        `acts`: then what the test does, and what the page is asked to do after it; and look again.
        """
        self._runs += 1
        profile = self._folder / f"profile{self._runs}"
        profile.mkdir()
        order = {
            "browser": self._browser,
            "program": str(self._program),
            "profile": str(profile),
            "args": list(args),
            "url": url,
            "seconds": seconds,
            "until": list(least),
            "acts": [code for _, code in acts],
            "value": value,
        }
        self._send(order)
        for done, _ in acts:
            before = self._receive()
            assert before.get("drawn"), before
            done()
            self._send({})
        result = self._receive()
        image = result.pop("image", None)
        if image is not None and (not result["enough"] or "GOOSEHERD_SCREENSHOTS" in os.environ):
            kept = Path(os.environ.get("GOOSEHERD_SCREENSHOTS") or self._folder) / f"{self._runs}.png"
            kept.write_bytes(base64.b64decode(image))
        assert "error" not in result, result["error"]
        shutil.rmtree(profile, ignore_errors=True)
        return PageRun(
            result["enough"],
            result["pixels"],
            result["requests"],
            result["console"],
            result["failed"],
            result["text"],
            result["values"],
        )

    @contextmanager
    def tab(self, args: Sequence[str] = ()) -> Iterator[Tab]:
        """A page that stays open for as long as the block lasts."""
        self._runs += 1
        profile = self._folder / f"profile{self._runs}"
        profile.mkdir()
        order = {
            "browser": self._browser,
            "program": str(self._program),
            "profile": str(profile),
            "args": list(args),
            "steps": True,
        }
        self._send(order)
        first = self._receive()
        assert "error" not in first, first["error"]
        try:
            yield Tab(self._step)
        finally:
            self._send({"do": "close"})
            self._receive()
            shutil.rmtree(profile, ignore_errors=True)

    def _step(self, do: str, **step: Any) -> Any:
        self._send({"do": do, **step})
        found = self._receive()
        assert "error" not in found, f"{found['error']}\n\nthe page:\n{found['text'][:1500]}"
        return found["result"]

    def _send(self, order: Mapping[str, Any]) -> None:
        assert self._node.stdin is not None
        self._node.stdin.write(json.dumps(order) + "\n")
        self._node.stdin.flush()

    def _receive(self) -> dict[str, Any]:
        assert self._node.stdout is not None
        line = self._node.stdout.readline()
        assert line, f"the driver ended with {self._node.poll()}"
        found: dict[str, Any] = json.loads(line)
        return found

    def close(self) -> None:
        assert self._node.stdin is not None
        assert self._node.stdout is not None
        self._node.stdin.close()
        try:
            self._node.wait(10)
        except subprocess.TimeoutExpired:
            os.killpg(self._node.pid, signal.SIGKILL)
            self._node.wait()
        self._node.stdout.close()
