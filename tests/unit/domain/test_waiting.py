"""What a job on its way waits for: by hand for what is known to happen, and never nothing for whatever may be seen."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.domain.deployments import Deployment
from headrace.domain.jobs import SETTLED, Phase, Waiting
from headrace.domain.pods import Pod, PodSeen, pod_seen
from headrace.domain.waiting import WAITS, Progress, Sight, Unseen, is_due, pod_waited_for, what_is_waited_for
from tests.support.given import JOB, NOW
from tests.unit.domain.test_observe import deployments

MAIN = "flink-main-container"
SCHEDULED = {"conditions": [{"type": "PodScheduled", "status": "True"}]}
RUNS = {"containerStatuses": [{"name": MAIN, "state": {"running": {}}}]}
READY = {**RUNS, "conditions": [{"type": "Ready", "status": "True"}]}
MADE = {**SCHEDULED, "containerStatuses": [{"name": MAIN, "state": {"waiting": {"reason": "ContainerCreating"}}}]}
FETCHING = {
    "containerStatuses": [{"name": MAIN, "state": {"waiting": {"reason": "PodInitializing"}}}],
    "initContainerStatuses": [
        {"name": "before", "state": {"terminated": {"exitCode": 0}}},
        {"name": "fetch", "state": {"running": {}}},
    ],
}


def pod(name: str, status: dict[str, Any], **metadata: Any) -> PodSeen:
    component = "taskmanager" if "taskmanager" in name else "jobmanager"
    whole = {
        "metadata": {"name": name, "labels": {"component": component}, **metadata},
        "spec": {"containers": [{"name": MAIN}]},
        "status": status,
    }
    return pod_seen(msgspec.convert(whole, Pod))


def deployment(
    state: str = "CREATED", *, generation: int = 1, observed: int = 1, replicas: int = 0, manager: str = "READY"
) -> Deployment:
    whole = {
        "metadata": {"name": "orders", "generation": generation},
        "status": {
            "observedGeneration": observed,
            "lifecycleState": "DEPLOYED",
            "jobManagerDeploymentStatus": manager,
            "jobStatus": {"state": state},
            "taskManager": {"replicas": replicas},
        },
    }
    return msgspec.convert(whole, Deployment)


def leaving(lifecycle: str = "STABLE", **fields: Any) -> Deployment:
    """One that is to end or to rest, and that the operator has begun with."""
    whole = msgspec.to_builtins(deployment("RUNNING"))
    whole["spec"] = {"job": {"state": "suspended"}}
    whole["status"]["lifecycleState"] = lifecycle
    whole["metadata"] |= fields
    return msgspec.convert(whole, Deployment)


def left_unknown() -> Deployment:
    """A native one that nothing runs of, and that is to be started again."""
    whole = msgspec.to_builtins(deployment("FAILED", manager="MISSING"))
    whole["status"] |= {"act": "LEAVE", "lifecycleState": "UPGRADING"}
    return msgspec.convert(whole, Deployment)


MANAGER = pod("orders-1", READY)
WORKER = pod("orders-taskmanager-1-1", READY)
UNSCHEDULED = pod("orders-taskmanager-1-2", {})
REFUSED = Unseen("pods is forbidden")
SILENT = Unseen("the JobManager of default/orders did not answer")
MISSING = 'FailedMount: MountVolume.SetUp failed for volume "v" : {0} not found'
TWO = Progress(task_managers=2, slots=2, needed_slots=2, state="CREATED", tasks={"SCHEDULED": 2})

CASES: dict[str, tuple[Sight, str, str]] = {
    "nothing may be seen": (
        Sight(deployment(), REFUSED, SILENT),
        "what for cannot be seen: pods is forbidden; the JobManager of default/orders did not answer",
        "HEADRACE_FLINK_REST_URL",
    ),
    "the operator is away": (
        Sight(deployment("RUNNING", generation=3, observed=2), [MANAGER], TWO),
        "the operator has not begun with generation 3, it is at 2",
        "Flink Kubernetes Operator runs",
    ),
    "a savepoint that lasts": (
        Sight(leaving(), [MANAGER], TWO),
        "the operator takes a savepoint and ends the job; it shows RUNNING",
        "headrace exceptions",
    ),
    "its end": (Sight(leaving("SUSPENDED"), []), "the operator has ended the job, and its state is kept", "by itself"),
    "an operator that is away while a deployment is deleted": (
        Sight(leaving(deletionTimestamp="2026-01-01T00:00:00Z"), [MANAGER], TWO),
        "FlinkDeployment orders is being deleted: the operator has to let go of it",
        "Flink Kubernetes Operator runs",
    ),
    "no pod": (
        Sight(deployment("RECONCILING", manager="MISSING"), []),
        "the JobManager has no pod: the operator has not made its Deployment yet",
        "Flink Kubernetes Operator runs",
    ),
    "no pod, and no operator that could make one": (
        Sight(deployment("RECONCILING", manager="MISSING"), [], is_native=True),
        "the JobManager has no pod: a worker of Headrace has not started it yet",
        "one of the queue flink.launches",
    ),
    "a pod for a Deployment that is there": (
        Sight(deployment("RECONCILING", manager="DEPLOYING"), [pod("orders-1", {"phase": "Failed"}), WORKER]),
        "the JobManager has no pod: Kubernetes has made none for its Deployment yet",
        "headrace events",
    ),
    "only TaskManagers of before": (
        Sight(deployment("FINISHED"), [pod("orders-taskmanager-1-1", RUNS, deletionTimestamp="2026-01-01T00:00:00Z")]),
        "the pods of before are being removed: orders-taskmanager-1-1",
        "headrace events",
    ),
    "no node": (Sight(deployment(), [pod("orders-1", {})]), "the JobManager's pod orders-1 waits for a node", "events"),
    "the kubelet": (
        Sight(deployment(), [pod("orders-1", SCHEDULED)]),
        "orders-1 waits for its node to begin with it",
        "headrace events",
    ),
    "an init container": (
        Sight(deployment(), [pod("orders-1", FETCHING)]),
        "the JobManager's pod orders-1 runs its init container fetch",
        "headrace events",
    ),
    "its image": (
        Sight(deployment(), [pod("orders-1", MADE)], kubelet='Pulling: Pulling image "flink:9"'),
        'its image is pulled (Pulling: Pulling image "flink:9")',
        "headrace events",
    ),
    "a volume of the user's": (
        Sight(deployment(), [pod("orders-1", MADE)], kubelet=MISSING.format('secret "db"')),
        'the JobManager\'s pod orders-1 does not start: secret "db" not found',
        "create it in the job's namespace",
    ),
    "a volume of Flink's": (
        Sight(deployment(), [pod("orders-1", MADE)], kubelet=MISSING.format('configmap "pod-template-orders"')),
        "which Flink makes itself",
        "it comes by itself",
    ),
    "the JobManager starts": (
        Sight(deployment(), [pod("orders-1", RUNS)], SILENT),
        "the JobManager has started, and does not answer yet (the JobManager of default/orders did not answer)",
        "headrace logs",
    ),
    "the JobManager was restarted": (
        Sight(deployment(), [replace(MANAGER, restarts=3)], SILENT),
        "does not answer yet; restarts: 3",
        "headrace logs",
    ),
    "leadership": (
        Sight(deployment(), [MANAGER], Progress(leads=False)),
        "the JobManager waits for leadership",
        "it comes by itself",
    ),
    "a state that nobody knows": (
        Sight(left_unknown(), [], is_native=True),
        "which state the run has left cannot be read",
        "STOP it with force, and submit it again with start_from",
    ),
    "a JobManager without the job that it had": (
        Sight(deployment(), [MANAGER], Progress(), is_without_metadata=True),
        "the JobManager has come back without the job",
        "start_from",
    ),
    "the program": (
        Sight(deployment("RECONCILING"), [MANAGER], Progress(task_managers=1, slots=1)),
        "the program has not given it the job yet",
        "headrace logs",
    ),
    "the operator's look": (
        Sight(deployment(), [MANAGER, WORKER], replace(TWO, state="RUNNING", tasks={"RUNNING": 2, "FINISHED": 1})),
        "all 3 tasks run; the operator has not looked since, it shows CREATED",
        "reach the JobManager",
    ),
    "fewer TaskManagers than asked for, and all tasks run": (
        Sight(deployment(replicas=3), [MANAGER], replace(TWO, state="RUNNING", tasks={"RUNNING": 2})),
        "all 2 tasks run",
        "reach the JobManager",
    ),
    "an end that the operator has not seen": (
        Sight(deployment("RECONCILING"), [MANAGER], Progress(state="FINISHED")),
        "Flink's job is FINISHED; the operator has not gone on from there yet",
        "Flink Kubernetes Operator runs",
    ),
    "the next try": (
        Sight(deployment("RESTARTING"), [MANAGER], replace(TWO, state="RESTARTING")),
        "Flink waits before its next try",
        "headrace exceptions",
    ),
    "a TaskManager without a node": (
        Sight(deployment(replicas=2), [MANAGER, WORKER, UNSCHEDULED], replace(TWO, task_managers=1, slots=1)),
        "1 of 2 TaskManagers have registered with the JobManager; pod orders-taskmanager-1-2 waits for a node",
        "headrace events",
    ),
    "a TaskManager without a pod": (
        Sight(deployment(replicas=2), [MANAGER, WORKER], replace(TWO, task_managers=1, slots=1)),
        "1 of 2 TaskManagers have registered with the JobManager; their pods: 1 of 2",
        "headrace events",
    ),
    "a TaskManager that starts": (
        Sight(deployment(replicas=1), [MANAGER, WORKER], replace(TWO, task_managers=0, slots=0)),
        "0 of 1 TaskManagers have registered with the JobManager",
        "headrace logs --component taskmanager",
    ),
    "TaskManagers, where pods may not be seen": (
        Sight(deployment(replicas=2), REFUSED, replace(TWO, task_managers=1, slots=1)),
        "1 of 2 TaskManagers have registered with the JobManager",
        "headrace logs --component taskmanager",
    ),
    "a TaskManager whose volume is missing": (
        Sight(
            deployment(replicas=1),
            [MANAGER, pod("orders-taskmanager-1-1", MADE)],
            replace(TWO, task_managers=0, slots=0),
            MISSING.format('secret "db"'),
        ),
        'TaskManagers have registered with the JobManager; pod orders-taskmanager-1-1 does not start: secret "db"',
        "create it in the job's namespace",
    ),
    "slots": (
        Sight(deployment(replicas=1), [MANAGER, WORKER], replace(TWO, task_managers=1, slots=1)),
        "the job needs 2 slots, and its TaskManagers have 1",
        "let the program set no parallelism of its own",
    ),
    "tasks that restore their state": (
        Sight(
            deployment(replicas=2), [MANAGER], replace(TWO, state="RUNNING", tasks={"RUNNING": 1, "INITIALIZING": 2})
        ),
        "its job is RUNNING: 1 of 3 tasks run (2 INITIALIZING); tasks that are INITIALIZING restore their state",
        "headrace logs",
    ),
    "tasks": (
        Sight(deployment(replicas=2), [MANAGER], TWO),
        "Flink has the slots, and its job is CREATED: 0 of 2 tasks run (2 SCHEDULED)",
        "headrace logs",
    ),
}


@pytest.mark.parametrize(("sight", "cause", "next_step"), CASES.values(), ids=CASES)
def test_what_is_waited_for_is_said_with_what_to_do(sight: Sight, cause: str, next_step: str) -> None:
    found = what_is_waited_for(sight)
    assert cause in found.cause
    assert next_step in found.next_step
    assert "\n" not in str(found)


unseen = st.builds(Unseen, st.text(max_size=10))
statuses = st.sampled_from([{}, SCHEDULED, RUNS, READY, MADE, FETCHING, {"phase": "Failed"}])
leaving = st.sampled_from([{}, {"deletionTimestamp": "2026-01-01T00:00:00Z"}])
names = st.sampled_from(["orders-1", "orders-2", "orders-taskmanager-1-1", "orders-taskmanager-1-2"])
pods = st.lists(st.builds(lambda name, status, metadata: pod(name, status, **metadata), names, statuses, leaving))
states = st.sampled_from(["", "INITIALIZING", "CREATED", "RUNNING", "FAILING", "RESTARTING", "FINISHED", "SUSPENDED"])
counts = st.integers(0, 3)
progresses = st.builds(
    Progress, st.booleans(), counts, counts, states | st.text(max_size=5), counts, st.dictionaries(states, counts)
)


@given(deployments(), pods | unseen, st.none() | progresses | unseen, st.text(max_size=20))
def test_whatever_is_seen_something_is_said(
    what: Deployment, seen: list[PodSeen] | Unseen, progress: Progress | Unseen | None, kubelet: str
) -> None:
    sight = Sight(what, seen, progress, kubelet)
    found = what_is_waited_for(sight)
    assert found.cause
    assert found.next_step
    waited_for = pod_waited_for(sight)
    assert waited_for is None or not (waited_for.is_running or waited_for.is_leaving)
    assert "operator" not in str(what_is_waited_for(replace(sight, is_native=True))).lower()


@pytest.mark.parametrize("phase", sorted(Phase))
def test_a_job_is_looked_at_once_a_period_once_it_lasts_on_its_way(phase: Phase) -> None:
    job = replace(JOB, phase=phase, phase_since=NOW)
    looked = replace(job, waiting=Waiting(at=NOW + timedelta(seconds=20), cause="slots"))
    explained = replace(job, waiting=Waiting(at=NOW + timedelta(seconds=20)), reason="its image is not there")
    on_its_way = phase in WAITS
    assert not is_due(job, NOW + timedelta(seconds=14))
    assert is_due(job, NOW + timedelta(seconds=15)) is on_its_way
    assert not is_due(looked, NOW + timedelta(seconds=28))
    assert is_due(looked, NOW + timedelta(seconds=30)) is on_its_way
    assert not is_due(explained, NOW + timedelta(seconds=28))
    assert is_due(replace(explained, reason=""), NOW + timedelta(seconds=21)) is on_its_way
    assert not (on_its_way and phase in SETTLED)
