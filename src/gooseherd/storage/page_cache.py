"""Whether bytes of a file lie in memory, asked of the kernel without reading them (mincore(2))."""

from __future__ import annotations

import ctypes
import mmap
from functools import cache
from typing import Final

MOST_BYTES: Final = 1 << 20
"""In one question."""
_PAGE: Final = mmap.PAGESIZE
_PAGES: Final = ctypes.create_string_buffer(MOST_BYTES // _PAGE + 2)
_FAILED: Final = ctypes.c_void_p(-1).value


@cache
def _kernel() -> ctypes.PyDLL:
    # PyDLL keeps the interpreter's lock: none of these calls waits.
    library = ctypes.PyDLL(None)
    library.mmap.restype = ctypes.c_void_p
    library.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, *[ctypes.c_int] * 3, ctypes.c_long]
    library.munmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t]
    library.mincore.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_char_p]
    return library


def is_cached(descriptor: int, offset: int, count: int) -> bool:
    """Whether all these bytes are in page cache now; False also where the kernel does not tell.

    Of a file that belongs to somebody else it is always True (Linux 5.2).
    """
    if not 0 < count <= MOST_BYTES:
        return False
    start = offset - offset % _PAGE
    length = offset + count - start
    kernel = _kernel()
    address = kernel.mmap(None, length, mmap.PROT_READ, mmap.MAP_SHARED, descriptor, start)
    if address == _FAILED:
        return False
    try:
        known = kernel.mincore(address, length, _PAGES) == 0
        return known and b"\0" not in _PAGES.raw[: -(-length // _PAGE)]
    finally:
        kernel.munmap(address, length)
