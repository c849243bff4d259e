"""A program that asks whatever a service listens on and reads its files; prints what came of it, as JSON.

    python ask_this_machine.py STATE_FOLDER LISTENERS [--as-nobody]

LISTENERS is a list of [address, port or null] in JSON. It loads all it needs before it becomes another user,
who may not read this checkout. It asks the same way whoever it is: with the key, if it can read it.
"""

from __future__ import annotations

import http.client
import json
import os
import pwd
import socket
import ssl
import sys
from pathlib import Path
from typing import Any

import httpx

from gooseherd.client.local_service import read_admin_key
from gooseherd.devcloud.access_key import AccessKey
from gooseherd.devcloud.admin_client import SignedBy

TARGET = "AmazonEC2ContainerServiceV20141113."
RUN_TASK = {"cluster": "gooseherd", "taskDefinition": "gooseherd-worker", "launchType": "FARGATE"}


def main() -> None:
    state, listeners = Path(sys.argv[1]), json.loads(sys.argv[2])
    # What signing and asking import late.
    import botocore.auth
    import botocore.awsrequest
    import botocore.credentials  # noqa: F401

    auth = SignedBy(AccessKey.made())
    next(auth.auth_flow(httpx.Request("GET", "http://127.0.0.1:1/")))
    for one in listeners:
        asked(Path("/nowhere"), *one)
    if "--as-nobody" in sys.argv:
        nobody = pwd.getpwnam("nobody")
        os.setgroups([])
        os.setgid(nobody.pw_gid)
        os.setuid(nobody.pw_uid)
    print(json.dumps({"files": files(state), "listeners": [asked(state, *one) for one in listeners]}))


def files(state: Path) -> list[str]:
    """Those that can be read, or written to."""
    found = []
    names = ("admin-key", "gooseherd.db", "certs/api.key", "devcloud/credentials", "devcloud/certs/api.key")
    for path in (state, *(state / name for name in names)):
        try:
            if path.is_dir():
                next(path.iterdir(), None)
            else:
                path.open("rb").close()
            found.append(path.name)
        except OSError:
            pass
        if os.access(path, os.W_OK):
            found.append(f"{path.name} (write)")
    return found


def asked(state: Path, address: str, port: int | None) -> dict[str, Any]:
    if port is None:
        return {"listener": address, "unix": unix(address)}
    return {
        "listener": f"{address}:{port}",
        "cloud": cloud(state, f"http://{address}:{port}"),
        "admin": admin(state, f"http://{address}:{port}"),
        "worker": worker(state, address, port),
    }


def cloud(state: Path, url: str) -> list[int]:
    """Statuses of RunTask, of the admin routes, of a list, a read and a write of the bucket."""
    key = AccessKey.read(state / "devcloud")
    auth = None if key is None else SignedBy(key)
    statuses = []
    with httpx.Client(base_url=url, trust_env=False, verify=False, timeout=20, auth=auth) as http:
        for method, path, headers, body in (
            ("POST", "/", {"X-Amz-Target": f"{TARGET}ListClusters"}, b"{}"),
            ("POST", "/", {"X-Amz-Target": f"{TARGET}RunTask"}, json.dumps(RUN_TASK).encode()),
            ("GET", "/_devcloud/tasks", {}, b""),
            ("GET", "/gooseherd", {}, b""),
            ("PUT", "/gooseherd/of-a-stranger", {}, b"x"),
            ("GET", "/gooseherd/of-a-stranger", {}, b""),
        ):
            try:
                statuses.append(http.request(method, path, headers=headers, content=body).status_code)
            except httpx.HTTPError:
                statuses.append(0)
    return statuses


def admin(state: Path, url: str) -> list[int]:
    """Statuses of calls that take the admin key."""
    key = read_admin_key(state)
    headers = {"X-API-Key": key} if key is not None else {}
    statuses = []
    with httpx.Client(base_url=url, trust_env=False, verify=False, timeout=20, headers=headers) as http:
        for method, path in (("DELETE", "/files/lab/none"), ("GET", "/fleet")):
            try:
                statuses.append(http.request(method, path).status_code)
            except httpx.HTTPError:
                statuses.append(0)
    return statuses


def worker(state: Path, address: str, port: int) -> str:
    """What the port says to HTTP/2 over TLS, with the certificate of the service if it can be read."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.set_alpn_protocols(["h2"])
    for folder in (state / "certs", state / "devcloud" / "certs"):
        try:
            context.load_cert_chain(folder / "api.pem", folder / "api.key")
        except OSError:
            continue
    try:
        with (
            socket.create_connection((address, port), 10) as plain,
            context.wrap_socket(plain) as encrypted,
        ):
            encrypted.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\4\0\0\0\0\0")
            return "spoken" if encrypted.recv(1) else "closed"
    except (OSError, http.client.HTTPException) as error:
        return type(error).__name__


def unix(path: str) -> str:
    try:
        with socket.socket(socket.AF_UNIX) as one:
            one.connect(path)
            return "connected"
    except OSError as error:
        return type(error).__name__


main()
