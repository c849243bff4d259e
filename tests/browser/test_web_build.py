"""The committed build of web/ is that of its sources, and gooseherd.js packs as an npm package."""

from __future__ import annotations

import fcntl
import hashlib
import json
import shutil
import subprocess
import tarfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from conftest import Needs

ROOT = Path(__file__).parents[2]
WEB = ROOT / "web"
STATIC = ROOT / "src/gooseherd/api/static"


def run(*command: str, folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=600, check=False)


@pytest.fixture(scope="module")
def web(needs: Needs, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of web/ with its build in `built`; packages are installed once for each lock file."""
    needs("node", "npm")
    locked = b"".join((WEB / name).read_bytes() for name in ("package.json", "package-lock.json"))
    kept = ROOT / ".dev/web"
    kept.mkdir(parents=True, exist_ok=True)
    with (kept / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        installed = kept / hashlib.sha256(locked).hexdigest()[:16]
        if not installed.exists():
            work = kept / "work"
            shutil.rmtree(work, ignore_errors=True)
            work.mkdir()
            for name in ("package.json", "package-lock.json"):
                shutil.copyfile(WEB / name, work / name)
            done = run("npm", "ci", "--ignore-scripts", "--no-progress", folder=work)
            if done.returncode:
                needs.missing(f"the packages of web/ (npm ci: {done.stderr.strip()[-300:]})")
            work.rename(installed)
    copy = tmp_path_factory.mktemp("build") / "web"
    shutil.copytree(WEB, copy, ignore=shutil.ignore_patterns("node_modules", "dist"))
    (copy / "node_modules").symlink_to(installed / "node_modules")
    built = run("npm", "run", "build", "--", "built", folder=copy)
    assert built.returncode == 0, built.stdout + built.stderr
    return copy


def test_the_committed_build_is_that_of_the_sources(web: Path) -> None:
    fresh = {path.name: path.read_bytes() for path in (web / "built").iterdir()}
    committed = {path.name: path.read_bytes() for path in STATIC.iterdir()}
    assert sorted(committed) == sorted(fresh), "./dev web builds it anew"
    assert [name for name in fresh if fresh[name] != committed[name]] == [], "./dev web builds it anew"


def test_the_client_packs_with_its_types_and_its_licence(web: Path, tmp_path: Path) -> None:
    packed = run("npm", "pack", "--json", "--pack-destination", str(tmp_path), folder=web / "client")
    assert packed.returncode == 0, packed.stderr
    (report,) = json.loads(packed.stdout)
    with tarfile.open(tmp_path / report["filename"]) as archive:
        names = sorted(archive.getnames())
        script = archive.extractfile("package/dist/gooseherd.js")
        assert script is not None
        assert script.read() == (STATIC / "gooseherd.js").read_bytes()
    assert names == [
        "package/LICENSE",
        "package/README.md",
        "package/dist/gooseherd.d.ts",
        "package/dist/gooseherd.js",
        "package/package.json",
    ]
    print(f"npm package: {report['size']} bytes packed, {report['unpackedSize']} unpacked")
    assert report["size"] < 10_000
    assert (web / "client/LICENSE").read_bytes() == (ROOT / "LICENSE").read_bytes()


def test_the_packed_client_says_its_packages_version_and_its_types_are_complete(web: Path) -> None:
    version = json.loads((web / "client/package.json").read_text())["version"]
    said = run(
        "node", "-e", "import('./client/dist/gooseherd.js').then(m => console.log(m.version))", folder=web
    )
    assert said.stdout.strip() == version, said.stderr
    (web / "use.ts").write_text(
        "import { ready, track, NotReady, type Progress } from './client/dist/gooseherd.js'\n"
        "export const seen: Progress[] = []\n"
        "try { await ready(['https://x.example/a'], { onProgress: one => seen.push(one) }) }\n"
        "catch (error) { if (error instanceof NotReady) { const again: boolean = error.retryable } }\n"
        "export const spec: unknown = await track('igv', 'a/b', { base: 'https://x.example/' })\n"
    )
    checked = run(
        *("npx", "--no-install", "tsc", "--noEmit", "--strict", "--target", "es2022", "--module", "esnext"),
        *("--moduleResolution", "bundler", "use.ts"),
        folder=web,
    )
    assert checked.returncode == 0, checked.stdout
