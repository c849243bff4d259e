"""deploy/check_templates.py as a module: deploy is no package."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any, Final

SCRIPT: Final = Path(__file__).parents[1] / "deploy" / "check_templates.py"


def _load() -> Any:
    spec = importlib.util.spec_from_file_location("check_templates", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


check_templates: Final = _load()
