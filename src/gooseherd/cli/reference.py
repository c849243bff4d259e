"""The page of all commands, made of what they say of themselves (`--help`).

`python -m gooseherd.cli.reference >docs/cli.md` makes it anew.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Any, Final

import typer

from gooseherd.cli import app

_WIDTH: Final = 100
_HEAD: Final = """# All commands

Generated from the commands' own `--help`; what they do beyond it, and examples: the [guide](commands.md).
"""


def commands(command: Any, above: Any = None, name: str = "gooseherd") -> Iterator[tuple[str, Any, Any]]:
    """Commands that are not hidden, groups before what is in them: the words, the command, a context."""
    settings = {**command.context_settings, "terminal_width": _WIDTH, "max_content_width": _WIDTH}
    context = command.context_class(command, info_name=name, parent=above, **settings)
    yield context.command_path, command, context
    for inner_name in command.list_commands(context) if hasattr(command, "list_commands") else ():
        inner = command.get_command(context, inner_name)
        if not inner.hidden:
            yield from commands(inner, context, inner_name)


def reference() -> str:
    """The whole page."""
    parts = [_HEAD]
    for path, command, context in commands(typer.main.get_command(app)):
        text = "\n".join(line.rstrip() for line in command.get_help(context).strip().splitlines())
        parts.append(f"## {path}\n\n```text\n{text}\n```\n")
    return "\n".join(parts)


if __name__ == "__main__":
    sys.stdout.write(reference())
