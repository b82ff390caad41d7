"""From what is seen of a deployment to a job's phase and its operation's progress. Pure: one table, first match wins.

The order of the rules was tried on every event that a real operator gave (tests/data/recordings); other orders
show settled phases in the middle of a rescale. docs/architecture.md has the same table in words.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from headrace.domain.deployments import (
    ENDED_IN_FLINK,
    TRIGGER_NONCE,
    Deployment,
    Gone,
    JobStatus,
    PodTrouble,
    Seen,
    Spec,
    Status,
    has_ended,
    is_behind,
    is_suspended,
    keeps_failing,
    sequence_of,
)
from headrace.domain.failures import Evidence, Explanation, explain
from headrace.domain.jobs import NATIVE, NOTHING_RUNS, SETTLED, Diagnosis, Job, Observation, Phase
from headrace.domain.operations import KINDS, Operation, Step
from headrace.domain.state_on_hand import LAST_STATE
from headrace.domain.vertices import OVERRIDES_KEY, overrides_of
from headrace.domain.waiting import told as told_waiting

REFUSED_SUFFIX = "ValidationException"
UPGRADE_FAILURE_SUFFIX = "UpgradeFailureException"
START_FAILURE_SUFFIX = "DeploymentFailedException"
"""What the operator calls a JobManager's pod that does not start, whatever the kubelet's reason."""

STARTED = ("DEPLOYED_NOT_READY", "READY")
"""What it says of a JobManager whose pod runs."""

PARALLELISM, REPLICAS = ("spec", "job", "parallelism"), ("spec", "taskManager", "replicas")
OVERRIDES = ("spec", "flinkConfiguration", OVERRIDES_KEY)
JOB_STATE, RESTART_NONCE = ("spec", "job", "state"), ("spec", "restartNonce")
REDEPLOY_NONCE = ("spec", "job", "savepointRedeployNonce")
SAVEPOINT_NONCE = ("spec", "job", TRIGGER_NONCE)

READ: Mapping[tuple[str, ...], Callable[[Spec], int | str | None]] = {
    PARALLELISM: lambda spec: spec.job.parallelism if spec.job else None,
    REPLICAS: lambda spec: spec.task_manager.replicas if spec.task_manager else None,
    OVERRIDES: lambda spec: spec.flink_configuration.overrides if spec.flink_configuration else None,
    JOB_STATE: lambda spec: spec.job.state if spec.job else None,
    RESTART_NONCE: lambda spec: spec.restart_nonce,
    REDEPLOY_NONCE: lambda spec: spec.job.savepoint_redeploy_nonce if spec.job else None,
    SAVEPOINT_NONCE: lambda spec: spec.job.savepoint_trigger_nonce if spec.job else None,
}
"""Fields of a spec that every sight shows."""

NOT_WRITTEN = (Step.BEGIN, Step.CLEAR, Step.CREATE, Step.CLAIM, Step.LET_GO)
"""Steps at which an operation may not have changed its deployment yet."""

WRITTEN = (Step.AWAIT_RUNNING, Step.AWAIT_SUSPENDED, Step.AWAIT_SAVEPOINT)
"""Steps that follow a write of the spec."""

MADE_NOTHING = (Step.BEGIN, Step.CLEAR, Step.LET_GO)
"""Steps of an operation that has made nothing of its own."""

NO_OPERATOR_AFTER, NO_LAUNCHER_AFTER = timedelta(seconds=30), timedelta(seconds=90)
"""Without a sign of who makes a cluster: Flink's command line takes many seconds, and waits its turn."""

LOOKED_INTO = frozenset({Phase.FAILED, Phase.REJECTED, Phase.RESTARTING})
"""Phases whose reason is what a diagnosis found, where it found something."""

HELD_UP = frozenset({Phase.STARTING, Phase.SCALING, Phase.UPGRADING, Phase.ROLLING_BACK})
"""Phases on the way to RUNNING, which a job that fails at once each time never gets to."""

NOTHING_TO_SAY = Explanation("", "")
SEE_FOR_YOURSELF = "`headrace logs` and `headrace events` may say why"


@dataclass(frozen=True)
class StatusError:
    """status.error, read defensively: its exception's class (empty for plain text) and its words."""

    type: str
    message: str


