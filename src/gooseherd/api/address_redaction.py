"""Addresses in texts of failures: where a file comes from is the admin's to read, of its host everybody's."""

from __future__ import annotations

import re
from typing import Final

_ADDRESS: Final = re.compile(
    r"""(?P<scheme>[A-Za-z][A-Za-z0-9+.-]*://)(?:[^\s/?#@]*@)?(?P<host>[^\s/?#@]+)[/?#]\S*?(?=[:,;.)\]}'"]*(?:\s|$))"""
)
"""Up to the next space; punctuation in front of that belongs to the sentence."""


def without_paths(text: str, *, admin: bool = False) -> str:
    """The text with scheme and host of each address in it, as they are shown of `access_url`.

    The rest of an address may be what opens the file. For the admin, the text as it is.
    """
    return text if admin or "://" not in text else _ADDRESS.sub(r"\g<scheme>\g<host>", text)
