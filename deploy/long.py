"""Everything there is to try, on bare Debian roots, with the seconds it took: hours on two cores.

`./dev long` calls it. Needs root. Arguments choose steps by a part of their names; `--list` names them.
What a step printed is in .dev/long/; a step that failed shows its end.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

PROJECT = Path(__file__).resolve().parent.parent
LOGS = PROJECT / ".dev" / "long"
SUITES = ("bookworm", "trixie")
SANDBOXED = (
    "tests/unit",
    "tests/integration/processing",
    "tests/integration/test_devcloud_image.py",
    "kernel/tests",
)
"""What behaves in another way where user namespaces cannot be made."""

LONG_TESTS = {
    "requests made from the description, many": ("tests/integration/api",),
    "p50 of others during each attack": ("tests/integration/serving",),
    "models in all their states, servers that npm fetches": ("tests/contract", "tests/property"),
    "the local cloud by its commands": ("tests/e2e",),
}
"""Folders of tests with the marker `long`, by step; those with needs of their own are below."""


@dataclass(frozen=True)
class Step:
    name: str
    command: tuple[str, ...]
    needs: str = ""
    """Why it is left out on this machine; empty: it is not."""


@dataclass(frozen=True)
class Result:
    step: Step
    seconds: float
    status: int | None
    """None: left out."""

    @property
    def word(self) -> str:
        if self.status is None:
            return f"left out: {self.step.needs}"
        return "ok" if self.status == 0 else f"FAILED ({self.status})"


def steps() -> Iterator[Step]:
    dev = "./dev"
    yield Step("check", (dev, "check"))
    yield Step("coverage", (dev, "coverage"))
    for suite in SUITES:
        for who, options in (("root", ()), ("user", ("--user",))):
            yield Step(f"demo {suite} {who}", (dev, "fresh", *options, suite, dev, "demo", "--once"))
            yield Step(f"tests {suite} {who}", (dev, "fresh", *options, suite, dev, "test"))
        without = ("--user", "--no-userns", suite)
        yield Step(f"demo {suite} user, no namespaces", (dev, "fresh", *without, dev, "demo", "--once"))
        tests = (dev, "test", "-m", "not long", "-n", "2", "--dist", "loadfile", *SANDBOXED)
        yield Step(f"tests {suite} user, no namespaces", (dev, "fresh", *without, *tests))
    for name, where in LONG_TESTS.items():
        yield Step(name, (dev, "test", "-m", "long", "-rs", *where))
    yield Step("pip install on bare machines", (dev, "test", "-m", "long", "-rs", "tests/packaging"))
    minutes = (dev, "test", "-m", "long", "tests/faults")
    yield Step("minutes of faults, starts of 60 s", minutes)
    missing = [name for name in ("chromium", "firefox-esr", "Xvfb", "npm") if not shutil.which(name)]
    yield Step(
        "browsers: Firefox, starts of 60 s",
        (dev, "test", "-m", "long", "-rs", "tests/browser"),
        f"no {', '.join(missing)}" if missing else "",
    )
    yield Step(
        "kernel: fuzz targets", (dev, "run", "make", "-C", "kernel", "BUILD=../.dev/kernel", "fuzz-minute")
    )
    yield Step("10,000 generated files", (dev, "bench", "differential", "--files", "10000", "--check-here"))
    images = subprocess.run(
        [sys.executable, PROJECT / "deploy/images.py", "--check"], capture_output=True, text=True, check=False
    )
    cannot = images.stderr.strip().removeprefix("images: ") if images.returncode else ""
    yield Step("images, built twice", (dev, "images", "--twice"), cannot)
    archive = ".dev/images/gooseherd-{}.tar"
    named = [f"GOOSEHERD_{name.upper()}_IMAGE={PROJECT / archive.format(name)}" for name in ("api", "worker")]
    yield Step("images at work", ("env", *named, dev, "test", "tests/e2e/test_images.py"), cannot)


def run(step: Step, log: Path) -> Result:
    begun = time.monotonic()
    if step.needs:
        return Result(step, 0.0, None)
    print(f"long: {step.name}: {' '.join(step.command)}", flush=True)
    with log.open("wb") as output:
        done = subprocess.run(
            step.command, cwd=PROJECT, stdin=subprocess.DEVNULL, stdout=output, stderr=output, check=False
        )
    result = Result(step, time.monotonic() - begun, done.returncode)
    print(f"long: {step.name}: {result.word}, {result.seconds:.0f} s", flush=True)
    if result.status:
        print("".join(f"    {line}\n" for line in last_lines(log)), end="", flush=True)
    return result


def last_lines(log: Path, most: int = 40) -> list[str]:
    return log.read_text(encoding="utf-8", errors="replace").splitlines()[-most:]


def table(results: Sequence[Result]) -> str:
    width = max(len(result.step.name) for result in results)
    lines = [f"{result.step.name:<{width}}  {result.seconds:>6.0f} s  {result.word}" for result in results]
    return "\n".join([*lines, f"{'all':<{width}}  {sum(result.seconds for result in results):>6.0f} s"])


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="./dev long", description=__doc__)
    parser.add_argument("--list", action="store_true", help="name the steps")
    parser.add_argument("names", nargs="*", metavar="NAME", help="steps whose name holds this (default: all)")
    given = parser.parse_args(arguments)
    chosen = [step for step in steps() if not given.names or any(name in step.name for name in given.names)]
    if given.list or not chosen:
        print("\n".join(step.name for step in (chosen or steps())))
        return 0 if chosen else 2
    if os.getuid() != 0:
        print("long: needs root, for bare roots:  sudo ./dev long", file=sys.stderr)
        return 3
    LOGS.mkdir(parents=True, exist_ok=True)
    results = []
    try:
        for number, step in enumerate(chosen, 1):
            results.append(
                run(step, LOGS / f"{number:02}-{step.name.replace(' ', '-').replace(',', '')}.log")
            )
    except KeyboardInterrupt:
        print("long: interrupted", file=sys.stderr)
        return 130
    finally:
        if results:
            print(table(results), flush=True)
    return 1 if any(result.status for result in results) else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
