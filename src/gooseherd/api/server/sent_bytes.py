"""How much of what was sent has not arrived, asked of the kernel (tcp(7))."""

from __future__ import annotations

import asyncio
import fcntl
import sys
import termios


def unacknowledged_bytes(transport: asyncio.Transport) -> int:
    """What the kernel still holds of what was written: it makes room for more in large steps only."""
    number = transport.get_extra_info("socket").fileno()
    if number < 0:
        return 0
    try:
        held = fcntl.ioctl(number, termios.TIOCOUTQ, bytes(4))  # SIOCOUTQ
    except OSError:
        return 0
    return int.from_bytes(held, sys.byteorder)
