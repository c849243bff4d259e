"""What SOURCE_REFERENCES means: which sources there are, which is asked first, and that workers know them."""

from __future__ import annotations

import gzip
import hashlib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gooseherd.domain.assemblies import assembly_name, fitting_assemblies
from gooseherd.domain.contig import Contig
from gooseherd.domain.errors import Misconfigured
from gooseherd.domain.reference import ReferenceSequence
from gooseherd.processing.formats.reference_fasta import SequenceSink, sequences_of
from gooseherd.settings import Settings
from gooseherd.sources.references import in_order, parse_references
from gooseherd.sources.rules import OutboundRules
from gooseherd.wiring.fleet import check_references, outbound_rules, worker_environment
from gooseherd.worker.settings import WorkerSettings, attempt_environment

M5 = "6aef897c3d6ff0c78aff06ac189178dd"
HG38 = ReferenceSequence("chr1", 248956422, M5)
SOURCES = parse_references(
    [
        "mm39=https://example.org/mm39.fa",
        "mine=https://example.org/mine.fa",
        "registry=https://example.org/{m5}",
        "GRCh38.p14=https://example.org/hg38.fa",
        f"{M5}=https://example.org/chr1.fa",
        f"{'0' * 32}=https://example.org/other.fa",
    ]
)


@pytest.mark.parametrize(
    "word", ["hg38", "hg38=", "=https://x/y", "hg38=/a/b", "a b=https://x/y", "x" * 70 + "=https://x"]
)
def test_what_is_no_name_and_url_is_refused(word: str) -> None:
    with pytest.raises(Misconfigured) as refused:
        parse_references([word])
    assert refused.value.setting == "SOURCE_REFERENCES"


def test_a_url_may_have_equal_signs() -> None:
    (source,) = parse_references(["hg38=https://example.org/f?a=b&c=d"])
    assert (source.name, source.url) == ("hg38", "https://example.org/f?a=b&c=d")


@pytest.mark.parametrize(
    ("wanted", "names"),
    [
        (HG38, [M5, "GRCh38.p14", "registry", "mine"]),
        (ReferenceSequence("1", 9, "1" * 32, "GRCm39"), ["mm39", "registry", "mine"]),
        (ReferenceSequence("x", 9, "1" * 32, "Mine"), ["mine", "registry"]),
        (ReferenceSequence("x", 9, "1" * 32), ["registry", "mm39", "mine", "GRCh38.p14"]),
    ],
)
def test_the_likeliest_source_is_asked_first_and_other_assemblies_not_at_all(
    wanted: ReferenceSequence, names: list[str]
) -> None:
    assert [source.name for source in in_order(SOURCES, [wanted])] == names


def test_assemblies_are_known_by_all_their_names() -> None:
    assert {assembly_name(name) for name in ("GRCh38", "hg38", "GRCh38.p13", "grch38.P2")} == {"hg38"}
    assert {assembly_name(name) for name in ("T2T-CHM13v2.0", "chm13v2.0", "hs1")} == {"hs1"}
    assert fitting_assemblies([Contig("1", 249250621), Contig("GL000207.1", 4262)]) == {"hg19"}
    assert fitting_assemblies([Contig("x", 1)]) == frozenset()


def test_workers_and_their_attempts_know_what_the_service_was_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOURCE_REFERENCES", "hg38=s3://genomes/hg38.fa, mine=https://example.org/x.fa?a=b")
    monkeypatch.setenv("SOURCE_REFERENCES_MAX_BYTES", "5G")
    settings = Settings(workflow_s3_bucket="artifacts", ecs_cluster="gooseherd")
    told = WorkerSettings.from_env(attempt_environment(worker_environment(settings)))
    assert told.outbound == outbound_rules(settings)
    assert [source.name for source in told.outbound.reference_sources()] == ["hg38", "mine"]
    assert told.outbound.references_max_bytes == 5 << 30


@pytest.mark.parametrize(
    "reference",
    ["hg38=http://example.org/x", "hg38=https://10.0.0.1/x", "hg38=file:///etc/x", "hg38=gopher://x/y"],
)
def test_a_reference_that_the_rules_forbid_is_refused_at_start(reference: str) -> None:
    settings = Settings(source_references=(reference,))
    with pytest.raises(Misconfigured, match="hg38"):
        check_references(settings, OutboundRules().sources())


# -- FASTA to sequences ----------------------------------------------------------------------


class Kept(bytearray):
    """A sink."""

    def write(self, data: bytes) -> None:
        self.extend(data)


def split(path: Path, longest: int = 1 << 20) -> list[tuple[str, int, str, bytes]]:
    def begin() -> SequenceSink:
        return Kept()

    found = []
    for sequence in sequences_of(path, begin, longest=longest, max_bytes=1 << 30):
        assert isinstance(sequence.sink, Kept)
        found.append((sequence.name, sequence.length, sequence.m5, bytes(sequence.sink)))
    return found


@given(
    records=st.lists(
        st.tuples(
            st.from_regex(r"[A-Za-z0-9.|_:>-]{1,12}", fullmatch=True),
            st.text("ACGTNacgtn*-", min_size=1, max_size=300),
        ),
        max_size=5,
    ),
    width=st.integers(1, 70),
    end=st.sampled_from(["\n", "\r\n", "\n\n", " \n"]),
    cut=st.booleans(),
)
def test_a_sequence_is_its_bases_in_upper_case_however_it_is_written(
    tmp_path_factory: pytest.TempPathFactory, records: list[tuple[str, str]], width: int, end: str, cut: bool
) -> None:
    text = "".join(
        f">{name} about > it{end}"
        + "".join(bases[at : at + width] + end for at in range(0, len(bases), width))
        for name, bases in records
    )
    path = tmp_path_factory.mktemp("fasta") / "x.fa"
    path.write_bytes(gzip.compress((text.rstrip() if cut else text).encode()))
    expected = [
        (name, len(bases), hashlib.md5(bases.upper().encode()).hexdigest(), bases.upper().encode())
        for name, bases in records
    ]
    assert split(path) == expected


def test_headers_and_lines_may_lie_across_what_is_read_at_a_time(tmp_path: Path) -> None:
    path = tmp_path / "x.fa"
    expected = []
    text = b""
    for number in range(2000):
        bases = b"ACGT" * (number % 90) + b"N"
        text += b">s%d %s\n%s\n" % (number, b"x" * (number % 53), bases)
        expected.append((f"s{number}", len(bases)))
    path.write_bytes(text)
    assert [(name, length) for name, length, _, _ in split(path)] == expected


def test_of_a_longer_sequence_than_any_wanted_no_more_is_written(tmp_path: Path) -> None:
    path = tmp_path / "x.fa"
    path.write_bytes(b">long\n" + b"ACGT\n" * 500_000 + b">short\nAC\n")
    (long, short) = split(path, longest=1000)
    assert long[1] == 2_000_000
    assert len(long[3]) <= 1000
    assert short[3] == b"AC"


def test_bases_alone_are_a_sequence_without_a_name(tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.write_bytes(b"ACGTNN")
    assert split(path) == [("", 6, hashlib.md5(b"ACGTNN").hexdigest(), b"ACGTNN")]
    path.write_bytes(b"")
    assert split(path) == []