@dataclass(frozen=True)
class _Case:
    """All that the rules look at. `operation` is None where the operator has refused the open one."""

    deployment: Deployment
    status: Status
    job: Job
    operation: Operation | None
    seen: Seen
    grace_seconds: float

    @property
    def flink(self) -> JobStatus:
        return self.status.job_status or JobStatus()

    @property
    def lifecycle(self) -> str:
        return self.status.lifecycle_state or ""

    @property
    def spec_state(self) -> str:
        return (self.deployment.spec.job.state if self.deployment.spec.job else None) or "running"


def error_of(status: Status | None) -> StatusError | None:
    """The operator's error in words, its root cause last; None where there is none."""
    text = status.error if status else None
    if not text:
        return None
    try:
        content: Any = json.loads(text)
    except (ValueError, RecursionError):
        return StatusError("", text.strip())
    if not isinstance(content, dict):
        return StatusError("", text.strip())
    return StatusError(str(content.get("type") or ""), _words(content))


def _words(content: dict[str, Any]) -> str:
    parts = [str(content.get("message") or "")]
    causes = content.get("throwableList")
    for cause in causes if isinstance(causes, list) else []:
        message = str(cause.get("message") or "") if isinstance(cause, dict) else ""
        if message and not any(message in part for part in parts):
            parts.append(message)
    return " <- ".join(part for part in parts if part)[:2000]


def observe(seen: Seen, job: Job, operation: Operation | None, *, grace_seconds: float) -> Job:
    """What the job's record becomes, with its oldest open operation in mind. Never raises; idempotent."""
    if isinstance(seen.what, Gone):
        return _observe_gone(seen, job, operation)
    deployment = seen.what
    status = deployment.status or Status()
    refused = refusal_of(deployment, operation)
    case = _Case(deployment, status, job, None if refused else operation, seen, grace_seconds)
    begins = operation is not None and KINDS[operation.kind].begins_a_run
    phase, reason = _phase(case, rejected=refused if begins else None)
    return _remembered(case, phase, reason)


def refusal_of(deployment: Deployment, operation: Operation | None) -> str | None:
    """Rule d: what the operator's validation said of what the open operation wrote; None where it wrote no spec, or
    that was not refused."""
    error = error_of(deployment.status)
    if operation is None or error is None or not error.type.endswith(REFUSED_SUFFIX):
        return None
    if operation.generation is None or operation.step not in WRITTEN:
        return None  # what is refused is what somebody wrote before it
    if sequence_of(deployment) != operation.sequence:
        return None
    return error.message if is_behind(deployment, operation.generation) else None


# The table. Each rule gives a phase, or None where it does not apply.

_Rule = Callable[[_Case], Phase | None]


def _b_deleting(case: _Case) -> Phase | None:
    if case.deployment.metadata.deletion_timestamp is None and case.lifecycle != "DELETING":
        return None
    return _ruling(case) or Phase.DELETING


def _c_no_status(case: _Case) -> Phase | None:
    if case.status.lifecycle_state or case.status.job_status:
        return None
    return _ruling(case) or Phase.SUBMITTING


def _e_stopping(case: _Case) -> Phase | None:
    return _ruling(case)


def _f_suspended(case: _Case) -> Phase | None:
    return Phase.SUSPENDED if is_suspended(case.deployment) else None


def _g_behind(case: _Case) -> Phase | None:
    if not is_behind(case.deployment, case.deployment.metadata.generation) or not case.status.observed_generation:
        return None
    if case.operation is not None and _leaves_the_phase(case.operation) and _is_of_its_write(case, case.operation):
        return None
    return _of_open(case) or (Phase.UPGRADING if case.job.was_running else None)


def _is_of_its_write(case: _Case, operation: Operation) -> bool:
    """Whether the generation that the operator has not begun yet is the one that the operation wrote."""
    return operation.step in WRITTEN and operation.generation == case.deployment.metadata.generation


def _h_upgrading(case: _Case) -> Phase | None:
    if case.lifecycle == "ROLLING_BACK":
        return _of_open(case) or Phase.ROLLING_BACK
    if case.lifecycle != "UPGRADING":
        return None
    return _of_open(case) or (Phase.UPGRADING if case.job.was_running else Phase.STARTING)


