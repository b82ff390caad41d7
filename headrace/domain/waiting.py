"""What a job that is on its way waits for, in words. Pure: one table over what was seen, first match wins.

A job that has failed is explained elsewhere (failures.py). This speaks of one that nothing is wrong with, as far as
anybody knows, and that does not run all the same: somebody who looks at it wants to know what has to happen next.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from headrace.domain.deployments import Deployment, JobStatus, Status, is_behind
from headrace.domain.failures import Evidence, Explanation, explain
from headrace.domain.jobs import Job, Phase
from headrace.domain.pods import JOB_MANAGER, TASK_MANAGER, PodSeen

TO_RUNNING = frozenset({Phase.STARTING, Phase.RESTARTING, Phase.SCALING, Phase.UPGRADING, Phase.ROLLING_BACK})
TO_REST = frozenset({Phase.SUSPENDING, Phase.CANCELLING, Phase.DELETING})
WAITS = TO_RUNNING | TO_REST
"""Phases on the way to another: what they wait for is said once they last."""

ASKS_WHAT_IT_LEFT = "LEAVE"
"""The native runtime's act (runtimes.native.acts) by which the state of a run that has ended becomes known."""

LASTS_AFTER = timedelta(seconds=15)
LOOKED_AT_AGAIN_AFTER = timedelta(seconds=9)
"""A little less than the period in which somebody looks."""

LONGEST_SAID = 300


@dataclass(frozen=True)
class Unseen:
    """A channel that could not be asked, and why; `is_of_one_job` where others' may well answer."""

    why: str
    is_of_one_job: bool = False


@dataclass(frozen=True)
class Progress:
    """What a JobManager's REST shows of a job that it brings up.

    `leads` is False while none leads; `state` is empty where it does not know the job, `needed_slots` what the job
    takes at its parallelism, `tasks` how many of its tasks are in which state.
    """

    leads: bool = True
    task_managers: int = 0
    slots: int = 0
    state: str = ""
    needed_slots: int = 0
    tasks: Mapping[str, int] = field(default_factory=dict)

    @property
    def running_tasks(self) -> int:
        """Those that run, or have done all they had to."""
        return self.tasks.get("RUNNING", 0) + self.tasks.get("FINISHED", 0)

    @property
    def all_tasks(self) -> int:
        """How many the job has."""
        return sum(self.tasks.values())


@dataclass(frozen=True)
class Sight:
    """All that was seen of a job on its way. `progress` is None where there was nobody to ask; `kubelet` what was last
    said of the pod that it waits for (`pod_waited_for`); `failure` why its last try failed (`has_failed_a_try`);
    `is_without_metadata` that a job which has run has no HA metadata any more (`can_have_ended`)."""

    deployment: Deployment
    pods: Sequence[PodSeen] | Unseen
    progress: Progress | Unseen | None = None
    kubelet: str = ""
    failure: Explanation | None = None
    is_native: bool = False
    is_without_metadata: bool = False

    @property
    def who(self) -> str:
        """Who makes of what is wanted what is so."""
        return "a worker of Headrace" if self.is_native else "the operator"

    @property
    def see(self) -> str:
        """What to look after where that one does nothing."""
        return _WORKERS if self.is_native else _OPERATOR

    @property
    def status(self) -> Status:
        return self.deployment.status or Status()

    @property
    def shown(self) -> str:
        """Flink's state of the job as the operator shows it."""
        return (self.status.job_status or JobStatus()).state or "nothing"

    def of(self, component: str) -> list[PodSeen]:
        """The pods of this component that are there to stay."""
        pods = () if isinstance(self.pods, Unseen) else self.pods
        return [pod for pod in pods if pod.component == component and not pod.is_leaving and not pod.has_ended]


