"""The page of all settings, made from their definitions."""

from __future__ import annotations

from typing import Any

from pydantic_settings import BaseSettings


def settings_page(model: type[BaseSettings]) -> str:
    """The settings page, in Markdown."""
    rows = [
        "# Settings",
        "",
        "All come from the environment; on a laptop none needs to be set. Generated from `settings.py`.",
        "",
        "| variable | default | bounds | what and why |",
        "| --- | --- | --- | --- |",
    ]
    own = [name for name in model.__annotations__ if name in model.model_fields]
    inherited = [name for name in model.model_fields if name not in own]
    for name in (*own, *inherited):
        field = model.model_fields[name]
        bounds = ", ".join(filter(None, (_bound(item) for item in field.metadata)))
        rows.append(
            f"| `{name.upper()}` | {_default(name, field.default)} | {bounds} | {field.description} |"
        )
    return "\n".join(rows) + "\n"


def _default(name: str, value: Any) -> str:
    if name == "gooseherd_state_dir":
        return "`$XDG_STATE_HOME/gooseherd`"
    if name == "worker_max_local":
        return "number of cores, at most 8"
    if value in (None, (), ""):
        return "unset"
    return f"`{','.join(value) if isinstance(value, tuple) else value}`"


def _bound(item: object) -> str:
    signs = {"gt": ">", "ge": "≥", "lt": "<", "le": "≤"}
    return next((f"{sign} {getattr(item, name)}" for name, sign in signs.items() if hasattr(item, name)), "")
