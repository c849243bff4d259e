"""Addresses as the browser of a notebook reaches them, which may be another machine than the kernel's."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import quote, unquote, urlsplit

from gooseherd.client.endpoint import LOOPBACK


def browser_address(base_url: str, environ: Mapping[str, str]) -> str:
    """Where the browser finds the service, without a trailing slash; on a JupyterHub a path of its own host.

    GOOSEHERD_BROWSER_URL says so, where it is set; `{port}` in it is the service's port. Else a service on
    this machine's loopback is found by jupyter-server-proxy on a JupyterHub (JUPYTERHUB_SERVICE_PREFIX), and
    at its own address everywhere else.
    """
    where = urlsplit(base_url)
    port = where.port or (443 if where.scheme == "https" else 80)
    named = environ.get("GOOSEHERD_BROWSER_URL", "")
    if named:
        return named.replace("{port}", str(port)).rstrip("/")
    prefix = environ.get("JUPYTERHUB_SERVICE_PREFIX", "")
    if prefix and where.hostname in LOOPBACK:
        return f"{prefix.rstrip('/')}/proxy/{port}{where.path.rstrip('/')}"
    return base_url


def file_at(url: str, root: str) -> str | None:
    """The file (DCC/ID) that an address below `root` is of."""
    path = url.removeprefix(root).partition("?")[0].strip("/").split("/")
    if (
        not url.startswith(f"{root}/")
        or len(path) < 3
        or path[0] not in {"files", "data", "index", "density"}
    ):
        return None
    return f"{unquote(path[1]).lower()}/{unquote(path[2])}"


def rewritten(value: Any, address: Callable[[str], str]) -> Any:
    """A specification with each of its addresses passed through `address`."""
    if isinstance(value, Mapping):
        return {
            name: address(one)
            if isinstance(one, str) and name.lower().endswith("url")
            else rewritten(one, address)
            for name, one in value.items()
        }
    if isinstance(value, list | tuple):
        return [rewritten(one, address) for one in value]
    return value


def with_token(url: str, token: str) -> str:
    """The address with the token in its query."""
    return f"{url}{'&' if '?' in url else '?'}token={quote(token, safe='')}"
