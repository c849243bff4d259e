"""Build the container images gooseherd-api and gooseherd-worker, and say what is in them.

`./dev images` calls it. It uses docker, podman or buildah, whichever works, or else buildah from Debian.
Where no registry is reachable, the base image is made of Debian's own packages. Arguments that it does not
know go to the engine's build command.

For each image: an archive (`docker load` and `gooseherd smoke --worker-image` read it), a list of its
packages (CycloneDX), and their licences. images.json has sizes and versions. An image above its budget fails
the build.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import fresh
import image_report
from image_contents import Contents, differences, normalise

PROJECT = Path(__file__).resolve().parent.parent
OUTPUT = PROJECT / ".dev" / "images"
NAMES = ("api", "worker")
ENGINES = ("docker", "podman", "buildah")
REGISTRY_BASE = "docker.io/library/debian:trixie-slim"
SUITE = "trixie"
OWN_BASE = f"localhost/gooseherd-base:{SUITE}"
MIRROR = "http://deb.debian.org"
PULL_SECONDS = 120
LACKING = fresh.LACKING
SLIM = (
    *(
        f"path-exclude=/usr/share/{folder}/*"
        for folder in ("doc", "man", "locale", "info", "lintian", "groff")
    ),
    "path-include=/usr/share/doc/*/copyright",
)
"""What dpkg leaves out, as in Debian's own slim images: licences stay."""


class Failed(Exception):
    """Ends the program with a message and a status."""

    def __init__(self, message: str, status: int = 1) -> None:
        super().__init__(message)
        self.status = status


def say(text: str) -> None:
    print(f"images: {text}", file=sys.stderr, flush=True)


def output_of(*argv: str | Path) -> str:
    return subprocess.run(argv, cwd=PROJECT, capture_output=True, text=True, check=True).stdout.strip()


def run(*argv: str | Path, quiet: bool = True) -> None:
    """Run a command; with `quiet` its output is shown only when it fails."""
    done = subprocess.run(
        argv,
        cwd=PROJECT,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE if quiet else sys.stderr,
        stderr=subprocess.STDOUT if quiet else sys.stderr,
        text=True,
        check=False,
    )
    if done.returncode:
        end = "\n".join((done.stdout or "").splitlines()[-25:])
        raise Failed(f"{argv[0]} {argv[1]} ended with {done.returncode}\n{end}".rstrip())


# --- the engine -------------------------------------------------------------------------------------------


def find_engine(wanted: str | None) -> str | None:
    """The first engine that is there; docker only where its daemon answers."""
    return next(filter(_is_usable, [wanted] if wanted else ENGINES), None)


def _is_usable(engine: str) -> bool:
    if shutil.which(engine) is None:
        return False
    return (
        engine != "docker"
        or not subprocess.run([engine, "info"], capture_output=True, check=False).returncode
    )


def check_machine(wanted: str | None) -> None:
    """Raises Failed, with LACKING, where images cannot be built."""
    engine = find_engine(wanted)
    if engine is None and (wanted not in {None, "buildah"} or not _installs_packages()):
        raise Failed(f"needs {wanted or 'docker, podman or buildah'}; install or start it", LACKING)
    if engine != "docker" and os.getuid() == 0:
        tried = subprocess.run(["unshare", "--mount", "true"], capture_output=True, check=False)
        if tried.returncode:
            raise Failed("needs the right to mount, which most containers do not have", LACKING)


def _installs_packages() -> bool:
    return os.getuid() == 0 and shutil.which("apt-get") is not None


def install(*packages: str) -> None:
    if not _installs_packages():
        raise Failed(
            f"install these packages, then run this again:  sudo apt-get install {' '.join(packages)}",
            LACKING,
        )
    say(f"installing Debian packages: {' '.join(packages)}")
    apt = ("env", "DEBIAN_FRONTEND=noninteractive", "apt-get", "-qq", "-o", "DPkg::Lock::Timeout=300")
    run(*apt, "update")
    run(*apt, "-y", "--no-install-recommends", "install", *packages)


def ready_engine(wanted: str | None) -> str:
    check_machine(wanted)
    engine = find_engine(wanted)
    if engine is None:
        install("buildah", "uidmap")
        engine = "buildah"
    if engine == "buildah":
        # Needs neither cgroups nor a runtime beside it, so it also works inside a container.
        os.environ.setdefault("BUILDAH_ISOLATION", "chroot")
        if "STORAGE_DRIVER" not in os.environ and not _can_store():
            os.environ["STORAGE_DRIVER"] = "vfs"
            say("overlay file systems cannot be mounted here: layers are copied (slower)")
    os.environ["DOCKER_BUILDKIT"] = "1"
    return engine


