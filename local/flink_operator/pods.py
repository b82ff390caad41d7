"""Pods and the REST service of a local cluster, as objects in the API: so that kubectl and readers find them.

A process that is started again is its pod's container started again; a pod ends with the cluster that it was made for.
"""

from __future__ import annotations

import json
import time
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from local.flink_operator.cluster import Cluster
from local.flink_operator.events import Events
from local.flink_operator.kube import Kube
from local.flink_operator.mapping import MAIN_CONTAINER
from local.process import LocalProcess

LOGS_ANNOTATION = "local.headrace.io/logs"
PID_ANNOTATION = "local.headrace.io/pid"
REST_ANNOTATION = "local.headrace.io/rest-url"
KILLED = 137
FIRST_BACK_OFF_SECONDS = 10
LONGEST_BACK_OFF_SECONDS = 300

Resource = dict[str, Any]


@dataclass(frozen=True)
class Started:
    """A container as it was last started: it writes to `log` from `log_start` on. One that has ended has an exit code
    and what it left as its termination message; `last_exit_code` is that of the one before."""

    container: str
    log: Path
    log_start: int
    pid: int | None = None
    exit_code: int | None = None
    said: str = ""
    last_exit_code: int = KILLED


@dataclass(frozen=True)
class Launch:
    """Where a process' output begins in its log, and how the process before it ended."""

    log_start: int = 0
    last_exit_code: int = KILLED


def launch(process_log: Path, last_exit_code: int = KILLED) -> Launch:
    """Of a process that is started now."""
    return Launch(process_log.stat().st_size if process_log.exists() else 0, last_exit_code)


@dataclass(frozen=True)
class Inits:
    """The init containers of a JobManager's pod: all names, and those that were started."""

    names: Sequence[str] = ()
    started: Sequence[Started] = ()


def show(
    kube: Kube, deployment: Resource, cluster: Cluster, inits: Inits, launches: Mapping[Path, Launch]
) -> list[tuple[Resource, str]]:
    """Makes the pods and the service of a cluster that was started, or brings them to what it is. The pods with a
    container that was started since they were last shown, and that container's name. Raises KubeError."""
    name = deployment["metadata"]["name"]
    kube.put_core("services", _service(name, f"http://127.0.0.1:{cluster.rest_port}"))
    manager = _pod(deployment, "jobmanager", manager_pod(deployment), inits)
    shown = [_put(kube, manager, [*inits.started, _main(cluster.job_manager, launches)])]
    for process in cluster.task_managers:
        worker = _pod(deployment, "taskmanager", f"{name}-{process.command.name}", Inits())
        shown.append(_put(kube, worker, [_main(process, launches)]))
    return [(pod, container) for pod, containers in shown for container in containers]


def show_pending(kube: Kube, deployment: Resource, inits: Inits) -> None:
    """Makes the JobManager's pod, of which nothing runs yet, unless there is one. Raises KubeError."""
    if kube.pod(manager_pod(deployment)) is None:
        pod = _pod(deployment, "jobmanager", manager_pod(deployment), inits)
        kube.put_core("pods", pod, _pod_status(pod, {}, [], {}))


def show_init_failure(kube: Kube, deployment: Resource, inits: Inits) -> Resource:
    """The JobManager's pod while the last of the started init containers fails again and again. Raises KubeError."""
    pod, _ = _put(kube, _pod(deployment, "jobmanager", manager_pod(deployment), inits), inits.started)
    return pod


def show_crash(kube: Kube, events: Events, deployment: Resource, exit_code: int) -> float:
    """The JobManager's pod once its process has ended and is to be started again. In how many seconds: at once, and
    then after longer and longer waits, as a kubelet does it. Raises KubeError."""
    pod = kube.pod(manager_pod(deployment))
    if pod is None:
        return 0.0
    (main,) = pod["status"]["containerStatuses"]
    ended = {"terminated": _ended(exit_code, main["state"])}
    seconds = _back_off(main["restartCount"])
    shown = {"state": ended}
    if seconds:
        words = f"back-off {seconds}s restarting failed container={main['name']} pod={_identity(pod)}"
        shown = {"state": {"waiting": {"reason": "CrashLoopBackOff", "message": words}}, "lastState": ended}
        tell_back_off(events, pod, main["name"])
    status = {"containerStatuses": [{**main, "ready": False, "started": False, **shown}]}
    kube.set_pod_status(pod["metadata"]["name"], {**status, "conditions": _conditions(can_start=True, is_ready=False)})
    return float(seconds)


