"""What a pod and a Deployment show, from what their containers have come to: as a kubelet and a controller write it."""

from __future__ import annotations

from typing import Any

from local.kubelet import deployment_statuses
from local.kubelet.pod_statuses import ContainerSeen, PodSeen, seen_before, seen_first, status_of

SPEC: dict[str, Any] = {
    "initContainers": [{"name": "fetch", "image": "flink"}],
    "containers": [{"name": "flink-main-container", "image": "flink"}],
}
DEPLOYMENT: dict[str, Any] = {
    "metadata": {"name": "orders", "uid": "1", "generation": 3},
    "spec": {"replicas": 1, "template": {"metadata": {"labels": {"app": "orders"}}, "spec": SPEC}},
}


def conditions(status: dict[str, Any]) -> dict[str, str]:
    return {each["type"]: each["status"] for each in status["conditions"]}


def with_main(pod: PodSeen, main: ContainerSeen) -> PodSeen:
    done = pod.inits[0].runs().ends(0)
    return PodSeen([done], main, pod.begun_at, has_volumes=True)


def test_a_pod_is_pending_until_its_init_containers_are_done() -> None:
    pod = seen_first(SPEC)
    status = status_of(pod)
    assert status["phase"] == "Pending"
    assert status["containerStatuses"][0]["state"]["waiting"]["reason"] == "PodInitializing"
    assert conditions(status)["PodScheduled"] == "True", "else its JobManager would not take it for one"
    running = status_of(pod.with_init(pod.inits[0].runs()))
    assert (running["phase"], conditions(running)["Initialized"]) == ("Pending", "False")
    ready = status_of(with_main(pod, pod.main.runs()))
    assert (ready["phase"], conditions(ready)["Ready"]) == ("Running", "True")


def test_a_container_that_is_started_again_counts_it_and_keeps_how_it_ended() -> None:
    main = seen_first(SPEC).main.runs()
    assert main.restarts == 0
    again = main.ends(137).waits("CrashLoopBackOff", "back-off").runs()
    assert (again.restarts, again.last_state["terminated"]["exitCode"]) == (1, 137)
    assert again.is_ready
    assert main.ends(1, "its last words").state["terminated"]["message"] == "its last words"


def test_what_a_kubelet_before_has_left_running_was_killed_with_it() -> None:
    pod = seen_first(SPEC)
    left = seen_before(SPEC, status_of(with_main(pod, pod.main.runs())))
    assert left.main.state["terminated"]["exitCode"] == 137
    assert left.main.runs().restarts == 1
    assert left.inits[0].has_succeeded


def test_a_pod_that_is_over_says_so() -> None:
    pod = with_main(seen_first(SPEC), seen_first(SPEC).main.runs().ends(1))
    status = status_of(PodSeen(pod.inits, pod.main, pod.begun_at, has_volumes=True, ended="Failed"))
    assert (status["phase"], conditions(status)["Ready"]) == ("Failed", "False")


def test_a_deployment_is_available_with_its_pod_and_keeps_when_it_became_so() -> None:
    pod = deployment_statuses.pod_of(DEPLOYMENT)
    none = deployment_statuses.status_of(DEPLOYMENT, [pod], None)
    assert (none["replicas"], none["availableReplicas"], none["unavailableReplicas"]) == (1, 0, 1)
    assert (none["observedGeneration"], none["updatedReplicas"]) == (3, 1)
    ready = {**pod, "status": {"conditions": [{"type": "Ready", "status": "True"}]}}
    there = deployment_statuses.status_of(DEPLOYMENT, [ready], None)
    assert (there["availableReplicas"], conditions(there)["Available"]) == (1, "True")
    later = {
        **DEPLOYMENT,
        "status": {**there, "conditions": [{**c, "lastTransitionTime": "then"} for c in there["conditions"]]},
    }
    again = deployment_statuses.status_of(later, [ready], None)
    assert {each["lastTransitionTime"] for each in again["conditions"]} == {"then"}


def test_a_pod_that_the_api_takes_not_is_a_condition() -> None:
    status = deployment_statuses.status_of(DEPLOYMENT, [], "exceeded quota")
    (failure,) = [each for each in status["conditions"] if each["type"] == "ReplicaFailure"]
    assert (failure["reason"], failure["message"]) == ("FailedCreate", "exceeded quota")


def test_a_pod_is_of_its_deployments_template_and_belongs_to_it() -> None:
    pod = deployment_statuses.pod_of(DEPLOYMENT)
    assert pod["spec"] == SPEC
    assert [owner["uid"] for owner in pod["metadata"]["ownerReferences"]] == ["1"]
    assert not deployment_statuses.is_outdated(pod, DEPLOYMENT)
    changed = {**DEPLOYMENT, "spec": {**DEPLOYMENT["spec"], "template": {"spec": {**SPEC, "volumes": []}}}}
    assert deployment_statuses.is_outdated(pod, changed)
    other = {**DEPLOYMENT, "spec": {**DEPLOYMENT["spec"], "replicas": 0}}
    assert not deployment_statuses.is_outdated(pod, other), "replicas are no part of it"