def _i_failed(case: _Case) -> Phase | None:
    return Phase.FAILED if case.lifecycle == "FAILED" or case.flink.state == "FAILED" else None


def _j_cannot_start(case: _Case) -> Phase | None:
    if not has_trouble(case.status, case.seen):
        return None
    if case.job.was_running:
        return _of_open(case) or Phase.RESTARTING
    since = case.job.trouble_since or case.seen.at
    if case.seen.at - since >= timedelta(seconds=case.grace_seconds):
        return Phase.FAILED
    return None


def _k_ended(case: _Case) -> Phase | None:
    if case.flink.state == "FINISHED":
        return None if _waits_to_be_stable(case) else Phase.FINISHED
    if case.flink.state == "CANCELED" and case.spec_state == "running":
        return Phase.CANCELLED
    return None


def _waits_to_be_stable(case: _Case) -> bool:
    """Whether an operation is still open over a job that ended: no settled phase shows before the operation's end."""
    operation = case.operation
    if operation is None or operation.step is not Step.AWAIT_RUNNING:
        return False
    return not _is_reconciled(case.deployment, operation)


def _l_running(case: _Case) -> Phase | None:
    if case.flink.state != "RUNNING":
        return None
    if case.operation is not None and not _has_taken_effect(case, case.operation):
        return None
    return Phase.RUNNING


def _m_open(case: _Case) -> Phase | None:
    return _of_open(case)


def _n_was_running(case: _Case) -> Phase | None:
    return Phase.RESTARTING if case.job.was_running else None


def _o_starting(_case: _Case) -> Phase | None:
    return Phase.STARTING


RULES: tuple[_Rule, ...] = (
    _b_deleting,
    _c_no_status,
    _e_stopping,
    _f_suspended,
    _g_behind,
    _h_upgrading,
    _i_failed,
    _j_cannot_start,
    _k_ended,
    _l_running,
    _m_open,
    _n_was_running,
    _o_starting,
)


def _phase(case: _Case, rejected: str | None) -> tuple[Phase, Explanation]:
    """The phase and its reason. A settled one stays, with the reason that it had: whatever becomes of what the run
    has left, only the job being seen RUNNING says that it goes on after all; or, of one that failed, FINISHED."""
    if rejected:
        shown, reason = Phase.REJECTED, Explanation(rejected, "correct it in the template, and submit it again")
    else:
        shown = next(found for rule in RULES if (found := rule(case)) is not None)
        reason = _reason(case, shown)
    before = case.job
    ran_to_its_end = before.phase is Phase.FAILED and shown is Phase.FINISHED and case.lifecycle == "STABLE"
    if before.phase in SETTLED and shown not in (before.phase, Phase.RUNNING) and not ran_to_its_end:
        return before.phase, Explanation(before.reason, before.next_step)
    return shown, reason


def has_trouble(status: Status, seen: Seen) -> bool:
    """Rule j's sight: pods that cannot start, or the JobManager in ERROR, unless it is seen to run."""
    is_error = status.job_manager_deployment_status == "ERROR" and not seen.manager_is_up
    return is_error or seen.trouble is not None


def _has_taken_effect(case: _Case, operation: Operation) -> bool:
    """Whether what is seen RUNNING is what the operation wrote, and not still what ran before it."""
    if operation.step in NOT_WRITTEN:
        return not KINDS[operation.kind].begins_a_run or sequence_of(case.deployment) == operation.sequence
    if operation.step is Step.WITHDRAW or _leaves_the_phase(operation):
        return True
    if operation.step is Step.AWAIT_SUSPENDED or is_in_place(operation):
        return False  # STABLE comes before the job has rescaled
    return _is_reconciled(case.deployment, operation) and holds_what_it_asserts(case.deployment, operation)


def is_in_place(operation: Operation) -> bool:
    """Whether it changes the parallelism of vertices alone. One that takes overrides away redeploys."""
    return [(each.path, each.removed) for each in operation.asserts] == [(OVERRIDES, False)]


def holds_what_it_asserts(deployment: Deployment, operation: Operation) -> bool:
    """Whether the live spec holds what the operation asked for, whoever has edited it since. Of fields that are not
    read here that is known where the spec is the one that was seen to hold them."""
    if not asserts_what_is_read(operation):
        return deployment.metadata.generation == operation.generation
    return all(READ[each.path](deployment.spec) == each.value for each in operation.asserts)


