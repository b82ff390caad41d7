"""What Flink's command line is told, from the manifest that was rendered: its words, its options, its pod templates.

Pure. Options go into its configuration file and not into its words: a process list shows those.
Follows Flink 1.20 and 2.x (`flink run`, DeploymentOptions, KubernetesConfigOptions).
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from typing import Any

from headrace.domain.diff import at
from headrace.domain.flink_options import options_in
from headrace.domain.manifest import slots_of
from headrace.domain.vertices import LONGEST_COUNT

FIRST_WITH_RUN = (2, 0)
"""The release from which `run` starts an application cluster; before it is `run-application`."""

OF_THE_OPERATOR = ("kubernetes.operator.", "job.autoscaler.")
"""Options that only the operator reads."""

KUBECONFIG = "kubernetes.config.file"
JAVA_OPTIONS = "env.java.opts.all"
OLDER_JAVA_OPTIONS = "env.java.opts"
PIPELINE_JOB_ID = "$internal.pipeline.job-id"
HA_STORAGE = "high-availability.storageDir"

PodTemplate = Mapping[str, Any]


def flink_job_id(job: str, sequence: int, generation: int) -> str:
    """Flink's id of what this operation starts: the same for a repeat, another for every start. `job` names it among
    all."""
    return hashlib.sha256(f"{job}\n{sequence}\n{generation}".encode()).hexdigest()[:32]


def trigger_id(job_id: str, generation: int, attempt: int) -> str:
    """Flink's id of a savepoint that is asked for: a request that is sent again is the same one."""
    return hashlib.sha256(f"{job_id}\n{generation}\n{attempt}".encode()).hexdigest()[:32]


def words(spec: Mapping[str, Any], release: Sequence[int], start_from: str | None) -> list[str]:
    """The command line behind `bin/flink`. What follows the jar is the program's, whatever it looks like: Flink's
    parser stops at the first word that is no option of its own."""
    job = spec["job"]
    verb = "run" if tuple(release) >= FIRST_WITH_RUN else "run-application"
    found = [verb, "--target", "kubernetes-application"]
    if start_from:
        found += ["--fromSavepoint", start_from]
        found += ["--allowNonRestoredState"] if job.get("allowNonRestoredState") else []
    if job.get("entryClass"):
        found += ["--class", str(job["entryClass"])]
    return [*found, *([str(job["jarURI"])] if job.get("jarURI") else []), *map(str, job.get("args") or ())]


def options(name: str, namespace: str, spec: Mapping[str, Any], job_id: str) -> dict[str, str]:
    """Flink's configuration: what the spec says, and what the operator would add to it. The cluster and the end of its
    job stay to be seen until somebody has written them down."""
    given = {
        key: str(value)
        for key, value in options_in(spec).items()
        if not key.startswith(OF_THE_OPERATOR) and value is not None
    }
    pull_policy = spec.get("imagePullPolicy")
    return {
        "pipeline.name": name,
        "web.cancel.enable": "false",
        **given,
        **_sizes("jobmanager", spec.get("jobManager") or {}),
        **_sizes("taskmanager", spec.get("taskManager") or {}),
        "kubernetes.cluster-id": name,
        "kubernetes.namespace": namespace,
        "kubernetes.container.image.ref": str(spec["image"]),
        **({"kubernetes.container.image.pull-policy": str(pull_policy)} if pull_policy else {}),
        "kubernetes.service-account": str(spec.get("serviceAccount") or "default"),
        "kubernetes.rest-service.exposed.type": given.get("kubernetes.rest-service.exposed.type", "ClusterIP"),
        "parallelism.default": str(parallelism_of(spec)),
        "execution.shutdown-on-application-finish": "false",
        "execution.submit-failed-job-on-application-error": "true",
        **_results_kept(given, name, job_id),
        PIPELINE_JOB_ID: job_id,
    }


