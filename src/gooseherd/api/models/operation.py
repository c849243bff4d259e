"""Liveness and readiness of the process."""

from __future__ import annotations

from typing import Literal

from gooseherd.api.models.response import ResponseModel


class Health(ResponseModel):
    """The process answers."""

    status: Literal["ok"]
    version: str
    build: str


class ServiceReadiness(ResponseModel):
    """Dependencies by name: "ok" or the problem."""

    status: Literal["ok", "unready"]
    dependencies: dict[str, str]
