"""What somebody else wrote, where it could be taken for something of ours."""

from __future__ import annotations

import json
import logging
import shlex
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from gooseherd import logs
from gooseherd.api.htsget import published_blocks
from gooseherd.api.htsget.published_blocks import PublishedBlocks, UnreadableFile, as_block
from gooseherd.api.tracks.igv import igv
from gooseherd.api.tracks.programs import shell
from gooseherd.api.tracks.selection import Selection, ServedFile
from gooseherd.cli.tables import show_table
from gooseherd.domain import formats
from gooseherd.domain.artifact import Kind, Part
from gooseherd.domain.contig import Contig, chrom_aliases, chrom_sizes
from gooseherd.domain.errors import InvalidInput
from gooseherd.domain.foreign_json import read_json
from gooseherd.domain.keys import CacheKey
from gooseherd.domain.region import Region
from gooseherd.domain.source import SourceFile
from gooseherd.storage.memory import MemoryCache
from gooseherd.terminal import visible

ESCAPES = "a\x1b]0;title\x07\x9b2J\u202eb\nc"


def selection(contig: str = "chr1", title: str = "reads.bam", index: str | None = "bai") -> Selection:
    urls = {Kind.DATA: "http://h/d", Kind.INDEX: "http://h/i"}
    file = ServedFile("d/1", title, formats.BAM, urls, index)
    return Selection(
        [file], [Contig(contig, 1000)], "custom", False, "http://h/s", region=Region(contig, 0, 9)
    )


def test_what_is_not_printable_is_written_out() -> None:
    assert visible("reads é 1.bam") == "reads é 1.bam"
    assert visible(ESCAPES) == "a\\x1b]0;title\\x07\\x9b2J\\u202eb\\nc"
    assert visible("\ud800") == "\\ud800"


def test_no_text_begins_a_line_of_the_log_or_moves_the_cursor(capsys: Any) -> None:
    before = logging.getLogger().handlers[:], logging.getLogger().level
    try:
        logs.configure_logging()
        logging.getLogger("x").warning("of %s", ESCAPES, extra={"problem": ESCAPES})
        try:
            raise ValueError(ESCAPES)
        except ValueError:
            logging.getLogger("x").exception("refused")
    finally:
        logging.getLogger().handlers[:], _ = before
        logging.getLogger().setLevel(before[1])
    written = capsys.readouterr().err
    lines = written.splitlines()
    assert lines[0].endswith(f"of {visible(ESCAPES)} problem={visible(ESCAPES)}")
    assert lines[-1] == "c"  # of a traceback, which has lines
    assert not set(written) & set("\x1b\x07\x9b\u202e")


def test_a_table_has_a_row_for_each(capsys: Any) -> None:
    show_table(["name", "size"], [[ESCAPES, 1], ["tab\there", 2]])
    assert capsys.readouterr().out == f"{visible(ESCAPES)}\t1\ntab\\there\t2\n"


def test_a_sequence_that_is_called_as_an_option_is_none() -> None:
    words = shlex.split(shell(selection("-o/tmp/x")).text)
    assert words == ["samtools", "view", "--", "http://h/d", "-o/tmp/x:1-9"]
    assert shlex.split(shell(selection()).text) == ["samtools", "view", "http://h/d", "chr1:1-9"]


def test_no_name_ends_the_script_of_the_page_into_which_a_snippet_is_copied() -> None:
    name = "</script><script>alert(1)</script>.bam"
    text = igv(selection(title=name)).text
    assert "<" not in text
    options = json.loads(text.partition("'igv'), ")[2].removesuffix(")"))
    assert options["tracks"][0]["name"] == name


def test_a_sequence_with_a_line_break_in_its_name_has_no_line() -> None:
    contigs = [Contig("chr1", 5), Contig("x\t7\nchr1", 9), Contig("chr2", None), Contig("HLA:01 é", 3)]
    assert chrom_sizes(contigs) == "chr1\t5\nHLA:01 é\t3\n"
    assert chrom_aliases({"chr1": ["1", "x\ny"], "x\t7": ["7"]}) == "chr1\t1\n"


@pytest.mark.parametrize("odd", ["\x1b", "\x7f", "\x9b", "\x85"])
@pytest.mark.parametrize("field", ["filename", "access_url", "version_tag", "package"])
def test_an_entry_has_no_control_characters(field: str, odd: str) -> None:
    known = {"dcc": "d", "local_id": "1", "access_url": "https://h/x.bam", "filename": "x.bam"}
    with pytest.raises(InvalidInput, match="control characters"):
        SourceFile.from_json({**known, field: f"x{odd}.bam"})


@pytest.mark.parametrize("deep", ["[", '{"a":'])
def test_json_that_is_too_deep_is_none(deep: str) -> None:
    with pytest.raises(ValueError, match="too deeply"):
        read_json(deep * 100_000)
    assert read_json(b'{"a": [1]}') == {"a": [1]}


async def test_a_header_that_inflates_without_end_is_not_held(monkeypatch: Any) -> None:
    """Blocks may be a thousand times larger than they are stored."""
    monkeypatch.setattr(published_blocks, "_HEADER_BYTES", 1 << 20)
    content = as_block(b"#" * 65_000) * 100
    part = Part(Kind.DATA, CacheKey("a/x.vcf.gz"), len(content), "0" * 64, "x.vcf.gz")
    cache = MemoryCache()
    await cache.put_if_absent(part.key, content)
    with ThreadPoolExecutor(1) as threads, pytest.raises(UnreadableFile, match="larger than any"):
        await PublishedBlocks(cache, part, threads).header()
