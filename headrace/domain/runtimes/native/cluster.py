"""The objects of a native cluster, and the Deployment as the FlinkDeployment that the operator would show. Pure.

The Deployment is the record: it stands before anything is started and while the job rests, with no replicas.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from headrace.domain.deployments import JOB_ID_ANNOTATION, TENANT_ANNOTATION
from headrace.domain.manifest.parts import MAIN_CONTAINER
from headrace.domain.runtimes.native.acts import Shown, next_act, state_wanted
from headrace.domain.runtimes.native.records import (
    DONE_ANNOTATION,
    REMOVING_ANNOTATION,
    WANTED_ANNOTATION,
    Done,
    Wanted,
    done_in,
    text_of,
    wanted_in,
)

TYPE = "flink-native-kubernetes"
HIDDEN = frozenset({WANTED_ANNOTATION, DONE_ANNOTATION, REMOVING_ANNOTATION})
HA_LABEL = {"configmap-type": "high-availability"}


def labels_of_cluster(name: str) -> dict[str, str]:
    """What Flink puts on everything of a cluster."""
    return {"app": name, "type": TYPE}


def labels_of_manager(name: str) -> dict[str, str]:
    """What it puts on the JobManager."""
    return {**labels_of_cluster(name), "component": "jobmanager"}


def is_ha_metadata(name: str, labels: Mapping[str, str], *, is_owned: bool) -> bool:
    """Whether a ConfigMap has a cluster's HA metadata, which nobody owns. Flink 2 puts on it what is on everything of a
    cluster, earlier ones a label of its own."""
    items = labels.items()
    return not is_owned and (labels_of_cluster(name).items() <= items or {"app": name, **HA_LABEL}.items() <= items)


def shell(manifest: Mapping[str, Any]) -> dict[str, Any]:
    """The Deployment of a run before anything of it is started: nothing runs by it."""
    metadata, spec = manifest["metadata"], manifest["spec"]
    labels = labels_of_manager(metadata["name"])
    container = {"name": MAIN_CONTAINER, "image": spec.get("image") or "none"}
    wanted = text_of(Wanted(without_metadata(manifest)))
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {
            "name": metadata["name"],
            "namespace": metadata["namespace"],
            "labels": {**(metadata.get("labels") or {}), **labels},
            "annotations": {
                **(metadata.get("annotations") or {}),
                WANTED_ANNOTATION: wanted,
                DONE_ANNOTATION: text_of(Done()),
            },
        },
        "spec": {
            "replicas": 0,
            "selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": labels}, "spec": {"containers": [container]}},
        },
    }


def without_metadata(manifest: Mapping[str, Any]) -> dict[str, Any]:
    """The spec alone, as plain JSON."""
    found: dict[str, Any] = json.loads(json.dumps(manifest["spec"]))
    return found


def is_a_record(raw: Mapping[str, Any]) -> bool:
    """Whether a Deployment is one of ours, and not somebody else's under the name."""
    annotations = raw["metadata"].get("annotations") or {}
    return JOB_ID_ANNOTATION in annotations and TENANT_ANNOTATION in annotations


def is_removing(raw: Mapping[str, Any]) -> bool:
    """Whether it is on its way out."""
    metadata = raw["metadata"]
    return bool(metadata.get("deletionTimestamp") or (metadata.get("annotations") or {}).get(REMOVING_ANNOTATION))


def is_scaled_down(raw: Mapping[str, Any]) -> bool:
    """Whether no JobManager is asked for."""
    return (raw.get("spec") or {}).get("replicas") == 0