def is_due(job: Job, at: datetime) -> bool:
    """Whether it has been on its way for a while, and nobody has just looked what it waits for. One whose trouble said
    it all, and has passed, is silent: it is looked at again at once."""
    if job.phase not in WAITS:
        return False
    lasts = job.phase_since is None or at - job.phase_since >= LASTS_AFTER
    is_said = job.waiting is not None and bool(job.waiting.cause or job.reason)
    return lasts and (job.waiting is None or not is_said or at - job.waiting.at >= LOOKED_AT_AGAIN_AFTER)


def told(job: Job) -> Explanation:
    """What somebody has seen the job wait for, and since when it does; nothing where nobody has looked."""
    if job.waiting is None or not job.waiting.cause:
        return Explanation("", "")
    since = job.phase_since or job.waiting.at
    return Explanation(f"waiting since {since:%Y-%m-%dT%H:%M:%SZ}: {job.waiting.cause}", job.waiting.next_step)


def unseen(why: Sequence[str]) -> Explanation:
    """Where none of the channels could be asked."""
    return Explanation(
        f"what for cannot be seen: {'; '.join(why)}",
        "let Headrace's account read the job's pods, and reach its JobManager (HEADRACE_FLINK_REST_URL)",
    )


def pod_waited_for(sight: Sight) -> PodSeen | None:
    """The pod that has to run next: the JobManager's, then a TaskManager's."""
    return next((pod for pod in (*sight.of(JOB_MANAGER), *sight.of(TASK_MANAGER)) if not pod.is_running), None)


def has_manager(sight: Sight) -> bool:
    """Whether there may be a JobManager to ask."""
    return isinstance(sight.pods, Unseen) or any(pod.is_running for pod in sight.of(JOB_MANAGER))


def what_is_waited_for(sight: Sight) -> Explanation:
    """What has to happen next, and what to do where it does not. Never empty: what could not be asked is said, too."""
    return next(found for rule in RULES if (found := rule(sight)) is not None)


# The table.

_Rule = Callable[[Sight], Explanation | None]
_OPERATOR = "see that the Flink Kubernetes Operator runs and watches this namespace; its log says what it does"
_WORKERS = "see that workers run, and one of the queue flink.launches with a FLINK_HOME; their logs say what they do"
_EVENTS = "`headrace events` says what becomes of it"
_LOGS = "`headrace logs` says what it does"
_FROM_WHAT_IT_KEPT = (
    "`headrace savepoints` and its state.location have what it kept: STOP it with force, and submit it again with "
    "start_from"
)


def _nothing_seen(sight: Sight) -> Explanation | None:
    if not isinstance(sight.pods, Unseen) or isinstance(sight.progress, Progress):
        return None
    return unseen([each.why for each in (sight.pods, sight.progress) if isinstance(each, Unseen)])


def _operator_is_behind(sight: Sight) -> Explanation | None:
    generation = sight.deployment.metadata.generation
    if not is_behind(sight.deployment, generation):
        return None
    seen = sight.status.observed_generation
    return Explanation(f"{sight.who} has not begun with generation {generation}, it is at {seen}", sight.see)


def _leaves(sight: Sight) -> Explanation | None:
    """Of a job that is to end or to rest: its pods are no matter any more."""
    job, name = sight.deployment.spec.job, sight.deployment.metadata.name
    if sight.deployment.metadata.deletion_timestamp is not None:
        kind = "Deployment" if sight.is_native else "FlinkDeployment"
        return Explanation(f"{kind} {name} is being deleted: {sight.who} has to let go of it", sight.see)
    if job is None or job.state != "suspended":
        return None
    if sight.status.lifecycle_state == "SUSPENDED":
        return Explanation(f"{sight.who} has ended the job, and its state is kept", "it goes on by itself")
    words = f"{sight.who} takes a savepoint and ends the job; it shows {sight.shown}"
    return Explanation(words, f"{sight.see}; `headrace exceptions` says why a savepoint fails")


def _lost_its_state(sight: Sight) -> Explanation | None:
    """Of a native job whose run has ended, and which nothing may start before it is known what from."""
    if sight.status.act != ASKS_WHAT_IT_LEFT or isinstance(sight.pods, Unseen) or sight.of(JOB_MANAGER):
        return None
    return Explanation(
        "nothing runs any more, and which state the run has left cannot be read: it is not started without",
        _FROM_WHAT_IT_KEPT,
    )


