"""What is made of a tool's exit status and last words."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from gooseherd.domain.failures import Reason
from gooseherd.domain.processing import StepFailed
from gooseherd.processing.alignments import refuse_truncated
from gooseherd.processing.tools.stages import PipelineFailed, PipelineResult, Stage, StageEnd
from gooseherd.processing.tools.tool_errors import explain, scrub


def test_who_was_killed_lacked_memory_only_if_the_kernel_says_so() -> None:
    killed = explain("sort", -signal.SIGKILL, "", reads_source=True, short_of_memory=True)
    assert killed.reason is Reason.OUT_OF_MEMORY


@pytest.mark.parametrize(
    ("status", "words", "reason"),
    [
        (-signal.SIGKILL, "", Reason.WORKER_LOST),
        (1, "nsenter: cannot open /proc/4711/ns/user: No such file or directory", Reason.WORKER_LOST),
        (1, "nsenter: reassociate to namespace 'ns/user' failed: No such process", Reason.WORKER_LOST),
        (1, "sort: memory exhausted", Reason.OUT_OF_MEMORY),
        (1, "MemoryError", Reason.OUT_OF_MEMORY),
        (1, "[E::bgzf] Cannot allocate memory", Reason.OUT_OF_MEMORY),
        (-signal.SIGXFSZ, "", Reason.OUT_OF_DISK),
        (2, "sort: write failed: x: No space left on device", Reason.OUT_OF_DISK),
        (1, "write failed: File too large", Reason.OUT_OF_DISK),
        (20, "gooseherd-intervals: ran out of disk space while writing the output", Reason.OUT_OF_DISK),
        (1, "samtools sort: truncated file. Aborting", Reason.SOURCE_INVALID),
        (1, "[E::cram_decode_slice] Unable to fetch reference #0\ntruncated file", Reason.SOURCE_INVALID),
        (-signal.SIGSEGV, "", Reason.SOURCE_INVALID),
        (-signal.SIGABRT, "", Reason.TOOL_FAILED),
        (1, "something unheard of", Reason.TOOL_FAILED),
        (0, "[E::x] odd", Reason.TOOL_FAILED),
    ],
)
def test_each_end_has_its_reason(status: int, words: str, reason: Reason) -> None:
    assert explain("tool", status, words, reads_source=True).reason is reason


def test_the_first_error_is_the_reason_and_names_its_line() -> None:
    words = (
        '[E::sam_hrecs_error] Malformed key:value pair at line 3: "@PG\tID:x"\n'
        "[E::sam_parse1] failed to parse header\n[W::sam_read1_sam] Parse error at line 4\n"
    )
    detail = explain("samtools view", 1, words, reads_source=True).detail
    assert detail == 'Malformed key:value pair at line 3: "@PG ID:x"'


def test_a_stage_that_does_not_read_the_source_cannot_blame_it() -> None:
    assert explain("bgzip", 1, "truncated file", reads_source=False).reason is Reason.TOOL_FAILED
    assert explain("bgzip", -signal.SIGSEGV, "", reads_source=False).reason is Reason.TOOL_FAILED


def test_the_missing_reference_is_named_before_the_truncation_it_causes() -> None:
    words = "[E::cram_get_ref] Failed to populate reference for id 0\nsamtools sort: truncated file. Aborting"
    assert "reference" in explain("samtools sort", 1, words, reads_source=True).detail


@pytest.mark.parametrize(
    "secret",
    [
        "/scratch/jobs/17/work/data.bam",
        "https://user:pw@host.example.org/x?token=1",
        "10.0.3.17:27017",
        "worker-3.cluster.internal",
        "/etc/passwd",
    ],
)
def test_paths_and_hosts_do_not_reach_users(secret: str) -> None:
    detail = explain(
        "tool", 1, f'tool: cannot open "{secret}": no', reads_source=False, secrets=("w17",)
    ).detail
    assert secret not in detail
    assert "cannot open" in detail


def test_names_of_sequences_survive() -> None:
    assert scrub("chr1:5-9 GL000192.1 HLA-A*01:01 a/b") == "chr1:5-9 GL000192.1 HLA-A*01:01 a/b"


def test_details_are_one_bounded_line() -> None:
    result = scrub("a\nb\x07" + "c" * 1000)
    assert len(result) <= 300
    assert result.startswith("a b c")


@pytest.mark.parametrize(
    ("status", "reason"),
    [
        (1, Reason.TOOL_FAILED),  # nsenter's
        (2, Reason.SOURCE_INVALID),
        (4, Reason.SOURCE_INVALID),
        (126, Reason.TOOL_FAILED),  # not to be executed
        (127, Reason.TOOL_FAILED),  # not found
    ],
)
async def test_only_what_quickcheck_says_of_a_file_is_the_files_fault(status: int, reason: Reason) -> None:
    class Context:
        source = Path("source")

        async def run(self, stage: Stage) -> None:
            ended = PipelineResult((StageEnd(stage.name, status, ""),), 0.1)
            raise PipelineFailed(explain(stage.name, status, "", reads_source=True), ended)

    with pytest.raises(StepFailed) as caught:
        await refuse_truncated(Context())  # type: ignore[arg-type]  # all that it asks of one
    assert caught.value.failure.reason is reason