def asserts_what_is_read(operation: Operation) -> bool:
    """Whether every sight shows what it asserts; else only who looks at the whole deployment can say."""
    return all(each.path in READ for each in operation.asserts)


def _is_reconciled(deployment: Deployment, operation: Operation) -> bool:
    status = deployment.status
    return status is not None and not is_behind(deployment, operation.generation) and status.lifecycle_state == "STABLE"


def _rules(operation: Operation | None) -> bool:
    return operation is not None and KINDS[operation.kind].rules_the_phase


def _leaves_the_phase(operation: Operation) -> bool:
    """Whether what it writes changes nothing of what runs."""
    return KINDS[operation.kind].phase is None


def _ruling(case: _Case) -> Phase | None:
    """The phase of an open operation that shows whatever is seen."""
    return KINDS[case.operation.kind].phase if case.operation is not None and _rules(case.operation) else None


def _of_open(case: _Case) -> Phase | None:
    """The phase of an open operation that has written; one that waits its turn shows nothing.

    The deployment may show the write before the operation's record does.
    """
    operation = case.operation
    if operation is None:
        return None
    if operation.step in MADE_NOTHING and sequence_of(case.deployment) != operation.sequence:
        return None
    return KINDS[operation.kind].phase


def _reason(case: _Case, phase: Phase) -> Explanation:
    """Words for a phase that somebody may wonder about; empty for the plain ones."""
    if phase is Phase.SUBMITTING:
        return _nobody_takes_it(case)
    if phase in (Phase.RUNNING, Phase.SUSPENDED, Phase.FINISHED, Phase.CANCELLED):
        return NOTHING_TO_SAY
    trouble, known = case.seen.trouble, case.job.diagnosis
    of_trouble = Evidence(trouble=trouble, deployment=case.job.deployment_name)
    told = explain(of_trouble) if trouble is not None else None
    if told is not None:
        return told
    if known is not None and known.holds(case.seen.at) and is_bad(phase, case.deployment, trouble):
        return Explanation(known.cause, known.next_step)
    if trouble is not None:
        return Explanation(f"pod {trouble.pod}: {trouble.reason} {trouble.message}".strip(), SEE_FOR_YOURSELF)
    words = telling_error(case.status, phase, case.seen.manager_is_up)
    if words:
        of_error = Evidence(error=words, deployment=case.job.deployment_name)
        return explain(of_error) or Explanation(words, SEE_FOR_YOURSELF)
    if phase is Phase.FAILED and case.job.phase is Phase.FAILED:
        return Explanation(case.job.reason, case.job.next_step)
    return told_waiting(case.job) if phase is case.job.phase else NOTHING_TO_SAY


def is_bad(phase: Phase, deployment: Deployment, trouble: PodTrouble | None) -> bool:
    """Whether somebody wants to know why: what was found out of the job is its reason then."""
    return phase in LOOKED_INTO or trouble is not None or (phase in HELD_UP and keeps_failing(deployment))


def standing_error(status: Status | None, manager_is_up: bool) -> StatusError | None:
    """The operator's error; None where it is about a pod that did not start, and the JobManager has started since: such
    a sentence stays in the status until the job is STABLE."""
    error = error_of(status)
    if status is None or error is None or not error.type.endswith(START_FAILURE_SUFFIX):
        return error
    return None if manager_is_up or status.job_manager_deployment_status in STARTED else error


def telling_error(status: Status | None, phase: Phase, manager_is_up: bool) -> str:
    """The operator's error, where it says something of this phase: it stays in the status after what it was about, and
    a JobManager that is READY says itself why its job restarts."""
    error = standing_error(status, manager_is_up)
    if status is None or error is None or error.message == "Job Not Found":
        return ""
    is_flinks = phase is Phase.RESTARTING and status.job_manager_deployment_status == "READY"
    return "" if is_flinks else error.message