def as_flink_deployment(raw: Mapping[str, Any], shown: Shown | None) -> dict[str, Any]:
    """The Deployment as a FlinkDeployment; without a status where nobody has looked beside it. Raises Unreadable."""
    metadata = raw["metadata"]
    annotations = dict(metadata.get("annotations") or {})
    own = {key: text for key, text in annotations.items() if key not in HIDDEN}
    found = {key: metadata.get(key) for key in ("name", "namespace", "uid", "resourceVersion", "deletionTimestamp")}
    if is_removing(raw):
        found["deletionTimestamp"] = found["deletionTimestamp"] or annotations.get(REMOVING_ANNOTATION)
    flinks = labels_of_manager(str(metadata["name"]))
    labels = {key: text for key, text in (metadata.get("labels") or {}).items() if flinks.get(key) != text}
    whole: dict[str, Any] = {
        "apiVersion": "flink.apache.org/v1beta1",
        "kind": "FlinkDeployment",
        "metadata": {**{k: v for k, v in found.items() if v is not None}, "labels": labels, "annotations": own},
        "spec": {},
    }
    if not is_a_record(raw):
        whole["metadata"]["generation"] = metadata.get("generation") or 1
        return whole
    wanted = wanted_in(annotations)
    whole["metadata"]["generation"] = wanted.generation
    whole["spec"] = wanted.spec
    if shown is not None:
        whole["status"] = status_of(wanted, done_in(annotations), shown, is_removing=is_removing(raw))
    return whole


def status_of(wanted: Wanted, done: Done, shown: Shown, *, is_removing: bool) -> dict[str, Any]:
    """The status that the operator would write, and the act that is due."""
    act = next_act(wanted, done, shown, is_removing=is_removing)
    due = {"act": act.value} if act is not None else {}
    error = {"error": json.dumps({"type": done.error.type, "message": done.error.message})} if done.error else {}
    if done.launch is None and done.error is None:
        return due
    manager = _manager(done, shown)
    return {
        **due,
        **error,
        **({"error": shown.trouble} if shown.trouble and not error else {}),
        **({"observedGeneration": done.generation} if done.generation else {}),
        "lifecycleState": _lifecycle(wanted, done, shown),
        "jobManagerDeploymentStatus": manager,
        **({"jobStatus": _job(done, shown)} if done.launch is not None else {}),
        "reconciliationStatus": {"state": "DEPLOYED", "lastReconciledSpec": json.dumps({"spec": _reconciled(done)})},
        **({"hasLed": True} if shown.has_led else {}),
    }


def _lifecycle(wanted: Wanted, done: Done, shown: Shown) -> str:
    if done.error is not None and done.error.is_final:
        return "FAILED"
    if not done.is_up:
        rests = state_wanted(wanted.spec) == "suspended" and done.generation == wanted.generation
        return "SUSPENDED" if rests else "UPGRADING"
    state = shown.flink.state if shown.flink is not None else ""
    if state == "FAILED":
        return "FAILED"
    return "STABLE" if state in ("RUNNING", "FINISHED", "CANCELED") else "DEPLOYED"


def _manager(done: Done, shown: Shown) -> str:
    if not done.is_up or (done.stop is not None and done.stop.trigger is None):
        return "MISSING"
    if shown.flink is not None:
        return "READY"
    if shown.trouble:
        return "ERROR"
    return "DEPLOYED_NOT_READY" if shown.is_ready else "DEPLOYING"


def _job(done: Done, shown: Shown) -> dict[str, Any]:
    assert done.launch is not None  # noqa: S101 - the caller has looked
    flink = shown.flink
    state = "FINISHED" if not done.is_up else (flink.state if flink is not None else "") or "RECONCILING"
    found: dict[str, Any] = {"jobId": done.launch.job_id, "state": state}
    if done.is_up and flink is not None:
        found |= {key: text for key, text in (("startTime", flink.start_time), ("jobName", flink.name)) if text}
    path = _upgrade_path(done)
    if path:
        found["upgradeSavepointPath"] = path
    savepoints: dict[str, Any] = {}
    if done.save is not None:
        savepoints["triggerId"] = done.save.trigger
    if done.saved is not None:
        last = {"location": done.saved.location, "triggerNonce": done.saved.nonce, "formatType": "CANONICAL"}
        savepoints["lastSavepoint"] = last
    return {**found, **({"savepointInfo": savepoints} if savepoints else {})}


def _upgrade_path(done: Done) -> str | None:
    if done.left is not None:
        return done.left.path
    return done.launch.start_from if done.launch is not None else None


def _reconciled(done: Done) -> dict[str, Any]:
    """The spec that was carried out last, with how the job was ended by it."""
    spec = done.spec or {}
    if done.left is None:
        return spec
    return {**spec, "job": {**(spec.get("job") or {}), "upgradeMode": done.left.by}}
