"""nginx on a free port, by the configuration that deployments start from (deploy/nginx.conf)."""

from __future__ import annotations

import contextlib
import os
import re
import shlex
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
CONFIGURATION = ROOT / "deploy" / "nginx.conf"
LOOKUPS = ROOT / "deploy" / "gooseherd-lookups.lua"
_FOR_LUA = re.compile(r"sed (-e .*) nginx\.conf")

LUA = Path("/usr/lib/nginx/modules/ngx_http_lua_module.so")
"""Of Debian's libnginx-mod-http-lua."""
_ENABLED = Path("/etc/nginx/modules-enabled")
"""Where Debian says which modules nginx is to load."""

_WHOLE = """
{modules}
pcre_jit on;
worker_processes 1;
daemon off;
pid {folder}/nginx.pid;
error_log {folder}/error.log warn;
events {{ worker_connections 2048; }}
http {{
    access_log off;
    default_type application/octet-stream;
    client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy; fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi; scgi_temp_path {folder}/scgi;
    keepalive_requests 1000000;
    {servers}
}}
"""
_PLAIN = """
    server {{
        listen 127.0.0.1:{port};
        root {artifacts};
        sendfile on;
        sendfile_max_chunk 2m;
        open_file_cache max=100;
    }}
"""


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port


def plain(artifacts: Path, port: int) -> str:
    """A server of that folder and nothing else, without tcp_nopush, which costs 40 ms a response."""
    return _PLAIN.format(artifacts=artifacts, port=port)


def in_front(
    service: str, artifacts: Path, port: int, cache: Path, *, log: Path | None = None, lua: bool = False
) -> str:
    """What deploy/nginx.conf has for accel, in front of `service` (host:port). `cache` is for nginx.

    Requests are logged to `log`, or not at all: a line costs nginx as much as some of them. With `lua` what
    the file says is done to it.
    """
    text, _, _ = CONFIGURATION.read_text().partition("# For ARTIFACT_DELIVERY=redirect")
    folders = {"/var/cache/gooseherd-nginx": str(cache)}
    if lua:
        found = _FOR_LUA.search(text)
        assert found is not None, "deploy/nginx.conf does not say what to do for Lua"
        text = subprocess.run(
            ["sed", *shlex.split(found[1])], input=text, capture_output=True, text=True, check=True
        ).stdout
        folders = {"/etc/nginx/gooseherd-lookups.lua": str(LOOKUPS)}
    return _replaced(
        text,
        {
            "127.0.0.1:8080": service,
            "listen 80;": f"listen 127.0.0.1:{port};",
            "/var/lib/gooseherd/artifacts/": f"{artifacts}/",
            **folders,
            **_logged(log),
        },
    )


def second_hop(artifacts: Path, port: int, secret: str, *, log: Path | None = None) -> str:
    """What deploy/nginx.conf has for the end of a redirect; with a log it needs the server in front, too."""
    _, _, text = CONFIGURATION.read_text().partition("# For ARTIFACT_DELIVERY=redirect")
    lines = [line.removeprefix("#").removeprefix(" ") for line in text.splitlines()]
    return _replaced(
        "\n".join(lines[lines.index("map $http_range $gooseherd_short {") :]),
        {
            "listen 80;": f"listen 127.0.0.1:{port};",
            "/var/lib/gooseherd/artifacts": str(artifacts),
            "THE_SECRET": secret,
            **_logged(log),
            # Where it stands alone it has no zone, which is the other server's.
            **({} if log else {"limit_conn gooseherd_clients 512;": ""}),
        },
    )


def _logged(log: Path | None) -> dict[str, str]:
    if log is None:
        return {"access_log /var/log/nginx/gooseherd.log gooseherd;": "access_log off;"}
    return {"/var/log/nginx/gooseherd.log": str(log)}


def _replaced(text: str, values: Mapping[str, str]) -> str:
    for old, new in values.items():
        assert old in text, f"deploy/nginx.conf has no {old}"
        text = text.replace(old, new)
    return text


@contextlib.contextmanager
def running(folder: Path, servers: Sequence[str], port: int) -> Iterator[int]:
    """nginx with these servers until the block ends; its pid, once it listens on `port`."""
    folder.mkdir(parents=True, exist_ok=True)
    config = folder / "nginx.conf"
    # Run by root its worker would give its rights up, and not come into folders that are its user's alone.
    user = "user root;\n" if os.geteuid() == 0 else ""
    text = "\n".join(servers)
    modules = f"include {_ENABLED}/*.conf;" if "_by_lua_" in text else ""
    config.write_text(user + _WHOLE.format(modules=modules, folder=folder, servers=text))
    command = ["nginx", "-c", str(config), "-e", str(folder / "error.log")]
    child = subprocess.Popen(command, stdin=subprocess.DEVNULL)
    try:
        end = time.monotonic() + 20
        while True:
            assert child.poll() is None, (folder / "error.log").read_text()
            assert time.monotonic() < end, "nginx does not listen"
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
                break
            time.sleep(0.05)
        yield child.pid
    finally:
        child.terminate()
        child.wait(20)
