"""Addresses in texts of failures: where a file comes from is the admin's to read, of its host everybody's."""

from __future__ import annotations

import re
from typing import Final

_MARK: Final = "://"
_SCHEME: Final = re.compile(r"[A-Za-z][A-Za-z0-9+.-]{0,31}\Z")
_LONGEST_SCHEME: Final = 32
_ADDRESS: Final = re.compile(r"[^\x00-\x20\x7f]*")
"""Up to the next blank; punctuation in front of that belongs to the sentence."""
_PUNCTUATION: Final = ":,;.)]}'\""
_HOST: Final = re.compile(r"[^/?#\\]*")


def without_paths(text: str, *, admin: bool = False) -> str:
    """The text with scheme and host of each address in it, as they are shown of `access_url`.

    The rest of an address may be what opens the file. For the admin, the text as it is. In linear time: what
    upstream sent may be in it, however long.
    """
    if admin or _MARK not in text:
        return text
    shown, at = [], 0
    while (mark := text.find(_MARK, at)) >= 0:
        begin = mark + len(_MARK)
        shown.append(text[at:begin])
        at = begin
        if _SCHEME.search(text[max(mark - _LONGEST_SCHEME, 0) : mark]) is None:
            continue
        found = _ADDRESS.match(text, begin)
        assert found is not None
        address = found[0].rstrip(_PUNCTUATION)
        host = _HOST.match(address)
        assert host is not None
        shown.append(host[0].rpartition("@")[2])
        # Without a host, too: the rest is a path. Reading it again for each mark took seconds.
        at = begin + len(address)
    return "".join(shown) + text[at:]
