"""What `observe` keeps to whatever it is shown: recorded statuses with fields missing, and strings nobody knows."""

from __future__ import annotations

import copy
import json
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import cache
from typing import Any
from unittest.mock import patch

import msgspec
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from headrace.domain.deployments import (
    JOB_ID_ANNOTATION,
    SEQUENCE_ANNOTATION,
    TENANT_ANNOTATION,
    Deployment,
    Gone,
    PodTrouble,
    Seen,
    sequence_of,
)
from headrace.domain.document import JobDocument
from headrace.domain.goals import Changed, NewRun
from headrace.domain.jobs import SETTLED, Desired, Diagnosis, Job, Phase, Transition
from headrace.domain.operations import KINDS, KindName, Operation, Step
from headrace.domain.pods import PodSeen
from headrace.domain.status import is_bad
from headrace.services.observe import Observe
from headrace.testing import InMemoryRuntime, InMemoryStore
from tests.support.given import JOB, NOW, OPERATION, runtimes_of
from tests.support.replay import RECORDINGS, events_of

GRACE_SECONDS = 60.0


@dataclass(frozen=True)
class Observed:
    """What one sight comes to, by the records that it leaves."""

    job: Job
    operation: Operation | None
    transition: Transition | None
    first: Transition | None


def observe(seen: Seen, job: Job, operation: Operation | None, *, grace_seconds: float) -> Observed:
    """Shows a document what was seen, as the sync does."""
    platform: Any = None  # a sight renders nothing
    observing = Observe(InMemoryStore(), runtimes_of(InMemoryRuntime()), platform, grace_seconds)
    document = JobDocument(job=job, open_operations=(operation,) if operation else ())
    what = ours(seen.what) if isinstance(seen.what, Deployment) else seen.what
    pods = [PodSeen("pod-1", "jobmanager", "Pending", False, 0, None, (), trouble=seen.trouble)] if seen.trouble else []
    with patch.object(Observe, "_pods", lambda *_: pods):
        after = observing.sight(document, what, seen.at).document
    left = after.operation(operation.id) if operation else None
    last, first = (after.history[-1], after.history[0]) if after.history else (None, None)
    return Observed(after.job, left, last, first)


def ours(what: Deployment) -> Deployment:
    """The same deployment with the annotations that say whose it is."""
    named = {JOB_ID_ANNOTATION: JOB.job_id, TENANT_ANNOTATION: JOB.tenant}
    annotations = {SEQUENCE_ANNOTATION: "1", **(what.metadata.annotations or {}), **named}
    return msgspec.structs.replace(what, metadata=msgspec.structs.replace(what.metadata, annotations=annotations))


STRINGS = (
    "metadata.deletionTimestamp",
    "spec.job.state",
    "status.lifecycleState",
    "status.error",
    "status.jobManagerDeploymentStatus",
    "status.jobStatus.state",
    "status.jobStatus.jobId",
    "status.jobStatus.startTime",
    "status.jobStatus.upgradeSavepointPath",
    "status.reconciliationStatus.state",
    "status.reconciliationStatus.lastReconciledSpec",
)
PARTS = ("metadata.annotations", "spec", "spec.job", "status", "status.jobStatus", "status.reconciliationStatus")
NUMBERS = ("metadata.generation", "spec.job.parallelism", "status.observedGeneration")
json_text = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["type", "message", "throwableList", "spec", "job", "state"]), inner)
    ),
    max_leaves=8,
).map(json.dumps)
words = st.text(max_size=20) | json_text | st.sampled_from(["RUNNING", "FAILED", "suspended", "UPGRADING", "CANCELED"])
seconds = st.integers(0, 10**8).map(lambda n: NOW + timedelta(seconds=n))


@cache
def recorded() -> list[dict[str, Any]]:
    """Every version of every recorded deployment, as far as it is read."""
    events = [event for recording in RECORDINGS for event in events_of(recording)]
    seen = [msgspec.convert(event.whole, Deployment) for event in events if event.resource == "flinkdeployments"]
    return [msgspec.to_builtins(deployment) for deployment in seen]


def put(whole: dict[str, Any], path: str, value: Any) -> None:
    """Sets what is at `path`, or drops it where the value is None; where its parent is missing nothing happens."""
    *parents, name = path.split(".")
    for parent in parents:
        whole = whole.get(parent) or {}
    whole.pop(name, None)
    if value is not None:
        whole[name] = value