def with_java_options(options: Mapping[str, str], of_distribution: str) -> dict[str, str]:
    """With what the distribution gives its JVMs before the job's own, which count where both say something: without the
    modules that it opens Flink does not start. The job's stand under today's key: in Flink's file no key has both a
    value and others below it."""
    found = {key: value for key, value in options.items() if key not in (JAVA_OPTIONS, OLDER_JAVA_OPTIONS)}
    own = options.get(JAVA_OPTIONS) or options.get(OLDER_JAVA_OPTIONS) or ""
    both = f"{of_distribution} {own}".strip()
    return {**found, **({JAVA_OPTIONS: both} if both else {})}


def _results_kept(given: Mapping[str, str], name: str, job_id: str) -> dict[str, str]:
    """That a job has ended is kept, where its HA metadata are: a JobManager whose pod comes back after the end would
    run the program again, and from its beginning, since the HA metadata are gone by then (Flink's JobResultStore, which
    forgets by default; FLINK-27569)."""
    storage = given.get(HA_STORAGE)
    if not storage:
        return {}
    path = f"{storage.rstrip('/')}/job-result-store/{name}/{job_id}"
    return {"job-result-store.delete-on-commit": "false", "job-result-store.storage-path": path}


def parallelism_of(spec: Mapping[str, Any]) -> int:
    """The parallelism of a spec: of all the slots of its TaskManagers, where those are counted."""
    replicas = at(spec, ("taskManager", "replicas"))
    return int(replicas) * slots_of({"spec": spec}) if replicas else int(spec["job"].get("parallelism") or 1)


def _sizes(component: str, said: Mapping[str, Any]) -> dict[str, str]:
    resource = said.get("resource") or {}
    found = {}
    if resource.get("memory"):
        found[f"{component}.memory.process.size"] = flink_size(str(resource["memory"]))
    if resource.get("cpu"):
        found[f"kubernetes.{component}.cpu.amount"] = str(float(resource["cpu"]))
    return found


def flink_size(text: str) -> str:
    """A size as Flink reads it: it knows no `Gi`, and means 1024 by each of its letters."""
    return re.sub(r"(?<=[0-9KMG])i$", "", text.strip())


def pod_templates(spec: Mapping[str, Any]) -> dict[str, PodTemplate]:
    """The pod templates of both components, each what they share with what is its own."""
    shared = spec.get("podTemplate") or {}
    return {
        component: _with(shared, at(spec, (part, "podTemplate")) or {})
        for component, part in (("jobmanager", "jobManager"), ("taskmanager", "taskManager"))
    }


def _with(shared: Any, own: Any) -> Any:
    """As the operator merges two templates: mappings by key, lists by position."""
    if isinstance(shared, Mapping) and isinstance(own, Mapping):
        both = {key: _with(shared[key], own[key]) for key in shared if key in own}
        return {**shared, **own, **both}
    if isinstance(shared, list) and isinstance(own, list):
        both_at = [_with(each, other) for each, other in zip(shared, own, strict=False)]
        return [*both_at, *shared[len(own) :], *own[len(shared) :]]
    return own


def release_of(flink_version: str) -> tuple[int, ...]:
    """The release of spec.flinkVersion: `v2_2` as (2, 2); empty for what is none."""
    parts = flink_version.removeprefix("v").split("_")
    return tuple(map(int, parts)) if all(p.isdecimal() and len(p) <= LONGEST_COUNT for p in parts) else ()


def another_release(name: str, spec: Mapping[str, Any], release: Sequence[int]) -> str:
    """What is wrong where the spec is for another Flink than the launcher's; empty where it is for that one."""
    wanted = release_of(str(spec.get("flinkVersion") or ""))
    if not wanted or wanted == tuple(release)[: len(wanted)]:
        return ""
    asked, has = ".".join(map(str, wanted)), ".".join(map(str, release))
    return (
        f"{name} wants Flink {asked}, and the launcher has {has} (FLINK_HOME): set flink_version and image to that "
        "release, or give the launcher the other distribution"
    )