def _no_manager_pod(sight: Sight) -> Explanation | None:
    if isinstance(sight.pods, Unseen) or sight.of(JOB_MANAGER):
        return None
    leaving = [pod.name for pod in sight.pods if pod.is_leaving]
    if leaving:
        return Explanation(f"the pods of before are being removed: {', '.join(leaving[:5])}", _EVENTS)
    if sight.status.job_manager_deployment_status in (None, "MISSING"):
        not_yet = "started it" if sight.is_native else "made its Deployment"
        return Explanation(f"the JobManager has no pod: {sight.who} has not {not_yet} yet", sight.see)
    return Explanation(
        "the JobManager has no pod: Kubernetes has made none for its Deployment yet",
        "`headrace events` says what keeps it: a quota, a ServiceAccount, a node that went",
    )


def _manager_pod(sight: Sight) -> Explanation | None:
    managers = sight.of(JOB_MANAGER)
    if not managers or any(pod.is_running for pod in managers):
        return None
    return _of_pod("the JobManager's pod", managers[0], sight)


def _of_pod(whose: str, pod: PodSeen, sight: Sight) -> Explanation:
    evidence = Evidence(error=sight.kubelet, deployment=sight.deployment.metadata.name)
    told = explain(evidence) if sight.kubelet else None
    if told is not None:
        return Explanation(f"{whose} {pod.name} does not start: {told.cause}", told.next_step)
    said = f" ({' '.join(sight.kubelet.split())[:LONGEST_SAID]})" if sight.kubelet else ""
    return Explanation(f"{whose} {pod.name} {pod.waits_for or 'does not run'}{said}", _EVENTS)


def _silent(sight: Sight) -> Explanation | None:
    if not isinstance(sight.progress, Unseen):
        return None
    restarts = sum(pod.restarts for pod in sight.of(JOB_MANAGER))
    again = f"; restarts: {restarts}" if restarts else ""
    return Explanation(f"the JobManager has started, and does not answer yet{again} ({sight.progress.why})", _LOGS)


def _leadership(sight: Sight) -> Explanation | None:
    if not isinstance(sight.progress, Progress) or sight.progress.leads:
        return None
    return Explanation(
        "the JobManager waits for leadership, which the one before it may still hold",
        "it comes by itself, within half a minute as a rule; where it does not, `headrace logs` says why",
    )


def can_have_ended(progress: Progress | Unseen | None) -> bool:
    """Whether the HA metadata have to be asked for: the JobManager leads, and has not the job."""
    return isinstance(progress, Progress) and progress.leads and not progress.state


def _no_job(sight: Sight) -> Explanation | None:
    if not can_have_ended(sight.progress):
        return None
    if sight.is_without_metadata:  # Flink removes them when a job ends, and keeps that it has (JobResultStore)
        return Explanation(
            "the JobManager has come back without the job: it had ended before, and nobody saw how",
            _FROM_WHAT_IT_KEPT,
        )
    return Explanation("the JobManager is up, and the program has not given it the job yet", _LOGS)


def _operator_looks_late(sight: Sight) -> Explanation | None:
    progress = sight.progress
    if not isinstance(progress, Progress) or progress.state != "RUNNING" or not progress.all_tasks:
        return None
    if progress.running_tasks < progress.all_tasks:
        return None
    return Explanation(
        f"all {progress.all_tasks} tasks run; {sight.who} has not looked since, it shows {sight.shown}",
        f"it comes by itself; where it does not, {sight.see}; it has to reach the JobManager",
    )


def _ended(sight: Sight) -> Explanation | None:
    if not isinstance(sight.progress, Progress) or sight.progress.state not in ("FINISHED", "FAILED", "CANCELED"):
        return None
    return Explanation(f"Flink's job is {sight.progress.state}; {sight.who} has not gone on from there yet", sight.see)


