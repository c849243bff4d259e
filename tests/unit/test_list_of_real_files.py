"""The list of real files (benchmarks/real-files.json) is one that can be fetched and judged."""

from __future__ import annotations

import json
from collections import Counter
from typing import Any

import pytest
from tests.benchmark_modules import BENCHMARKS, load_benchmark

from gooseherd.domain.formats import ALL, CRAM, FASTA, resolve


@pytest.fixture(scope="module")
def listed() -> Any:
    return json.loads((BENCHMARKS / "real-files.json").read_text(encoding="utf-8"))


def test_every_file_is_of_a_listed_package_and_there_is_none_without_a_file(listed: Any) -> None:
    packages = [package["name"] for package in listed["packages"]]
    assert Counter(packages).most_common(1)[0][1] == 1
    assert {entry["package"] for entry in listed["files"]} == set(packages)


def test_a_member_of_a_package_is_listed_once(listed: Any) -> None:
    """Once fetched it is moved to its place."""
    members = Counter((entry["package"], entry["member"]) for entry in listed["files"])
    assert [member for member, count in members.items() if count > 1] == []
    names = Counter(entry["file"] for entry in (*listed["files"], *listed["made"]))
    assert [name for name, count in names.items() if count > 1] == []


def test_refusals_are_of_the_closed_list(listed: Any) -> None:
    reasons = {entry["refused"] for entry in listed["files"] if "refused" in entry}
    assert reasons <= load_benchmark("real_files").REFUSALS.keys()


def test_every_format_has_at_least_three_files_that_are_made_ready(listed: Any) -> None:
    entries = (*listed["files"], *listed["made"])
    counted = Counter(
        known for entry in entries if "refused" not in entry and (known := resolve(entry["format"]))
    )
    assert {one.name for one in ALL if counted[one] < 3} == set()


def test_a_reference_is_a_listed_fasta_and_its_cram_is_not_refused(listed: Any) -> None:
    formats = {entry["file"]: resolve(entry["format"]) for entry in listed["files"]}
    crams = [entry for entry in listed["files"] if "reference" in entry]
    assert len(crams) >= 3
    for entry in crams:
        assert (formats[entry["file"]], formats[entry["reference"]]) == (CRAM, FASTA)
        assert "refused" not in entry


def test_what_is_made_is_made_of_listed_files_by_a_known_program(listed: Any) -> None:
    files = {entry["file"] for entry in listed["files"]}
    makers = load_benchmark("_made_files").MAKERS
    for entry in listed["made"]:
        assert entry["by"] in makers
        assert set(entry["of"]) <= files
