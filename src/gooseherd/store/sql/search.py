"""Search by the beginnings of words: what is stored for it, and what a text asks for.

A text matches an entry when each of its blank-separated tokens begins a word of local_id or
filename and goes on as the name does: `rep2.b` finds K562-rep2.bam. A word is a run of letters and
digits.

`names` holds both names in lowercase with a mark before each word, so that such a token is found
by looking for one string. `words` is for an index of words, which the database keeps by triggers: the
words in ASCII, what stands before the first word of a name as if it were one, and the format,
marked as such. The index finds candidates, `names` decides.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import chain
from typing import Final

from gooseherd.domain.formats import Format
from gooseherd.domain.source import SourceFile
from gooseherd.store.sql.columns import storable

_MARK: Final = "\x1f"
"""Before each word and each name; no name holds a control character."""
FORMAT: Final = "\u00b7"
"""Before the format: no word begins with it, they are ASCII."""
LAST: Final = "\x7f"
"""Sorts after every character that a word in ASCII holds."""
_WORD: Final = re.compile(r"[^\W_]+")
_WORD_BEGINS: Final = re.compile(r"(?<![^\W_])(?=[^\W_])")


def names(entry: SourceFile) -> str:
    r"""Both names, marked.

    >>> names_of("Sample_01.bam").replace("\x1f", "|")
    '|sample_|01.|bam'
    """
    return names_of(entry.local_id, storable(entry.filename))


def names_of(*texts: str) -> str:
    """The texts in lowercase with a mark before each word and each text; a second one between two texts.

    No token has two marks in a row: none is found across the end of a text.
    """
    return _MARK.join(
        marked if marked.startswith(_MARK) else _MARK + marked for marked in map(_marked, texts)
    )


def words(entry: SourceFile) -> str:
    """The words of both names, each once, and the format, for the index."""
    return " ".join([*_words_of(entry.local_id, entry.filename), FORMAT + entry.file_format.name])


def _words_of(*texts: str) -> Iterable[str]:
    return dict.fromkeys(chain.from_iterable(_ascii_words(text.lower()) for text in texts))


INDEXED_LENGTHS: Final = range(1, 13)
"""Of the beginnings of words that SQLite's index holds ready-made. A longer one is put together from all
words that begin so; ids that differ only behind their twelfth letter are few."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a text and a format ask for.

    Of an entry's words each of `whole` must be there, and each of `prefixes` must begin one. Each
    of `tokens` must stand in its `names`: that alone decides on the text.
    """

    whole: tuple[str, ...]
    prefixes: tuple[str, ...]
    tokens: tuple[str, ...]


def wanted(text: str, file_format: Format | None = None) -> Wanted:
    r"""What a text asks for, and a format if one is given.

    >>> wanted("rep2.b K5") == Wanted(("rep2",), ("b", "k5"), ("\x1frep2.\x1fb", "\x1fk5"))
    True
    """
    whole = [] if file_format is None else [FORMAT + file_format.name]
    prefixes: list[str] = []
    tokens: list[str] = []
    for token in storable(text).lower().split():
        marked = _marked(token)
        tokens.append(marked if marked.startswith(_MARK) else _MARK + marked)
        *before, last = _ascii_words(token)
        whole += before
        # In a name, the last word may go on; not so when something follows it in the token already.
        (prefixes if _WORD.fullmatch(token[-1]) or not _WORD.search(token) else whole).append(last)
    return Wanted(_once(whole), _once(prefixes), tuple(tokens))


def _marked(text: str) -> str:
    return _WORD_BEGINS.sub(_MARK, text.lower())


def _ascii_words(text: str) -> Iterable[str]:
    if text.isascii() and text[:1].isalnum():
        return _WORD.findall(text)
    return _words_made_ascii(text)


def _words_made_ascii(text: str) -> Iterable[str]:
    first = _WORD.search(text)
    before = text if first is None else text[: first.start()]
    if before:
        yield _ascii(before)
    for word in _WORD.findall(text):
        yield word if word.isascii() else _ascii(word)


def _ascii(word: str) -> str:
    """Character by character, so that a prefix of the word stays a prefix."""
    return "".join(c if c.isascii() and c.isalnum() else f"u{ord(c):x}z" for c in word)


def _once(words: Iterable[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(words))