def _can_store() -> bool:
    made = subprocess.run(["buildah", "from", "scratch"], capture_output=True, text=True, check=False)
    if made.returncode:
        return False
    container = made.stdout.strip()
    mounted = subprocess.run(
        ["buildah", "unshare", "buildah", "mount", container]
        if os.getuid()
        else ["buildah", "mount", container],
        capture_output=True,
        check=False,
    )
    subprocess.run(["buildah", "rm", container], capture_output=True, check=False)
    return mounted.returncode == 0


# --- the base ---------------------------------------------------------------------------------------------


def ready_base(engine: str, wanted: str, created: int) -> str:
    """The name of the base image, which is there: pulled, or made of Debian's packages."""
    if wanted == "debian":
        return make_base(engine, created)
    base = REGISTRY_BASE if wanted in {"auto", "registry"} else wanted
    try:
        pulled = subprocess.run(
            [engine, "pull", base], capture_output=True, text=True, check=False, timeout=PULL_SECONDS
        )
        problem = pulled.stderr.strip().splitlines()[-1:] if pulled.returncode else []
        if not pulled.returncode:
            return base
    except subprocess.TimeoutExpired:
        problem = [f"no answer in {PULL_SECONDS} seconds"]
    if wanted != "auto":
        raise Failed(f"{base} cannot be pulled: {' '.join(problem)}")
    say(f"{base} cannot be pulled: the base is made of Debian's own packages")
    return make_base(engine, created)


def make_base(engine: str, created: int) -> str:
    """As small as Debian's slim image, and the same bytes for the same package versions."""
    if shutil.which("mmdebstrap") is None:
        install("mmdebstrap", "debian-archive-keyring")
    with tempfile.TemporaryDirectory(prefix="gooseherd-base-") as folder:
        archive = Path(folder, "base.tar")
        say(f"making {OWN_BASE} of Debian's packages (seconds)")
        os.environ["SOURCE_DATE_EPOCH"] = str(created)
        run(
            *(
                "mmdebstrap",
                "--quiet",
                "--variant=minbase",
                "--format=tar",
                '--aptopt=Acquire::Languages "none"',
            ),
            *(f"--dpkgopt={option}" for option in SLIM),
            *(SUITE, archive),
            f"deb {MIRROR}/debian {SUITE} main",
            f"deb {MIRROR}/debian {SUITE}-updates main",
            f"deb {MIRROR}/debian-security {SUITE}-security main",
        )
        if engine != "buildah":
            run(engine, "import", "--change", 'CMD ["bash"]', archive, OWN_BASE)
            return OWN_BASE
        container = output_of("buildah", "from", "scratch")
        try:
            run("buildah", "add", "--quiet", container, archive, "/")
            run("buildah", "config", "--cmd", "bash", container)
            run("buildah", "commit", "--quiet", "--timestamp", str(created), container, OWN_BASE)
        finally:
            run("buildah", "rm", container)
    return OWN_BASE


# --- building ---------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Plan:
    engine: str
    base: str
    build: str
    created: int
    output: Path
    arguments: tuple[str, ...]


@contextlib.contextmanager
def secrets() -> Iterator[list[str]]:
    """The builder's own settings of pip, which stay out of the images."""
    with tempfile.TemporaryDirectory(prefix="gooseherd-images-") as folder:
        settings = Path(folder, "pip.conf")
        settings.touch(0o600)
        found = fresh.pip_settings()
        fresh.write_pip_settings(settings, found)
        arguments = ["--secret", f"id=pip-conf,src={settings}"]
        certificates = os.environ.get("PIP_CERT") or found.get("cert")
        if certificates and Path(certificates).is_file():
            arguments += ["--secret", f"id=pip-cert,src={certificates}"]
        yield arguments


def build(plan: Plan, name: str, more: Sequence[str] = ()) -> Path:
    """Build one image and save it; returns its archive."""
    tag = f"gooseherd-{name}"
    say(f"building {tag}:{plan.build} with {plan.engine}")
    timestamps = ("--timestamp", str(plan.created), "--format", "docker", "--layers")
    with secrets() as hidden:
        run(
            *(
                plan.engine,
                "build",
                "-f",
                f"Dockerfile.{name}",
                "-t",
                f"{tag}:{plan.build}",
                "-t",
                f"{tag}:dev",
            ),
            *("--build-arg", f"BASE={plan.base}", "--build-arg", f"GOOSEHERD_BUILD={plan.build}"),
            *("--build-arg", f"SOURCE_DATE_EPOCH={plan.created}"),
            # docker has no such option: its layers keep the times of files.
            *(() if plan.engine == "docker" else timestamps),
            *hidden,
            *plan.arguments,
            *more,
            ".",
        )
    archive = plan.output / f"{tag}.tar"
    saved = plan.output / f".{tag}.saved.tar"
    saved.unlink(missing_ok=True)
    try:
        if plan.engine == "buildah":
            run("buildah", "push", "--quiet", f"{tag}:dev", f"docker-archive:{saved}:{tag}:dev")
        else:
            formats = ("--format", "docker-archive") if plan.engine == "podman" else ()
            run(plan.engine, "save", *formats, "-o", saved, f"{tag}:dev")
        normalise(saved, archive, plan.created)
    finally:
        saved.unlink(missing_ok=True)
    return archive


