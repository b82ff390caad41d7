"""Which phase may follow which in a history, and which operation a job may take in which phase: both by hand."""

from __future__ import annotations

from dataclasses import replace

import pytest

from headrace.domain.jobs import SETTLED, Phase
from headrace.domain.lifecycle import as_accepted, may_show_another_run, of_new_run, refusal
from headrace.domain.operations import Kind, Operation, State, Step, supersedes
from tests.unit.replay import KEY, RECORDINGS, Replay
from tests.unit.test_observe import JOB, OPERATION

UP = {Phase.RUNNING, Phase.RESTARTING, Phase.UPGRADING, Phase.SCALING, Phase.SUSPENDED}
"""Phases between which a job that ran once goes to and fro. None of them leads back to STARTING."""

ENDS = {Phase.FINISHED, Phase.FAILED, Phase.CANCELLING, Phase.DELETING}

MAY_FOLLOW = {
    Phase.REQUESTED: {Phase.SUBMITTING, Phase.RUNNING},  # RUNNING: where nobody looked before
    Phase.SUBMITTING: {Phase.STARTING, Phase.REJECTED} | ENDS,
    Phase.STARTING: {Phase.RUNNING} | ENDS,
    **{phase: UP - {phase} | ENDS for phase in UP},
    Phase.CANCELLING: {Phase.CANCELLED} | UP,  # UP: where the STOP failed, and was taken back
    Phase.DELETING: {Phase.CANCELLED, Phase.DELETED},
    **{phase: {Phase.REQUESTED, Phase.RUNNING} for phase in SETTLED},
}

GOING_ON = sorted(set(Phase) - SETTLED - {Phase.REQUESTED})
SCALE, STOP = replace(OPERATION, kind=Kind.SCALE), replace(OPERATION, kind=Kind.STOP)


@pytest.mark.parametrize("recording", RECORDINGS)
def test_a_history_is_a_path_through_the_phases(recording: str) -> None:
    transitions = Replay(recording).run().world.store.transitions_of(KEY)
    strange = [(t.from_phase, t.to_phase) for t in transitions if t.to_phase not in MAY_FOLLOW[t.from_phase]]
    assert strange == []
    assert [t.from_phase for t in transitions[1:]] == [t.to_phase for t in transitions[:-1]]


@pytest.mark.parametrize("phase", sorted({*SETTLED, Phase.REQUESTED}))
def test_a_submit_begins_another_run_of_a_settled_job(phase: Phase) -> None:
    assert refusal(Kind.SUBMIT, replace(JOB, phase=phase), []) is None


def test_what_is_shown_of_an_accepted_run_is_what_it_begins_with() -> None:
    request = {"type": "PYTHON_SCRIPT", "parallelism": 2, "labels": {"team": "a"}}
    accepted = replace(OPERATION, sequence=5, arguments={"request": request, "start_from": "last"})
    ended = replace(JOB, phase=Phase.FAILED, run=1, applied_sequence=3, last_sequence=5, savepoint_path="file:/s")
    assert may_show_another_run(ended)
    shown = as_accepted(ended, [accepted])
    assert shown == of_new_run(ended, accepted, accepted.accepted_at)
    assert (shown.phase, shown.run, shown.start_from, shown.labels) == (Phase.REQUESTED, 2, "file:/s", {"team": "a"})
    begun = replace(ended, applied_sequence=5)
    assert not may_show_another_run(begun)
    for job, open_operations in ((ended, []), (ended, [accepted, STOP]), (begun, [accepted]), (ended, [SCALE])):
        assert as_accepted(job, open_operations) == job


@pytest.mark.parametrize("phase", GOING_ON)
def test_a_submit_names_what_to_do_with_a_job_that_goes_on(phase: Phase) -> None:
    words = refusal(Kind.SUBMIT, replace(JOB, phase=phase), [])
    assert words is not None
    assert phase in words
    assert ("RESUME" if phase is Phase.SUSPENDED else "send STOP first") in words


@pytest.mark.parametrize("phase", GOING_ON)
@pytest.mark.parametrize("kind", [Kind.STOP, Kind.SCALE])
def test_a_job_that_goes_on_may_be_stopped_and_scaled(kind: Kind, phase: Phase) -> None:
    assert refusal(kind, replace(JOB, phase=phase), []) is None


@pytest.mark.parametrize("phase", sorted(SETTLED))
def test_a_settled_job_is_stopped_only_for_what_it_left(phase: Phase) -> None:
    words = refusal(Kind.STOP, replace(JOB, phase=phase), [])
    assert (words is None) == (phase in (Phase.FAILED, Phase.REJECTED))
    assert words is None or str(phase) in words


@pytest.mark.parametrize("phase", sorted(SETTLED))
def test_a_settled_job_is_not_scaled(phase: Phase) -> None:
    assert f"it is {phase}" in (refusal(Kind.SCALE, replace(JOB, phase=phase), []) or "")


@pytest.mark.parametrize(
    ("kind", "open_operation", "words"),
    [
        (Kind.SUBMIT, OPERATION, "while SUBMIT is open"),
        (Kind.SUBMIT, STOP, "while STOP is open"),
        (Kind.STOP, STOP, "a STOP is open already"),
        (Kind.SCALE, STOP, "while a STOP is open"),
        (Kind.STOP, OPERATION, None),
        (Kind.STOP, SCALE, None),
        (Kind.SCALE, OPERATION, None),
        (Kind.SCALE, SCALE, None),
    ],
)
def test_beside_an_open_operation(kind: Kind, open_operation: Operation, words: str | None) -> None:
    refused = refusal(kind, replace(JOB, phase=Phase.RUNNING), [open_operation])
    assert (refused is None) == (words is None)
    assert (words or "") in (refused or "")


@pytest.mark.parametrize("state", [State.ACCEPTED, State.RUNNING])
@pytest.mark.parametrize("kind", list(Kind))
def test_superseding_is_a_closed_table(kind: Kind, state: State) -> None:
    begun = replace(OPERATION, kind=kind, state=state, step=Step.AWAIT_RUNNING, generation=1)
    waiting = replace(OPERATION, kind=kind, state=state)
    assert supersedes(Kind.STOP, begun)
    assert supersedes(Kind.STOP, waiting)
    assert supersedes(Kind.SCALE, waiting) == (kind is Kind.SCALE)
    assert not supersedes(Kind.SCALE, begun)
    assert not any(supersedes(Kind.SUBMIT, each) for each in (begun, waiting))
