"""Run a command on a machine with nothing on it: a bare Debian root, a clean clone of the commit checked out.

The root lives in mount and process namespaces of its own: when the command ends, or this program (however it
ends), the kernel ends every process in there and takes every mount away. The rest of the machine never sees
those mounts.
"""

from __future__ import annotations

import argparse
import configparser
import contextlib
import ctypes
import fcntl
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import FrameType
from typing import NoReturn

SUITES = ("bookworm", "trixie")
CACHE = Path(os.environ.get("GOOSEHERD_FRESH_DIR") or "/var/cache/gooseherd-fresh")
"""On a disk: a root with everything installed in it takes 2 GB."""
PACKAGES = ("python3", "git", "ca-certificates")
USER = "tester"
LACKING = 3
"""As `./dev` has it: this machine lacks something that only its owner can install."""
WRONG_USAGE = 2
SYSTEM_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
DEVICES = ("null", "zero", "full", "random", "urandom", "tty")
CERTIFICATES = ("PIP_CERT", "SSL_CERT_FILE", "NODE_EXTRA_CA_CERTS", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE")
PROXIES = ("http_proxy", "https_proxy", "ftp_proxy", "no_proxy", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY")
CARRIED_PIP = ("index-url", "extra-index-url", "trusted-host", "proxy", "timeout")
"""Of the caller's pip settings those that say where packages are."""
CARRIED_VARIABLES = ("PIP_DEFAULT_TIMEOUT", "PIP_TRUSTED_HOST", "TERM", *PROXIES)


class Refused(Exception):
    """Ends the program with a message and a status."""

    def __init__(self, message: str, status: int = 1) -> None:
        super().__init__(message)
        self.status = status


def say(text: str) -> None:
    print(f"fresh: {text}", file=sys.stderr, flush=True)


def quietly(argv: Sequence[str | Path]) -> None:
    """Run a command; its output is worth reading only when it fails."""
    done = subprocess.run(
        argv,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    if done.returncode:
        lines = "\n".join(done.stdout.splitlines()[-10:])
        raise Refused(f"{Path(argv[0]).name} ended with {done.returncode}:\n{lines}")


# --- the base: what debootstrap makes, kept as an archive -------------------------------------------------


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    with path.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def archive_of(suite: str, with_sudo: bool) -> Path:
    """The archive of a bare root, made when it is not there yet."""
    name = f"{suite}-sudo" if with_sudo else suite
    archive = CACHE / f"{name}.tar"
    with locked(CACHE / f"{name}.lock"):
        if archive.exists():
            return archive
        say(f"making the base {name} (once, about a minute)")
        with tempfile.TemporaryDirectory(dir=CACHE, prefix="base-") as folder:
            root = Path(folder, "root")
            packages = ",".join((*PACKAGES, "sudo") if with_sudo else PACKAGES)
            quietly([debootstrap(), "--variant=minbase", f"--include={packages}", suite, root])
            # Packages are fetched again from the network, as on a new machine; the lists are of today only.
            for path in [*root.glob("var/cache/apt/archives/*.deb"), *root.glob("var/lib/apt/lists/*_*")]:
                path.unlink()
            made = Path(folder, "base.tar")
            quietly(["tar", "-C", root, "--one-file-system", "--numeric-owner", "-cf", made, "."])
            made.rename(archive)
    return archive


def debootstrap() -> str:
    found = shutil.which("debootstrap", path=SYSTEM_PATH)
    if found is None:
        apt = shutil.which("apt-get")
        if apt is None:
            raise Refused("needs the program debootstrap; install it", LACKING)
        say("installing Debian packages: debootstrap debian-archive-keyring")
        options = ["-qq", "-o", "DPkg::Lock::Timeout=300"]
        quietly([apt, *options, "update"])
        install = [
            apt,
            *options,
            "-y",
            "--no-install-recommends",
            "install",
            "debootstrap",
            "debian-archive-keyring",
        ]
        quietly(["env", "DEBIAN_FRONTEND=noninteractive", *install])
        found = shutil.which("debootstrap", path=SYSTEM_PATH)
    if found is None:
        raise Refused("debootstrap was installed and is still not there", LACKING)
    return found


# --- the root ---------------------------------------------------------------------------------------------


@contextlib.contextmanager
def root_folder(archive: Path, keep: Path | None) -> Iterator[Path]:
    """A root nobody else uses for as long as this lasts; removed afterwards unless it is kept."""
    roots = CACHE / "roots"
    roots.mkdir(exist_ok=True)
    with locked(CACHE / "roots.lock"):
        remove_abandoned(roots)
        if keep is None:
            root = Path(tempfile.mkdtemp(dir=roots))
        else:
            root = keep
            root.mkdir(parents=True, exist_ok=True)
        mine = os.open(root, os.O_RDONLY | os.O_DIRECTORY)
        try:
            fcntl.flock(mine, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise Refused(f"{root} is in use") from None
    try:
        if not (root / "usr").is_dir():
            if any(root.iterdir()):
                raise Refused(f"{root} holds something else than a root", WRONG_USAGE)
            quietly(["tar", "-C", root, "--numeric-owner", "-xpf", archive])
        root.chmod(0o755)
        yield root
    finally:
        if keep is None:
            remove(root)
        os.close(mine)


def remove_abandoned(roots: Path) -> None:
    """Roots of runs that were killed: nobody holds the lock any more."""
    for root in roots.iterdir():
        held = os.open(root, os.O_RDONLY | os.O_DIRECTORY)
        try:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            continue
        else:
            remove(root)
        finally:
            os.close(held)


def remove(root: Path) -> None:
    subprocess.run(["rm", "-rf", "--one-file-system", "--", root], check=False)


def write_settings(root: Path) -> dict[str, str]:
    """Give the root the caller's network: names, certificates, indexes. Returns the variables for it."""
    for name in ("resolv.conf", "hosts"):
        source = Path("/etc", name)
        if source.exists():
            (root / "etc" / name).unlink(missing_ok=True)
            shutil.copyfile(source, root / "etc" / name)
    # The bundle, and what the next update-ca-certificates in the root makes it of.
    for trusted in (Path("usr/local/share/ca-certificates"), Path("etc/ssl/certs/ca-certificates.crt")):
        if Path("/", trusted).is_dir():
            shutil.copytree(Path("/", trusted), root / trusted, dirs_exist_ok=True)
        elif Path("/", trusted).is_file():
            shutil.copyfile(Path("/", trusted), root / trusted)
    variables = {name: os.environ[name] for name in CARRIED_VARIABLES if name in os.environ}
    pip = pip_settings()
    bundles: dict[str, str] = {}
    for name in CERTIFICATES:
        bundle = os.environ.get(name) or (pip.get("cert") if name == "PIP_CERT" else None)
        if bundle and Path(bundle).is_file():
            inside = bundles.setdefault(bundle, f"/etc/ssl/callers-{len(bundles)}.pem")
            shutil.copyfile(bundle, root / inside[1:])
            variables[name] = inside
    write_pip_settings(root / "etc/pip.conf", pip)
    npm = Path(os.environ.get("NPM_CONFIG_USERCONFIG") or Path.home() / ".npmrc")
    for home in (root / "root", root / "home" / USER):
        if npm.is_file() and home.is_dir():
            shutil.copyfile(npm, home / ".npmrc")
            os.chown(home / ".npmrc", home.stat().st_uid, home.stat().st_gid)
            (home / ".npmrc").chmod(0o600)
    proxy = os.environ.get("http_proxy")
    if proxy:
        (root / "etc/apt/apt.conf.d/80proxy").write_text(f'Acquire::http::Proxy "{proxy}";\n')
    return variables


def pip_settings() -> dict[str, str]:
    """The caller's, from pip's files in the order in which a later one wins, and from the environment."""
    found: dict[str, str] = {}
    config_home = os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config"
    files = ("/etc/pip.conf", Path.home() / ".pip/pip.conf", Path(config_home, "pip/pip.conf"))
    for file in (*files, os.environ.get("PIP_CONFIG_FILE")):
        if file is None:
            continue
        parser = configparser.RawConfigParser()
        with contextlib.suppress(configparser.Error):
            parser.read(file)
        if parser.has_section("global"):
            found.update(parser.items("global"))
    for name in CARRIED_PIP:
        variable = "PIP_" + name.upper().replace("-", "_")
        if variable in os.environ:
            found[name] = os.environ[variable]
    return found


def write_pip_settings(path: Path, found: Mapping[str, str]) -> None:
    lines = []
    for name in CARRIED_PIP:
        # An index in a local folder is not there in the root.
        values = [value for value in found.get(name, "").split() if not value.startswith("file:")]
        if values:
            lines.append(f"{name} = {' '.join(values)}\n")
    if lines:
        path.write_text("[global]\n" + "".join(lines))


def add_user(root: Path) -> None:
    """An ordinary user who may become root without a password, as on a cloud machine."""
    if not (root / "home" / USER).is_dir():
        quietly(["chroot", root, "/usr/sbin/useradd", "--create-home", "--shell", "/bin/bash", USER])
        sudoers = root / "etc/sudoers.d" / USER
        sudoers.write_text(f"{USER} ALL=(ALL:ALL) NOPASSWD: ALL\n")
        sudoers.chmod(0o440)


def clone(project: Path, into: Path, owner: Path) -> str:
    """The commit checked out in `project`, and nothing else of it. Returns its name."""
    git = ("git", "-C", into)
    if not (into / ".git").is_dir():
        quietly(["git", "init", "--quiet", "--initial-branch=main", into])
    else:
        os.chown(into, os.getuid(), os.getgid())
    # Only while git works here; afterwards it is the user's.
    quietly(["chown", "-R", f"{os.getuid()}:{os.getgid()}", into / ".git"])
    quietly([*git, "fetch", "--quiet", "--no-tags", "--depth=1", project, "HEAD"])
    quietly([*git, "checkout", "--quiet", "--force", "-B", "main", "FETCH_HEAD"])
    commit = subprocess.run(
        [*git, "rev-parse", "--short=12", "HEAD"], capture_output=True, text=True, check=True
    )
    quietly(["chown", "-R", f"--reference={owner}", into])
    return commit.stdout.strip()


def is_dirty(project: Path) -> bool:
    changes = subprocess.run(
        ["git", "-C", project, "status", "--porcelain"], capture_output=True, text=True, check=True
    )
    return bool(changes.stdout)


# --- running ----------------------------------------------------------------------------------------------


def run_inside(root: Path, options: argparse.Namespace, folder: str, variables: Mapping[str, str]) -> int:
    """The command's exit status (128 and the signal, as a shell has it)."""
    argv = [
        *("setpriv", "--pdeathsig", "KILL", "unshare", "--mount", "--pid", "--fork", "--kill-child=KILL"),
        *(sys.executable, "-I", __file__, "--as-first-process", str(root), folder),
        *("chroot" if options.no_userns else "pivot", USER if options.user else "root", *options.command),
    ]
    home = f"/home/{USER}" if options.user else "/root"
    user = USER if options.user else "root"
    environment = {
        **variables,
        "HOME": home,
        "USER": user,
        "LOGNAME": user,
        "PATH": SYSTEM_PATH,
        "LANG": "C.UTF-8",
    }
    running = subprocess.Popen(argv, env=environment)

    def pass_on(number: int, _frame: FrameType | None) -> None:
        # The first process in there is the child of unshare, which does not pass signals on itself.
        with contextlib.suppress(OSError, ValueError):
            children = Path(f"/proc/{running.pid}/task/{running.pid}/children").read_text().split()
            for child in children:
                os.kill(int(child), number)

    # Ctrl-C reaches everybody in the terminal's foreground by itself.
    signal.signal(signal.SIGINT, lambda *_: None)
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, pass_on)
    status = running.wait()
    return status if status >= 0 else 128 - status


def first_process(root: Path, folder: str, way: str, user: str, command: list[str]) -> NoReturn:
    """Process 1 of the root's process namespace: mounts, starts the command, reaps; when it ends, all end."""
    libc = ctypes.CDLL(None, use_errno=True)

    def mount(
        source: str, target: Path | str, kind: str | None, flags: int = 0, data: str | None = None
    ) -> None:
        arguments = (source, os.fspath(target), kind, flags, data)
        encoded = [a.encode() if isinstance(a, str) else a for a in arguments]
        encoded[3] = ctypes.c_ulong(flags)  # type: ignore[call-overload]
        if libc.mount(*encoded):
            raise OSError(ctypes.get_errno(), f"mount {target}: {os.strerror(ctypes.get_errno())}")

    nosuid, nodev, remount, bind, recursive, private = 2, 4, 0x20, 0x1000, 0x4000, 1 << 18
    mount("none", "/", None, recursive | private)
    mount(str(root), root, None, bind)
    # Without nosuid, which the folder's file system may have (/tmp does): sudo would not work.
    mount("none", root, None, remount | bind)
    mount("proc", root / "proc", "proc", nosuid | nodev)
    mount("/sys", root / "sys", None, bind | recursive)
    devices = root / "dev"
    mount("tmpfs", devices, "tmpfs", nosuid, "mode=755,size=1m")
    for name in DEVICES:
        (devices / name).touch()
        mount(f"/dev/{name}", devices / name, None, bind)
    for name in ("pts", "shm"):
        (devices / name).mkdir()
    mount("devpts", devices / "pts", "devpts", nosuid, "newinstance,ptmxmode=0666,mode=620,gid=5")
    mount("tmpfs", devices / "shm", "tmpfs", nosuid | nodev, "mode=1777")
    (devices / "ptmx").symlink_to("pts/ptmx")
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        (devices / name).symlink_to(f"/proc/self/fd/{number}")
    (devices / "fd").symlink_to("/proc/self/fd")
    if way == "chroot":
        # The kernel refuses new user namespaces to whoever is in one (user_namespaces(7), EPERM).
        os.chroot(root)
    else:
        os.chdir(root)
        if libc.syscall(ctypes.c_long(pivot_root_number()), b".", b".") or libc.umount2(b".", 2):
            raise OSError(ctypes.get_errno(), f"pivot_root: {os.strerror(ctypes.get_errno())}")
    os.chdir("/")

    child = os.fork()
    if child == 0:
        try:
            enter(folder, user, command)
        except OSError as error:
            say(f"{command[0]}: {error.strerror}")
            os._exit(127 if isinstance(error, FileNotFoundError) else 126)

    def pass_on(number: int, _frame: FrameType | None) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(child, number)

    signal.signal(signal.SIGINT, lambda *_: None)
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, pass_on)
    while True:
        ended, status = os.wait()
        if ended == child:
            code = os.waitstatus_to_exitcode(status)
            os._exit(code if code >= 0 else 128 - code)


def pivot_root_number() -> int:
    numbers = {"x86_64": 155, "aarch64": 41, "riscv64": 41, "ppc64le": 203, "s390x": 217}
    machine = os.uname().machine
    if machine not in numbers:
        raise OSError(0, f"pivot_root has no known number on {machine}; use --no-userns")
    return numbers[machine]


def enter(folder: str, user: str, command: list[str]) -> NoReturn:
    if user != "root":
        lines = Path("/etc/passwd").read_text().splitlines()
        uid, gid = next(map(int, line.split(":")[2:4]) for line in lines if line.startswith(f"{user}:"))
        os.setgroups([gid])
        os.setgid(gid)
        os.setuid(uid)
    os.chdir(folder)
    os.execvp(command[0], command)


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="./dev fresh",
        usage="./dev fresh [--user] [--no-userns] [--keep DIR] [bookworm|trixie] COMMAND...",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--user", action="store_true", help="as an ordinary user with sudo, not as root")
    parser.add_argument("--no-userns", action="store_true", help="where user namespaces cannot be made")
    parser.add_argument(
        "--keep",
        metavar="DIR",
        type=Path,
        help="make the root in DIR and leave it there; used again when it is there, with the present commit",
    )
    parser.add_argument("--check", action="store_true", help="only say whether this machine can do it")
    parser.add_argument("command", nargs=argparse.REMAINDER, metavar="COMMAND")
    options = parser.parse_args(arguments)
    options.suite = SUITES[0]
    if options.command and options.command[0] in SUITES:
        options.suite = options.command.pop(0)
    if not options.command and not options.check:
        parser.print_usage(sys.stderr)
        raise Refused("no command", WRONG_USAGE)
    if options.keep is not None:
        options.keep = options.keep.absolute()
    return options


def check_machine() -> None:
    if os.getuid() != 0:
        raise Refused("needs root, for debootstrap and mounts:  sudo ./dev fresh ...", LACKING)
    for name in ("setpriv", "unshare", "git", "tar"):
        if shutil.which(name) is None:
            raise Refused(f"needs the program {name}; install it", LACKING)
    if shutil.which("debootstrap", path=SYSTEM_PATH) is None and shutil.which("apt-get") is None:
        raise Refused("needs the program debootstrap; install it", LACKING)
    tried = subprocess.run(
        ["unshare", "--mount", "--pid", "--fork", "mount", "-t", "tmpfs", "none", "/mnt"],
        capture_output=True,
        check=False,
    )
    if tried.returncode:
        raise Refused(
            "needs the right to mount, which most containers do not have (docker: --privileged)", LACKING
        )


def main(arguments: Sequence[str]) -> int:
    options = parse(arguments)
    check_machine()
    if options.check:
        return 0
    project = Path(__file__).resolve().parent.parent
    if is_dirty(project):
        say("this tree has changes that are not committed: they do not take part")
    CACHE.mkdir(parents=True, exist_ok=True)
    archive = archive_of(options.suite, with_sudo=options.user)
    with root_folder(archive, options.keep) as root:
        if options.user:
            add_user(root)
        home = Path("home", USER) if options.user else Path("root")
        variables = write_settings(root)
        checkout = root / home / "gooseherd"
        commit = clone(project, checkout, root / home)
        how = "a user with sudo" if options.user else "root"
        if options.no_userns:
            how += ", no user namespaces"
        say(f"{options.suite}, {how}, commit {commit}: {' '.join(options.command)}")
        return run_inside(root, options, f"/{home}/gooseherd", variables)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--as-first-process"]:
        first_process(Path(sys.argv[2]), sys.argv[3], sys.argv[4], sys.argv[5], sys.argv[6:])
    # Until the command runs, both end this program in the orderly way: what was begun is removed.
    for ending in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(ending, lambda number, _frame: sys.exit(128 + number))
    try:
        sys.exit(main(sys.argv[1:]))
    except Refused as refusal:
        say(str(refusal))
        sys.exit(refusal.status)
    except KeyboardInterrupt:
        sys.exit(130)
