"""Which methods a path knows, for Allow and for CORS preflights (RFC 9110 §10.2.1)."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final

from fastapi import APIRouter
from fastapi.routing import APIRoute

READING: Final = frozenset({"GET", "HEAD", "OPTIONS"})
"""Of what no route has: the pages, and what is not there."""


def routes_of(routers: Iterable[APIRouter]) -> list[APIRoute]:
    """Their routes with a path of the API's."""
    return [route for router in routers for route in router.routes if isinstance(route, APIRoute)]


class Methods:
    """From the routes there are: HEAD wherever GET is (api/head.py), OPTIONS everywhere."""

    def __init__(self, routes: Iterable[APIRoute]) -> None:
        self._by_path: dict[re.Pattern[str], set[str]] = {}
        for route in routes:
            self._by_path.setdefault(route.path_regex, set()).update(route.methods or ())

    def allowed(self, path: str) -> str:
        """The value of Allow."""
        found: set[str] = set()
        for pattern, methods in self._by_path.items():
            if pattern.match(path):
                found |= methods
        if not found:
            return ", ".join(sorted(READING))
        return ", ".join(sorted(found | {"OPTIONS"} | ({"HEAD"} if "GET" in found else set())))