def _back_off(restarts: int) -> int:
    return min(FIRST_BACK_OFF_SECONDS * 2 ** (restarts - 1), LONGEST_BACK_OFF_SECONDS) if restarts else 0


def tell_back_off(events: Events, pod: Resource, container: str) -> None:
    """The kubelet's event about a container that fails again and again."""
    words = f"Back-off restarting failed container {container} in pod {_identity(pod)}"
    events.warning(pod, "kubelet", "BackOff", words)


def _identity(pod: Resource) -> str:
    metadata = pod["metadata"]
    return f"{metadata['name']}_{metadata['namespace']}({metadata['uid']})"


def show_end(kube: Kube, deployment: Resource, exit_code: int) -> None:
    """The JobManager's pod once its process has ended for good. Raises KubeError."""
    pod = kube.pod(manager_pod(deployment))
    if pod is None:
        return
    (main,) = pod["status"]["containerStatuses"]
    ended = {"terminated": _ended(exit_code, main["state"])}
    status = {
        "phase": "Failed",
        "conditions": [{"type": "Ready", "status": "False"}],
        "containerStatuses": [{**main, "ready": False, "started": False, "state": ended}],
    }
    kube.set_pod_status(pod["metadata"]["name"], status)


def manager_pod(deployment: Resource) -> str:
    """The name of the JobManager's pod."""
    return f"{deployment['metadata']['name']}-{zlib.crc32(deployment['metadata']['uid'].encode()):08x}-0"


def show_waiting(kube: Kube, deployment: Resource, inits: Inits, reason: str, message: str) -> None:
    """The JobManager's pod while its main container cannot be started. Raises KubeError."""
    pod = _pod(deployment, "jobmanager", manager_pod(deployment), inits)
    (main,) = pod["spec"]["containers"]
    waiting = {
        **_bare_status(main["name"], main["image"]),
        "state": {"waiting": {"reason": reason, "message": message}},
    }
    conditions = _conditions(can_start=True, is_ready=False)
    kube.put_core("pods", pod, {"phase": "Pending", "conditions": conditions, "containerStatuses": [waiting]})


def hide(kube: Kube, name: str) -> None:
    """Removes the pods and the service. Raises KubeError."""
    hide_pods(kube, name)
    kube.delete_core("services", f"{name}-rest")


def hide_pods(kube: Kube, name: str) -> None:
    """Removes the pods alone. Raises KubeError."""
    for pod in kube.pod_names(name):
        kube.delete_core("pods", pod)


def hide_task_managers(kube: Kube, name: str) -> None:
    """Removes the TaskManagers' pods."""
    for pod in kube.pod_names(name):
        if "-taskmanager-" in pod:
            kube.delete_core("pods", pod)


def _main(process: LocalProcess, launches: Mapping[Path, Launch]) -> Started:
    begun = launches.get(process.log, Launch())
    return Started(MAIN_CONTAINER, process.log, begun.log_start, process.pid, last_exit_code=begun.last_exit_code)


def _pod(deployment: Resource, component: str, pod: str, inits: Inits) -> Resource:
    name, image = deployment["metadata"]["name"], deployment["spec"].get("image", "flink")
    labels = (deployment["spec"].get("podTemplate") or {}).get("metadata", {}).get("labels") or {}
    spec: Resource = {
        "containers": [{"name": MAIN_CONTAINER, "image": image}],
        "serviceAccountName": "flink",
    }
    if inits.names:
        spec["initContainers"] = [{"name": each, "image": image} for each in inits.names]
    ours = {"app": name, "component": component, "type": "flink-native-kubernetes"}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": pod, "labels": {**labels, **ours}},
        "spec": spec,
    }


