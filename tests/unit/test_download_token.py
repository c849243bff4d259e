"""The text of a download token: what signed it can read it, and no other text is that token."""

from __future__ import annotations

import string

from gooseherd.domain.download_token import DownloadToken, read, sign

TOKEN = DownloadToken("key", "owner", "4dn", "x1", 0, 99, may_submit=True)
SECRET = b"k" * 32


def test_what_was_signed_is_read() -> None:
    assert read(sign(TOKEN, SECRET), SECRET) == TOKEN
    assert read(sign(TOKEN, SECRET), b"l" * 32) is None


def test_a_token_has_one_text() -> None:
    """Of base64's last character not all bits count: several texts decode to the same bytes."""
    text = sign(TOKEN, SECRET)
    letters = string.ascii_letters + string.digits + "-_"
    for at, kept in enumerate(text):
        others = [letter for letter in letters if letter != kept]
        assert [o for o in others if read(text[:at] + o + text[at + 1 :], SECRET) is not None] == []


def test_words_that_are_no_token_are_none() -> None:
    for text in (
        "",
        "ght_",
        "ght_.",
        "ght_é.é",
        "ghk_1",
        sign(TOKEN, SECRET) + "=",
        sign(TOKEN, SECRET)[:-1],
    ):
        assert read(text, SECRET) is None
