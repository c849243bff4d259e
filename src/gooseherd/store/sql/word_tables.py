"""The index of words: the one thing of the schema that is not the same in SQLite and PostgreSQL."""

from __future__ import annotations

from textwrap import dedent
from typing import Final

from sqlalchemy import DDL, Table, event
from sqlalchemy.schema import ExecutableDDLElement

from gooseherd.store.sql.search import INDEXED_LENGTHS

_WORD_INDEX: Final = {
    "sqlite": (
        f"""
        CREATE VIRTUAL TABLE file_words USING fts5(
            words, content='files', content_rowid='id', tokenize='ascii', detail='none', columnsize=0,
            prefix='{" ".join(map(str, INDEXED_LENGTHS))}'
        )
        """,
        # Those of new rows are written by ordered.py: in a trigger the index is flushed for each of them.
        """
        CREATE TRIGGER file_words_delete AFTER DELETE ON files BEGIN
            INSERT INTO file_words(file_words, rowid, words) VALUES ('delete', old.id, old.words);
        END
        """,
        """
        CREATE TRIGGER file_words_update AFTER UPDATE ON files
        WHEN old.id <> new.id OR old.words <> new.words BEGIN
            INSERT INTO file_words(file_words, rowid, words) VALUES ('delete', old.id, old.words);
            INSERT INTO file_words(rowid, words) VALUES (new.id, new.words);
        END
        """,
    ),
    "postgresql": (
        """
        CREATE TABLE file_words (
            word TEXT COLLATE "C", dcc TEXT COLLATE "C", local_id TEXT COLLATE "C",
            PRIMARY KEY (word, dcc, local_id)
        )
        """,
        """
        CREATE FUNCTION keep_file_words() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN
            IF TG_OP <> 'INSERT' THEN
                DELETE FROM file_words WHERE word = ANY (string_to_array(OLD.words, ' '))
                    AND dcc = OLD.dcc AND local_id = OLD.local_id;
            END IF;
            IF TG_OP <> 'DELETE' THEN
                INSERT INTO file_words SELECT word, NEW.dcc, NEW.local_id
                FROM unnest(string_to_array(NEW.words, ' ')) AS word WHERE ascii(word) < 128;
            END IF;
            RETURN NULL;
        END $$
        """,
        """
        CREATE TRIGGER file_words_insert_delete AFTER INSERT OR DELETE ON files
        FOR EACH ROW EXECUTE FUNCTION keep_file_words()
        """,
        """
        CREATE TRIGGER file_words_update AFTER UPDATE ON files
        FOR EACH ROW WHEN (OLD.words <> NEW.words) EXECUTE FUNCTION keep_file_words()
        """,
    ),
}
"""Kept by triggers."""


def add_word_index(files: Table) -> None:
    """Make it wherever the table of files is made."""
    for dialect, statements in _WORD_INDEX.items():
        for statement in statements:
            ddl: ExecutableDDLElement = DDL(dedent(statement).strip())  # type: ignore[no-untyped-call]
            event.listen(files, "after_create", ddl.execute_if(dialect=dialect))