@st.composite
def deployments(draw: st.DrawFn) -> Deployment:
    whole = copy.deepcopy(draw(st.sampled_from(recorded())))
    for path in draw(st.lists(st.sampled_from(PARTS + STRINGS + NUMBERS), max_size=3)):
        put(whole, path, None)
    for path in draw(st.lists(st.sampled_from(STRINGS), max_size=3)):
        put(whole, path, draw(words))
    for path in draw(st.lists(st.sampled_from(NUMBERS), max_size=2)):
        put(whole, path, draw(st.integers(0, 20)))
    if draw(st.booleans()):
        whole["metadata"]["annotations"] = {SEQUENCE_ANNOTATION: draw(words | st.integers().map(str))}
    return msgspec.convert(whole, Deployment)


reasons = st.text(max_size=5) | st.sampled_from(["OOMKilled", "Unschedulable", "ErrImagePull", "CrashLoopBackOff"])
troubles = st.none() | st.builds(PodTrouble, st.just("pod-1"), reasons, st.text(max_size=5))
sights = st.builds(Seen, deployments() | st.builds(Gone), seconds, troubles)
diagnoses = st.builds(
    Diagnosis,
    of=st.sampled_from(["", "FAILED", "RESTARTING", "STARTING container"]),
    at=seconds,
    cause=st.sampled_from(["", "a cause"]),
    next_step=st.just("a step"),
)
jobs = st.builds(
    replace,
    st.just(JOB),
    desired=st.sampled_from(Desired),
    phase=st.sampled_from(Phase),
    deployment_uid=st.sampled_from([None, "uid-1"]),
    was_running=st.booleans(),
    trouble_since=st.none() | seconds,
    ran_since_state=st.booleans(),
    state_path=st.sampled_from([None, "file:/state/savepoint-1"]),
    is_gapped=st.booleans(),
    reason=st.sampled_from(["", "a reason"]),
    diagnosis=st.none() | diagnoses,
)
operations = st.builds(
    replace,
    st.just(OPERATION),
    kind=st.sampled_from(KindName),
    step=st.sampled_from(Step),
    sequence=st.integers(1, 3),
    generation=st.none() | st.integers(1, 12),
    trouble_since=st.none() | seconds,
    savepoint_path=st.sampled_from([None, "file:/state/chk-1"]),
    spent_seconds=st.sampled_from([0.0, 2e9]),
    looked_at=st.none() | seconds,
)


@settings(max_examples=300)
@given(sights, jobs, st.none() | operations)
def test_anything_that_is_seen_gives_one_phase_and_the_same_one_again(
    seen: Seen, job: Job, operation: Operation | None
) -> None:
    observed = observe(seen, job, operation, grace_seconds=GRACE_SECONDS)
    assert observed == observe(seen, job, operation, grace_seconds=GRACE_SECONDS)
    assert (observed.transition is None) == (observed.job.phase is job.phase)
    assert (observed.operation is None) == (operation is None)
    ended = observed.operation is not None and not observed.operation.is_open
    assert not ended or observed.operation.reason


@settings(max_examples=300)
@given(deployments(), seconds, troubles, jobs, diagnoses)
def test_what_was_found_out_stays_and_is_told_of_a_bad_job_alone(
    what: Deployment, at: datetime, trouble: PodTrouble | None, job: Job, known: Diagnosis
) -> None:
    seen = Seen(what, at, trouble)
    once = observe(seen, replace(job, diagnosis=known), None, grace_seconds=GRACE_SECONDS).job
    again = observe(seen, once, None, grace_seconds=GRACE_SECONDS).job
    assert once.diagnosis in (known, replace(known, of=""))
    if again.phase is once.phase:
        assert (again.reason, again.next_step, again.diagnosis) == (once.reason, once.next_step, once.diagnosis)
    assert once.reason != "a cause" or is_bad(once.phase, what, trouble)


@given(deployments(), jobs, operations)
def test_a_stop_shows_cancelling_until_it_ends_or_is_taken_back(
    what: Deployment, job: Job, operation: Operation
) -> None:
    stop = replace(operation, kind=KindName.STOP)
    assume(job.phase not in SETTLED)
    observed = observe(Seen(what, NOW), job, stop, grace_seconds=GRACE_SECONDS)
    assert observed.operation is not None
    going_on = observed.operation.is_open and observed.operation.step is not Step.WITHDRAW
    assert not going_on or observed.job.phase is Phase.CANCELLING


def waits_for_running(operation: Operation) -> bool:
    """Whether its goal is a run or a change of one: no plan takes another to AWAIT_RUNNING."""
    return isinstance(KINDS[operation.kind].goal(operation), NewRun | Changed)