def _put(kube: Kube, pod: Resource, started: Sequence[Started]) -> tuple[Resource, list[str]]:
    """Stores the pod with these containers started. What is stored, and which of them were started since the last."""
    before = kube.pod(pod["metadata"]["name"]) or {}
    places = json.loads((before.get("metadata", {}).get("annotations") or {}).get(LOGS_ANNOTATION, "{}"))
    new = [s for s in started if places.get(s.container, {}).get("start") != s.log_start]
    logs = {s.container: _log_place(s, places.get(s.container)) for s in new}
    annotations = {LOGS_ANNOTATION: json.dumps(places | logs)}
    if started[-1].pid is not None:
        annotations[PID_ANNOTATION] = str(started[-1].pid)
    whole = {**pod, "metadata": {**pod["metadata"], "annotations": annotations}}
    stored = kube.put_core("pods", whole, _pod_status(pod, before.get("status", {}), new, places))
    return stored, [s.container for s in new]


def _log_place(started: Started, before: Resource | None) -> Resource:
    return {"path": str(started.log), "start": started.log_start, "previous": before["start"] if before else None}


def _pod_status(pod: Resource, before: Resource, new: Sequence[Started], places: Resource) -> Resource:
    """The status with what was started; containers that were not are as they were, or wait."""
    parts = {"initContainerStatuses": "initContainers", "containerStatuses": "containers"}
    known = {each["name"]: each for part in parts for each in before.get(part) or ()}
    known |= {s.container: _container_status(pod, s, known.get(s.container), s.container in places) for s in new}
    status: Resource = {
        part: [known.get(c["name"]) or _waiting(c, pod) for c in pod["spec"][containers]]
        for part, containers in parts.items()
        if containers in pod["spec"]
    }
    (main,) = status["containerStatuses"]
    status["phase"] = "Running" if "running" in main["state"] else "Pending"
    status["startTime"] = before.get("startTime") or _now()
    status["conditions"] = _conditions(can_start=bool(new or places), is_ready=main["ready"])
    return status


def _conditions(*, can_start: bool, is_ready: bool) -> list[Resource]:
    """Its containers can be started once its volumes are there."""
    said = {"PodReadyToStartContainers": can_start, "Ready": is_ready}
    return [{"type": name, "status": "True" if holds else "False"} for name, holds in said.items()]


def _waiting(container: Resource, pod: Resource) -> Resource:
    state = {"waiting": {"reason": "PodInitializing" if "initContainers" in pod["spec"] else "ContainerCreating"}}
    return {**_bare_status(container["name"], container["image"]), "state": state}


def _container_status(pod: Resource, started: Started, was: Resource | None, ran_before: bool) -> Resource:
    status = _bare_status(started.container, pod["spec"]["containers"][0]["image"])
    status |= dict(_states(started))
    if was is None or not ran_before:
        return status
    known = was if "waiting" not in was["state"] else {"state": was.get("lastState", {})}
    last = known["state"].get("terminated") or _ended(started.last_exit_code, was["state"])
    return {"lastState": {"terminated": last}, **status, "restartCount": was["restartCount"] + 1}


def _states(started: Started) -> Iterator[tuple[str, Any]]:
    """Running; ended well; or ended badly, and waiting to be started again."""
    if started.exit_code is None:
        yield from (("ready", True), ("started", True), ("state", {"running": {"startedAt": _now()}}))
        return
    ended = {"terminated": {**_ended(started.exit_code, {}), "message": started.said}}
    if started.exit_code == 0:
        yield from (("ready", True), ("state", ended))
        return
    back_off = f"back-off 10s restarting failed container={started.container}"
    yield from (("state", {"waiting": {"reason": "CrashLoopBackOff", "message": back_off}}), ("lastState", ended))


def _bare_status(container: str, image: str) -> Resource:
    return {"name": container, "ready": False, "started": False, "restartCount": 0, "image": image, "imageID": ""}


def _ended(exit_code: int, state: Resource) -> Resource:
    started = state.get("running", {}).get("startedAt") or _now()
    reason = "Completed" if exit_code == 0 else "Error"
    return {"exitCode": exit_code, "reason": reason, "startedAt": started, "finishedAt": _now()}


def _now() -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())


def _service(name: str, rest_url: str) -> Resource:
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": f"{name}-rest", "labels": {"app": name}, "annotations": {REST_ANNOTATION: rest_url}},
        "spec": {"ports": [{"name": "rest", "port": 8081}], "selector": {"app": name, "component": "jobmanager"}},
    }
