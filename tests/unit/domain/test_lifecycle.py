"""Which phase may follow which in a history, and which operation a job may take in which phase: both by hand."""

from __future__ import annotations

from dataclasses import replace

import pytest

from headrace.domain.document import JobDocument
from headrace.domain.jobs import SETTLED, Job, Phase
from headrace.domain.operations import KINDS, KindName, Operation, State, Step
from tests.support.given import JOB, OPERATION
from tests.support.replay import KEY, RECORDINGS, Replay

UP = {Phase.RUNNING, Phase.RESTARTING, Phase.UPGRADING, Phase.SCALING, Phase.SUSPENDED}
"""Phases between which a job that ran once goes to and fro. To STARTING only a job comes back that rested."""

ENDS = {Phase.FINISHED, Phase.FAILED, Phase.CANCELLING, Phase.DELETING}

MAY_FOLLOW = {
    Phase.REQUESTED: {Phase.SUBMITTING, Phase.RUNNING},  # RUNNING: where nobody looked before
    Phase.SUBMITTING: {Phase.STARTING, Phase.REJECTED} | ENDS,
    Phase.STARTING: {Phase.RUNNING} | ENDS,
    **{phase: {*UP, Phase.SUSPENDING} - {phase} | ENDS for phase in UP},
    Phase.SUSPENDED: {*UP, Phase.STARTING} - {Phase.SUSPENDED} | ENDS,
    Phase.SUSPENDING: UP | ENDS,  # UP: where the SUSPEND failed, and was taken back
    Phase.CANCELLING: {Phase.CANCELLED} | UP,  # UP: where the STOP failed, and was taken back
    Phase.DELETING: {Phase.CANCELLED, Phase.DELETED},
    **{phase: {Phase.REQUESTED, Phase.RUNNING} for phase in SETTLED},
}

GOING_ON = sorted(set(Phase) - SETTLED - {Phase.REQUESTED})
SCALE, STOP = replace(OPERATION, kind=KindName.SCALE), replace(OPERATION, kind=KindName.STOP)


def refusal(kind: KindName, job: Job, open_operations: list[Operation]) -> str | None:
    document = JobDocument(job=job, open_operations=tuple(open_operations))
    return KINDS[kind].refusal(document.expected(job.job_id))


def supersedes(later: KindName, earlier: Operation) -> bool:
    return KINDS[later].supersedes(earlier)


@pytest.mark.parametrize("recording", RECORDINGS)
def test_a_history_is_a_path_through_the_phases(recording: str) -> None:
    transitions = Replay(recording).run().world.services.records.transitions_of(KEY)
    strange = [(t.from_phase, t.to_phase) for t in transitions if t.to_phase not in MAY_FOLLOW[t.from_phase]]
    assert strange == []
    assert [t.from_phase for t in transitions[1:]] == [t.to_phase for t in transitions[:-1]]


@pytest.mark.parametrize("phase", sorted({*SETTLED, Phase.REQUESTED}))
def test_a_submit_begins_another_run_of_a_settled_job(phase: Phase) -> None:
    assert refusal(KindName.SUBMIT, replace(JOB, phase=phase), []) is None


@pytest.mark.parametrize("phase", GOING_ON)
def test_a_submit_names_what_to_do_with_a_job_that_goes_on(phase: Phase) -> None:
    words = refusal(KindName.SUBMIT, replace(JOB, phase=phase), [])
    assert words is not None
    assert phase in words
    assert ("RESUME" if phase is Phase.SUSPENDED else "send STOP first") in words


@pytest.mark.parametrize("phase", GOING_ON)
@pytest.mark.parametrize("kind", [KindName.STOP, KindName.SCALE])
def test_a_job_that_goes_on_may_be_stopped_and_scaled(kind: KindName, phase: Phase) -> None:
    words = refusal(kind, replace(JOB, phase=phase), [])
    suspended = kind is KindName.SCALE and phase is Phase.SUSPENDED
    assert words is None if not suspended else "RESUME it first" in (words or "")


@pytest.mark.parametrize("phase", sorted(SETTLED))
def test_a_settled_job_is_stopped_until_its_deployment_was_seen_gone(phase: Phase) -> None:
    assert refusal(KindName.STOP, replace(JOB, phase=phase, is_gone=False), []) is None
    assert f"it is {phase}" in (refusal(KindName.STOP, replace(JOB, phase=phase, is_gone=True), []) or "")


@pytest.mark.parametrize("phase", sorted(SETTLED))
def test_a_settled_job_is_not_scaled(phase: Phase) -> None:
    assert f"it is {phase}" in (refusal(KindName.SCALE, replace(JOB, phase=phase), []) or "")


@pytest.mark.parametrize(
    ("kind", "open_operation", "words"),
    [
        (KindName.SUBMIT, OPERATION, "while SUBMIT is open"),
        (KindName.SUBMIT, STOP, None),
        (KindName.STOP, STOP, "a STOP is open already"),
        (KindName.SCALE, STOP, "while a STOP is open"),
        (KindName.STOP, OPERATION, None),
        (KindName.STOP, SCALE, None),
        (KindName.SCALE, OPERATION, None),
        (KindName.SCALE, SCALE, None),
    ],
)
def test_beside_an_open_operation(kind: KindName, open_operation: Operation, words: str | None) -> None:
    refused = refusal(kind, replace(JOB, phase=Phase.RUNNING), [open_operation])
    assert (refused is None) == (words is None)
    assert (words or "") in (refused or "")


@pytest.mark.parametrize("state", [State.ACCEPTED, State.RUNNING])
@pytest.mark.parametrize("kind", list(KindName))
def test_superseding_is_a_closed_table(kind: KindName, state: State) -> None:
    begun = replace(OPERATION, kind=kind, state=state, step=Step.AWAIT_RUNNING, generation=1)
    waiting = replace(OPERATION, kind=kind, state=state)
    assert supersedes(KindName.STOP, begun)
    assert supersedes(KindName.STOP, waiting)
    assert supersedes(KindName.SCALE, waiting) == (kind is KindName.SCALE)
    assert not supersedes(KindName.SCALE, begun)
    assert not any(supersedes(KindName.SUBMIT, each) for each in (begun, waiting))