def _nobody_takes_it(case: _Case) -> Explanation:
    """An operator writes a status at once: after a while without one, none looks at this namespace."""
    operation = case.operation
    if operation is None and case.job.phase is Phase.SUBMITTING:
        return Explanation(case.job.reason, case.job.next_step)
    written = operation.updated_at if operation is not None and operation.step is Step.AWAIT_RUNNING else None
    is_native = case.job.runtime == NATIVE
    if written is None or case.seen.at - written < (NO_LAUNCHER_AFTER if is_native else NO_OPERATOR_AFTER):
        return NOTHING_TO_SAY
    if is_native:
        return Explanation(
            f"no worker has started it within {NO_LAUNCHER_AFTER.total_seconds():.0f} s",
            "see that a worker with a FLINK_HOME takes the queue flink.launches, and what it logs",
        )
    return Explanation(
        f"no operator has taken it within {NO_OPERATOR_AFTER.total_seconds():.0f} s",
        f"see that a Flink Kubernetes Operator runs and watches namespace {case.job.namespace} (watchNamespaces)",
    )


def _remembered(case: _Case, phase: Phase, reason: Explanation) -> Job:
    """The job's record after this sight, with what later sights will need of it."""
    deployment, status, job = case.deployment, case.status, case.job
    trouble = has_trouble(status, case.seen)
    error = standing_error(status, case.seen.manager_is_up)
    return replace(
        job,
        phase=phase,
        phase_since=(job.phase_since if phase is job.phase else None) or case.seen.at,
        waiting=job.waiting if phase is job.phase else None,
        reason=reason.cause,
        next_step=reason.next_step,
        diagnosis=_diagnosis(case, phase),
        observation=Observation.FRESH,
        observed_at=case.seen.at,
        updated_at=case.seen.at,
        resource_version=deployment.metadata.resource_version,
        generation=deployment.metadata.generation,
        flink_job_id=case.flink.job_id or job.flink_job_id,
        flink_state=case.job.flink_state if _ended_before_it_leaves(case) else case.flink.state or "",
        start_time=case.flink.start_time or job.start_time,
        first_start_time=job.first_start_time or case.flink.start_time,
        restarts=job.restarts + (1 if _began_again(case) else 0),
        ran_generation=_ran_generation(case),
        parallelism=_parallelism(case),
        was_running=job.was_running or case.flink.state == "RUNNING",
        **_state_learnt(case),
        trouble_since=_trouble_since(case, trouble),
        is_gone=False,
        error=error.message if error else "",
    )


def _state_learnt(case: _Case) -> dict[str, Any]:
    """A savepoint of an upgrade or a suspend that the status shows for the first time, and whether the job has run
    since the newest that is known."""
    job, path = case.job, case.flink.upgrade_savepoint_path
    if not path or path in (LAST_STATE, job.upgrade_path):
        return {"ran_since_state": job.ran_since_state or _may_have_run(case, job.state_start_time)}
    newest = {"state_path": path, "savepoint_path": path, "state_number": None, "state_start_time": job.start_time}
    return {**newest, "upgrade_path": path, "ran_since_state": _may_have_run(case, job.start_time)}


LONG_AGO = timedelta(seconds=20)
"""A JobManager that is first seen so long after the sight before may not be the first since the state was learnt: the
job may have run under another one, whatever it is doing now. Clocks may differ by half of it."""


def _may_have_run(case: _Case, left_by: str | None) -> bool:
    """Whether the job may have made newer state since the sight before this one: it runs, or it has run in between.
    `left_by` is the start of the JobManager that left the newest known state behind, and ran nothing after it."""
    job, flink = case.job, case.flink
    if flink.state in ("RUNNING", "RESTARTING", "FAILING"):
        return True
    if _ended_before_it_leaves(case):
        return False
    is_new = flink.start_time != job.start_time
    if has_ended(case.deployment) and case.status.lifecycle_state not in ("SUSPENDED", "UPGRADING"):
        return is_new or flink.state != job.flink_state
    had_led = job.start_time not in (None, left_by)  # under that one the job may have come to run
    has_gone = case.status.job_manager_deployment_status != "READY"  # it led, and nobody saw how far it came
    long_ago = job.observed_at is None or case.seen.at - job.observed_at > LONG_AGO
    return had_led or has_gone or long_ago if is_new else had_led and has_gone


