"""What the server tells the application about a request, beside what ASGI has a place for."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from gooseherd.domain.ports.cache import FileSpan

REFUSAL_KEY: Final = "gooseherd.refusal"
"""Of a scope: the error to answer with. What was sent never became a request."""
ESSENTIAL_KEY: Final = "gooseherd.essential_only"
"""Of a scope: the error to answer with unless the request is one that an operator needs."""
Respond = Callable[[int, bytes, bytes | memoryview | FileSpan], bool]
"""`AtOnce`: a whole response in one write, or from a file."""
Answered = Callable[[dict[str, Any], Respond], bool]
"""Sends the response to the request of a scope at once and says so, or does nothing."""
Repeat = Callable[[bytes, tuple[str, int] | None, Respond], bool]
"""Answers another request with the same head: the value of its range (without the unit), and who sent it.
It sends the response at once and says so, or does nothing."""
Prepare = Callable[[dict[str, Any]], Repeat | None]
"""Keeps what others with the head of a request need that was answered at once; None: they are not alike."""
