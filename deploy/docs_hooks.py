"""Hooks of mkdocs (mkdocs.yml): what differs between a page in the repository and on the site."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
_LINK = re.compile(r"\[([^\]]+)\]\(([^)#:\s]+)(?:#[^)\s]*)?\)")


def on_page_markdown(markdown: str, *, page: Any, config: Any, files: Any) -> str:
    """Links to what is no page (folders, files elsewhere) become names; one to nothing stays, and fails."""
    folder = (ROOT / "docs" / page.file.src_uri).parent

    def named(match: re.Match[str]) -> str:
        target = (folder / match[2]).resolve()
        is_page = target.is_relative_to(ROOT / "docs") and target.is_file()
        if is_page or not target.exists() or not target.is_relative_to(ROOT):
            return match[0]
        return f"{match[1]} (`{target.relative_to(ROOT)}`)"

    return _LINK.sub(named, markdown)
