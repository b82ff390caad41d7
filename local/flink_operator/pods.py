"""Pods and the REST service of a local cluster, as objects in the API: so that kubectl and readers find them."""

from __future__ import annotations

import zlib
from typing import Any

from local.flink_operator.cluster import Cluster
from local.flink_operator.kube import Kube
from local.flink_operator.mapping import MAIN_CONTAINER
from local.process import LocalProcess

LOG_ANNOTATION = "local.headrace.io/log-file"
PID_ANNOTATION = "local.headrace.io/pid"
REST_ANNOTATION = "local.headrace.io/rest-url"


def show(kube: Kube, deployment: dict[str, Any], cluster: Cluster) -> None:
    """Makes the pods and the service of a cluster that was started. Raises KubeError."""
    name, image = deployment["metadata"]["name"], deployment["spec"].get("image", "flink")
    rest_url = f"http://127.0.0.1:{cluster.rest_port}"
    kube.put_core("services", _service(name, rest_url))
    labels = (deployment["spec"].get("podTemplate") or {}).get("metadata", {}).get("labels") or {}
    manager = f"{name}-{zlib.crc32(deployment['metadata']['uid'].encode()):08x}-0"
    processes = {manager: ("jobmanager", cluster.job_manager)}
    processes |= {f"{name}-{p.command.name}": ("taskmanager", p) for p in cluster.task_managers}
    for pod, (component, process) in processes.items():
        kube.put_core("pods", _pod(pod, name, component, image, labels, process), _running())


def show_init_failure(kube: Kube, deployment: dict[str, Any], container: str, message: str, code: int) -> None:
    """The JobManager's pod while an init container fails again and again. Raises KubeError."""
    name, image = deployment["metadata"]["name"], deployment["spec"].get("image", "flink")
    manager = f"{name}-{zlib.crc32(deployment['metadata']['uid'].encode()):08x}-0"
    ended = {"exitCode": code, "reason": "Error", "message": message}
    waiting = {"reason": "CrashLoopBackOff", "message": f"back-off 10s restarting failed container={container}"}
    state = {"name": container, "ready": False, "restartCount": 1, "image": image, "imageID": ""}
    status = {
        "phase": "Pending",
        "initContainerStatuses": [{**state, "state": {"waiting": waiting}, "lastState": {"terminated": ended}}],
    }
    kube.put_core("pods", _pod(manager, name, "jobmanager", image, {}, None), status)


def show_waiting(kube: Kube, deployment: dict[str, Any], container: str, reason: str, message: str) -> None:
    """The JobManager's pod while its container cannot be started. Raises KubeError."""
    name, image = deployment["metadata"]["name"], deployment["spec"].get("image", "flink")
    manager = f"{name}-{zlib.crc32(deployment['metadata']['uid'].encode()):08x}-0"
    state = {"name": container, "ready": False, "restartCount": 0, "image": image, "imageID": ""}
    waiting = {**state, "state": {"waiting": {"reason": reason, "message": message}}}
    status = {"phase": "Pending", "containerStatuses": [waiting]}
    kube.put_core("pods", _pod(manager, name, "jobmanager", image, {}, None), status)


def hide(kube: Kube, name: str) -> None:
    """Removes the pods and the service. Raises KubeError."""
    for pod in kube.pod_names(name):
        kube.delete_core("pods", pod)
    kube.delete_core("services", f"{name}-rest")


def hide_task_managers(kube: Kube, name: str) -> None:
    """Removes the TaskManagers' pods."""
    for pod in kube.pod_names(name):
        if "-taskmanager-" in pod:
            kube.delete_core("pods", pod)


def _pod(
    pod: str, app: str, component: str, image: str, labels: dict[str, str], process: LocalProcess | None
) -> dict[str, Any]:
    annotations = {LOG_ANNOTATION: str(process.log), PID_ANNOTATION: str(process.pid)} if process else {}
    ours = {"app": app, "component": component, "type": "flink-native-kubernetes"}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": pod, "labels": {**labels, **ours}, "annotations": annotations},
        "spec": {"containers": [{"name": MAIN_CONTAINER, "image": image}], "serviceAccountName": "flink"},
    }


def _running() -> dict[str, Any]:
    ready = {"type": "Ready", "status": "True"}
    state = {"name": MAIN_CONTAINER, "ready": True, "restartCount": 0, "image": "", "imageID": ""}
    return {
        "phase": "Running",
        "conditions": [ready],
        "containerStatuses": [{**state, "state": {"running": {}}}],
    }


def _service(name: str, rest_url: str) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": f"{name}-rest", "labels": {"app": name}, "annotations": {REST_ANNOTATION: rest_url}},
        "spec": {"ports": [{"name": "rest", "port": 8081}], "selector": {"app": name, "component": "jobmanager"}},
    }