@settings(max_examples=300)
@given(deployments(), jobs, operations, troubles)
def test_no_settled_phase_shows_while_an_operation_waits_for_running(
    what: Deployment, job: Job, operation: Operation, trouble: PodTrouble | None
) -> None:
    generation = min(operation.generation or 1, what.metadata.generation or 1)
    first = what.status is None or not what.status.observed_generation
    kind = KindName.SUBMIT if first or not waits_for_running(operation) else operation.kind
    written = replace(operation, kind=kind, generation=generation, step=Step.AWAIT_RUNNING)
    written = replace(written, sequence=sequence_of(ours(what)))
    job = replace(job, phase=Phase.STARTING)
    observed = observe(Seen(what, NOW, trouble), job, written, grace_seconds=GRACE_SECONDS)
    assert observed.operation is not None
    going_on = observed.operation.is_open and observed.operation.step is Step.AWAIT_RUNNING
    assert not going_on or observed.job.phase not in SETTLED


@given(sights, jobs, st.none() | operations, st.integers(0, 10**8))
def test_a_job_that_ran_never_fails_by_time(seen: Seen, job: Job, operation: Operation | None, later: int) -> None:
    job = replace(job, phase=Phase.RUNNING, was_running=True)
    status = seen.what.status if isinstance(seen.what, Deployment) else None
    flink_state = status.job_status.state if status is not None and status.job_status is not None else None
    assume(status is None or "FAILED" not in (status.lifecycle_state, flink_state))
    late = replace(seen, at=seen.at + timedelta(seconds=later))
    assert observe(late, job, operation, grace_seconds=GRACE_SECONDS).job.phase is not Phase.FAILED


@pytest.mark.parametrize(
    "error", ["[" * 100_000, '{"throwableList": 5}', '{"throwableList": {"a": 1}}', "{", "5", "\0"]
)
def test_an_error_that_is_no_report_is_words(error: str) -> None:
    whole = copy.deepcopy(recorded()[10])
    put(whole, "status.error", error)
    put(whole, "status.reconciliationStatus.lastReconciledSpec", error)
    put(whole, "spec.job.state", "suspended")
    assert observe(Seen(msgspec.convert(whole, Deployment), NOW), JOB, None, grace_seconds=GRACE_SECONDS).job.phase


@pytest.mark.parametrize("text", ["²", "9" * 5000, "", "-1", "1.0", "٣"])
def test_a_sequence_that_is_no_number_is_none(text: str) -> None:
    whole = copy.deepcopy(recorded()[10])
    whole["metadata"]["annotations"] = {SEQUENCE_ANNOTATION: text}
    assert sequence_of(msgspec.convert(whole, Deployment)) == 0


def shown(lifecycle: str, job_manager: str, flink: str | None, **more: Any) -> Seen:
    """A deployment at generation 2, observed, a minute after NOW."""
    status = {"observedGeneration": 2, "lifecycleState": lifecycle, "jobManagerDeploymentStatus": job_manager}
    status |= more.pop("status", {})
    whole = {"metadata": {"generation": 2}, "spec": {"job": {"state": more.pop("state", "running")}}}
    job_status = {"jobStatus": {"state": flink, **more}} if flink else {}
    what = msgspec.convert({**whole, "status": status | job_status}, Deployment)
    return Seen(what, NOW + timedelta(minutes=1))


JOB_NOT_FOUND = {"error": "Job Not Found"}
REMAINS = [
    shown("STABLE", "READY", "RECONCILING", status=JOB_NOT_FOUND),
    shown("STABLE", "DEPLOYING", "RECONCILING", status=JOB_NOT_FOUND),
    shown("STABLE", "MISSING", "RECONCILING"),
    shown("STABLE", "READY", "CREATED"),
    shown("DEPLOYED", "DEPLOYED_NOT_READY", "RECONCILING"),
    shown("DEPLOYED", "ERROR", "RECONCILING"),
    shown("UPGRADING", "MISSING", "FINISHED"),
    shown("FAILED", "MISSING", "FAILED"),
    shown("SUSPENDED", "READY", "FINISHED", state="suspended"),
    shown("DELETING", "MISSING", None),
    Seen(Gone(), NOW),
]


@pytest.mark.parametrize("operation", [None, replace(OPERATION, kind=KindName.STOP, step=Step.DELETE, generation=2)])
@pytest.mark.parametrize("phase", sorted(SETTLED))
@pytest.mark.parametrize("seen", REMAINS)
def test_a_settled_phase_stays_whatever_becomes_of_what_the_run_left(
    seen: Seen, phase: Phase, operation: Operation | None
) -> None:
    """Its JobManager goes, or comes back and does not know the job (FLINK-37320, FLINK-38290), or is removed."""
    settled = replace(JOB, phase=phase, was_running=True, deployment_uid="u", reason="why", next_step="what to do")
    after = observe(seen, settled, operation, grace_seconds=GRACE_SECONDS).job
    assert after.phase is phase
    if phase is not Phase.FAILED:  # what it FAILED of may be told anew
        assert (after.reason, after.next_step) == ("why", "what to do")


