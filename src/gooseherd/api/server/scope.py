"""What the server tells the application about a request, beside what ASGI has a place for."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

REFUSAL_KEY: Final = "gooseherd.refusal"
"""Of a scope: the error to answer with. What was sent never became a request."""
ESSENTIAL_KEY: Final = "gooseherd.essential_only"
"""Of a scope: the error to answer with unless the request is one that an operator needs."""
Respond = Callable[[int, bytes, bytes | memoryview], bool]
"""`Exchange.respond`: a whole response in one write."""
Answered = Callable[[dict[str, Any], Respond], bool]
"""Sends the response to the request of a scope at once and says so, or does nothing."""
