"""What the demo says when it fails: the job at fault first, with its reason and the next step; a process only where one
is at fault."""

from __future__ import annotations

from typing import Any

import pytest

from local.demo import failure_words, process_at_fault, state_of


def job(**facts: Any) -> dict[str, Any]:
    return {"phase": "RUNNING", "reason": "", "next_step": "", "observation": "FRESH", **facts}


def test_a_job_that_cannot_start_is_named_first_with_its_reason_and_next_step() -> None:
    failed = job(phase="FAILED", reason="NameError: x (job.py, line 3)", next_step="mend it")
    words = failure_words("orders", failed, "waited 150 s for orders to be RUNNING").splitlines()
    assert words == [
        "job orders is FAILED: NameError: x (job.py, line 3)",
        "next step: mend it",
        "waited 150 s for orders to be RUNNING",
    ]
    assert process_at_fault(failed, "worker") is None


@pytest.mark.parametrize(
    ("record", "process"),
    [
        (None, "consumer"),
        (job(phase="REQUESTED"), "worker"),
        (job(observation="UNREACHABLE"), "sync"),
        (job(phase="STARTING"), "flink-operator"),
        (job(phase="STARTING", reason="waiting for slots"), None),
        (job(), None),
    ],
)
def test_a_process_is_named_only_where_the_record_blames_no_job(record: dict[str, Any] | None, process: str) -> None:
    assert process_at_fault(record, "consumer") == process


def test_a_job_without_a_record_says_so() -> None:
    assert state_of(None) == "no record yet"
    assert failure_words("orders", None, "") == "job orders: no record yet"