@pytest.mark.parametrize("phase", sorted(SETTLED))
def test_a_job_that_is_seen_running_again_is_running(phase: Phase) -> None:
    settled = replace(JOB, phase=phase, reason="the image cannot be pulled", next_step="check image")
    after = observe(shown("STABLE", "READY", "RUNNING"), settled, None, grace_seconds=GRACE_SECONDS).job
    assert (after.phase, after.reason, after.next_step) == (Phase.RUNNING, "", "")


def test_what_a_job_failed_of_stays_its_reason_while_its_remains_do_something_else() -> None:
    failed = replace(JOB, phase=Phase.FAILED, was_running=True, reason="ValueError: boom", next_step="mend it")
    lost = PodTrouble("j-1", "Unschedulable", "0/1 nodes are available")
    seen = replace(shown("DEPLOYED", "DEPLOYING", "RECONCILING"), trouble=lost)
    after = observe(seen, failed, None, grace_seconds=GRACE_SECONDS).job
    assert (after.phase, after.reason, after.next_step) == (Phase.FAILED, "ValueError: boom", "mend it")


GIVEN_BY_AN_END = (
    *((KindName.DELETE, Phase.DELETED), (KindName.UNDELETE, Phase.CANCELLED)),
    *((KindName.ADOPT, Phase.REJECTED), (KindName.RELEASE, Phase.RELEASED)),
)
"""That a job is deleted, back, released, or was not adopted, no sight can show."""


@settings(max_examples=150, deadline=None)
@given(st.lists(st.tuples(sights, st.none() | operations), min_size=1, max_size=12), jobs)
def test_once_settled_only_flinks_word_that_it_ran_leaves_it(
    looks: list[tuple[Seen, Operation | None]], job: Job
) -> None:
    """Another run begins by a write of Execute, not by what is seen."""
    for seen, operation in looks:
        observed = observe(seen, job, operation, grace_seconds=GRACE_SECONDS)
        before, job = job, observed.job
        left_for = observed.first.to_phase if before.phase in SETTLED and observed.first is not None else None
        if operation is not None and (operation.kind, left_for) in GIVEN_BY_AN_END:
            continue
        if before.phase is Phase.DELETED and left_for is Phase.CANCELLED:
            continue  # stopped since another run of it was asked for, or since somebody restored it
        assert left_for in (None, Phase.RUNNING) or (before.phase, left_for) == (Phase.FAILED, Phase.FINISHED)
        status = seen.what.status if isinstance(seen.what, Deployment) else None
        flink_state = status.job_status.state if status is not None and status.job_status is not None else None
        assert left_for is None or flink_state == left_for


def test_a_failed_job_that_ran_to_its_end_between_two_sights_is_finished() -> None:
    failed = replace(JOB, phase=Phase.FAILED, reason="its script is missing")
    ended = observe(shown("STABLE", "READY", "FINISHED"), failed, None, grace_seconds=GRACE_SECONDS).job
    assert (ended.phase, ended.reason) == (Phase.FINISHED, "")


@pytest.mark.parametrize("lifecycle", ["UPGRADING", "DEPLOYED", "FAILED"])
def test_a_failed_job_whose_remains_read_finished_on_the_way_to_something_else_stays_failed(lifecycle: str) -> None:
    failed = replace(JOB, phase=Phase.FAILED, reason="its script is missing")
    assert observe(shown(lifecycle, "MISSING", "FINISHED"), failed, None, grace_seconds=GRACE_SECONDS).job.phase is (
        Phase.FAILED
    )


def test_a_scale_that_is_observed_is_not_yet_running() -> None:
    scale = replace(OPERATION, kind=KindName.SCALE, step=Step.AWAIT_RUNNING, generation=2)
    ran = replace(JOB, phase=Phase.SCALING, was_running=True)
    early = observe(shown("DEPLOYED", "READY", "RUNNING"), ran, scale, grace_seconds=GRACE_SECONDS)
    assert early.job.phase is Phase.SCALING
    assert early.operation is not None
    assert early.operation.is_open


@pytest.mark.parametrize("path", [None, "file:/old", "KUBERNETES_OPERATOR_LAST_STATE", "file:/new"])
def test_a_stop_takes_only_a_path_that_has_changed(path: str | None) -> None:
    stop = replace(OPERATION, kind=KindName.STOP, step=Step.AWAIT_SUSPENDED, generation=2, savepoint_before="file:/old")
    seen = shown("SUSPENDED", "READY", "FINISHED", state="suspended", upgradeSavepointPath=path)
    ran = replace(JOB, was_running=True, ran_since_state=True, state_path="file:/older", upgrade_path="file:/old")
    after = observe(seen, ran, stop, grace_seconds=GRACE_SECONDS).operation
    assert after is not None
    assert (after.step is Step.DELETE, after.savepoint_path) == ((True, path) if path == "file:/new" else (False, None))
    assert after.is_open or "nothing was deleted" in after.reason