def _ended_before_it_leaves(case: _Case) -> bool:
    """Whether the job had come to its end before its deployment was told to go, and no other JobManager came since:
    that its own one is gone by now says nothing of newer state."""
    job, is_leaving = case.job, case.deployment.metadata.deletion_timestamp is not None
    return is_leaving and job.flink_state in ENDED_IN_FLINK and case.flink.start_time in (None, job.start_time)


BEGINNING, AGAIN = ("INITIALIZING", "CREATED"), ("RESTARTING", "FAILING")
"""States of Flink's job before it runs, and on its way to the next try."""


def _began_again(case: _Case) -> bool:
    """Whether Flink's job began again by itself since the sight before: it failed, or its JobManager came back. With a
    spec that has not run yet another start is what somebody asked for, and only a try that failed counts."""
    job, flink = case.job, case.flink
    if flink.job_id is None or flink.job_id != job.flink_job_id:
        return False  # a redeploy's job has an id of its own
    if case.operation is not None and is_in_place(case.operation):
        return False  # Flink restarts the tasks to rescale them
    was_beginning, was_running = job.flink_state in BEGINNING, job.flink_state == "RUNNING"
    if job.ran_generation is None or case.status.observed_generation != job.ran_generation:
        return was_beginning and flink.state in AGAIN
    came_back = None not in (flink.start_time, job.start_time) and flink.start_time != job.start_time
    fell_back = (was_running and flink.state in BEGINNING) or (flink.state in AGAIN and (was_beginning or was_running))
    return came_back or fell_back


def _ran_generation(case: _Case) -> int | None:
    """The generation that runs. While the operator upgrades, what runs may be the one before."""
    runs = case.flink.state == "RUNNING" and case.lifecycle in ("STABLE", "DEPLOYED")
    return case.status.observed_generation if runs else case.job.ran_generation


def _diagnosis(case: _Case, phase: Phase) -> Diagnosis | None:
    """What was found out stays known; a job that is well again is looked into anew when it turns bad."""
    known = case.job.diagnosis
    bad = is_bad(phase, case.deployment, case.seen.trouble)
    return known if known is None or bad else replace(known, of="")


def _trouble_since(case: _Case, trouble: bool) -> datetime | None:
    """The first sight of trouble in starting. The operator alternates ERROR and DEPLOYING: only a JobManager that runs
    ends it."""
    is_up = case.seen.manager_is_up or case.status.job_manager_deployment_status == "READY"
    if is_up and not trouble:
        return None
    return case.job.trouble_since or (case.seen.at if trouble else None)


def _parallelism(case: _Case) -> int | None:
    spec = case.deployment.spec
    overrides = overrides_of(spec.flink_configuration.overrides) if spec.flink_configuration else {}
    wanted = max(overrides.values(), default=spec.job.parallelism if spec.job else None)
    return wanted if wanted is not None else case.job.parallelism


# Gone: rule a.


ENDED_BY_US = {Phase.CANCELLED: "stopped", Phase.DELETED: "deleted"}
"""The reason of a phase that a STOP or a DELETE has led to."""


def _observe_gone(seen: Seen, job: Job, operation: Operation | None) -> Job:
    if operation is not None and KINDS[operation.kind].begins_a_run and operation.step in NOT_WRITTEN:
        return replace(job, is_gone=True)  # what was there belonged to the run before
    if operation is not None and operation.step is Step.LET_GO:
        return job  # our marks are off: it goes on, and a worker puts that on record
    if job.deployment_uid is None:
        return job
    phase, reason = _phase_when_gone(job, operation)
    return replace(
        job,
        phase=phase,
        phase_since=(job.phase_since if phase is job.phase else None) or seen.at,
        waiting=None,
        reason=reason,
        next_step=job.next_step if phase is job.phase else "",
        observation=Observation.NOT_FOUND,
        observed_at=seen.at,
        updated_at=seen.at,
        resource_version=None,
        is_gone=True,
    )


def _phase_when_gone(job: Job, operation: Operation | None) -> tuple[Phase, str]:
    if job.phase in SETTLED:
        return job.phase, job.reason
    if operation is not None and _rules(operation):
        ended = KINDS[operation.kind].leads_to
        return ended, ENDED_BY_US[ended]
    if job.desired in NOTHING_RUNS:
        return Phase.CANCELLED, ENDED_BY_US[Phase.CANCELLED]
    return Phase.CANCELLED, "deleted outside Headrace"