def built_twice(plan: Plan) -> list[str]:
    """Where a second build from nothing differs from the first, in lines."""
    lines = []
    with tempfile.TemporaryDirectory(prefix=".again-", dir=plan.output) as folder:
        again = Plan(plan.engine, plan.base, plan.build, plan.created, Path(folder), plan.arguments)
        for name in NAMES:
            second = Contents(build(again, name, ["--no-cache"]))
            found = differences(Contents(plan.output / f"gooseherd-{name}.tar"), second)
            lines += [f"gooseherd-{name}: {line}" for line in found]
    return lines


def parse(arguments: Sequence[str]) -> tuple[argparse.Namespace, list[str]]:
    parser = argparse.ArgumentParser(
        prog="./dev images", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--check", action="store_true", help="only say whether this machine can do it")
    parser.add_argument(
        "--base",
        default="auto",
        metavar="IMAGE",
        help=f"auto (default): {REGISTRY_BASE} if it can be pulled, else debian; debian: made of Debian's "
        "packages; registry; or any image's name",
    )
    parser.add_argument("--engine", default=os.environ.get("GOOSEHERD_ENGINE"), help=", ".join(ENGINES))
    parser.add_argument("--output", type=Path, default=OUTPUT, metavar="FOLDER", help="default: .dev/images")
    parser.add_argument(
        "--twice", action="store_true", help="build both again from nothing: the bytes must be the same"
    )
    parser.add_argument("--docs", action="store_true", help="write the table of docs/images.md")
    return parser.parse_known_args(arguments)


def main(arguments: Sequence[str]) -> int:
    options, more = parse(arguments)
    if options.check:
        check_machine(options.engine)
        return 0
    began = time.monotonic()
    engine = ready_engine(options.engine)
    options.output.mkdir(parents=True, exist_ok=True)
    created = int(os.environ.get("SOURCE_DATE_EPOCH") or output_of("git", "log", "-1", "--format=%ct"))
    # API and workers talk only to their own build, so both get one name.
    name = os.environ.get("GOOSEHERD_BUILD") or output_of(
        "git", "describe", "--always", "--dirty", "--abbrev=12"
    )
    base = ready_base(engine, options.base, created)
    # Of the two formats docker's keeps the health command.
    plan = Plan(engine, base, name, created, options.output.absolute(), tuple(more))
    archives = [build(plan, image, ["--no-cache"] if options.twice else []) for image in NAMES]
    say("reading what is in them")
    with ThreadPoolExecutor(len(NAMES)) as pool:
        contents = dict(zip(NAMES, pool.map(Contents, archives), strict=True))
    problems = []
    for image, content in contents.items():
        image_report.write(content, plan.output / f"gooseherd-{image}", created)
        budget = image_report.BUDGETS[image]
        print(
            f"gooseherd-{image}:{name} {content.compressed_bytes / 1e6:.0f} MB compressed "
            f"(of {budget / 1e6:.0f}), {content.bytes / 1e6:.0f} MB unpacked, {content.image_id}"
        )
        if content.compressed_bytes > budget:
            problems.append(f"gooseherd-{image} is larger than {budget / 1e6:.0f} MB compressed")
    summary = image_report.summary(contents, build=name, base=base, engine=engine)
    (plan.output / "images.json").write_text(json.dumps(summary, indent=1) + "\n")
    if options.docs:
        image_report.write_table(PROJECT / "docs" / "images.md", contents)
    if options.twice:
        changes = built_twice(plan)
        problems += ["the second build has other bytes:", *changes] if changes else []
        if not changes:
            say("built twice: the same bytes")
    say(f"{time.monotonic() - began:.0f} s; archives and reports in {plan.output}")
    if problems:
        raise Failed("\n".join(problems))
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except (Failed, fresh.Refused) as failure:
        say(str(failure))
        sys.exit(failure.status)
    except KeyboardInterrupt:
        sys.exit(130)