_BETWEEN_TRIES = {
    "INITIALIZING": "the JobManager initializes the job",
    "RESTARTING": "Flink waits before its next try",
    "FAILING": "Flink ends the try that failed",
    "CANCELLING": "Flink ends the job's tasks",
    "SUSPENDED": "the JobManager has lost its leadership of the job",
    "RECONCILING": "the JobManager takes the job over",
}


def has_failed_a_try(progress: Progress | Unseen | None) -> bool:
    """Whether one of Flink's tries has failed and the next has not begun: why is what one wants to know then."""
    return isinstance(progress, Progress) and progress.state in ("RESTARTING", "FAILING")


def _between_tries(sight: Sight) -> Explanation | None:
    words = _BETWEEN_TRIES.get(sight.progress.state) if isinstance(sight.progress, Progress) else None
    if words is None:
        return None
    if sight.failure is not None:
        return Explanation(f"{words}; what failed: {sight.failure.cause}", sight.failure.next_step)
    return Explanation(words, "`headrace exceptions` and `headrace logs` say what went before")


def _task_managers(sight: Sight) -> Explanation | None:
    expected = (sight.status.task_manager.replicas if sight.status.task_manager else None) or 0
    progress = sight.progress
    if not isinstance(progress, Progress) or progress.task_managers >= expected:
        return None
    words = f"{progress.task_managers} of {expected} TaskManagers have registered with the JobManager"
    return _with_pods(words, sight, expected)


def _with_pods(words: str, sight: Sight, expected: int) -> Explanation:
    """And what keeps the pods of those that are missing, where that can be seen."""
    waited_for, pods = pod_waited_for(sight), sight.of(TASK_MANAGER)
    if waited_for is not None:
        of_pod = _of_pod("pod", waited_for, sight)
        return Explanation(f"{words}; {of_pod.cause}", of_pod.next_step)
    if not isinstance(sight.pods, Unseen) and len(pods) < expected:
        return Explanation(f"{words}; their pods: {len(pods)} of {expected}", "`headrace events` says what keeps them")
    return Explanation(words, "`headrace logs --component taskmanager` says what they do")


def _slots(sight: Sight) -> Explanation | None:
    progress = sight.progress
    if not isinstance(progress, Progress) or progress.slots >= progress.needed_slots:
        return None
    words = f"the job needs {progress.needed_slots} slots, and its TaskManagers have {progress.slots}"
    of_pods = _with_pods(words, sight, 0)
    return Explanation(
        of_pods.cause,
        "`headrace events` says whether another TaskManager comes; where none does, let the program set no parallelism "
        "of its own, and set parallelism (or resources.task_manager) for the job",
    )


def _tasks(sight: Sight) -> Explanation | None:
    if not isinstance(sight.progress, Progress):
        return None
    progress = sight.progress
    others = {state: n for state, n in progress.tasks.items() if n and state not in ("RUNNING", "FINISHED")}
    states = ", ".join(f"{n} {state}" for state, n in sorted(others.items()))
    words = f"{progress.running_tasks} of {progress.all_tasks} tasks run" if progress.all_tasks else "no task is up"
    restoring = "; tasks that are INITIALIZING restore their state" if "INITIALIZING" in others else ""
    of_job = f"Flink has the slots, and its job is {progress.state}"
    return Explanation(f"{of_job}: {words}{f' ({states})' if states else ''}{restoring}", _LOGS)


def _manager_was_not_asked(sight: Sight) -> Explanation:
    return Explanation(f"{sight.who} shows {sight.shown}, and nothing more of it can be seen", sight.see)


RULES: tuple[_Rule, ...] = (
    _nothing_seen,
    _operator_is_behind,
    _leaves,
    _lost_its_state,
    _no_manager_pod,
    _manager_pod,
    _silent,
    _leadership,
    _no_job,
    _operator_looks_late,
    _ended,
    _between_tries,
    _task_managers,
    _slots,
    _tasks,
    _manager_was_not_asked,
)
