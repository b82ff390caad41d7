"""What a deployment that somebody else made has to be so that a job can be made of it; what is written on it, and what
is kept of it. Pure; knows no server. Its spec is never touched here.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from headrace.domain import deployments as wire
from headrace.domain import diff
from headrace.domain.jobs import Job, JobKey
from headrace.domain.makers import keeper_of
from headrace.domain.manifest import Stamp, annotations_of, stamped, with_job
from headrace.domain.manifest.parts import labels_of
from headrace.domain.secrets import found_in, is_secret
from headrace.printable import printable

OURS = "headrace.io/"
"""What our labels and annotations begin with."""

LONGEST_ID_SHOWN = 100
"""What stands in an annotation may be anybody's words."""

MOST_KEPT_BYTES = 150_000
"""The size of a spec as JSON, without its secrets, that a job's document takes."""

KEEPING_STATE = ("savepoint", "last-state")
"""Upgrade modes by which a change of the spec goes on from the job's state."""


def why_not(whole: Mapping[str, Any], key: JobKey) -> str:
    """Why this job cannot be made of this deployment, in words; empty where it can. One that has the job's own marks is
    taken: whoever asks has no record of it, as after a database was restored from before the job."""
    metadata, spec = whole["metadata"], whole.get("spec") or {}
    place = f"FlinkDeployment {metadata.get('namespace')}/{metadata.get('name')}"
    if metadata.get("deletionTimestamp"):
        return f"{place} is being deleted"
    annotations = metadata.get("annotations") or {}
    if any(name in annotations for name in (wire.JOB_ID_ANNOTATION, wire.TENANT_ANNOTATION)) and not is_of(whole, key):
        return f"{place} is {_whose(annotations, key.tenant)} already"
    if not isinstance(spec.get("job"), Mapping):
        return f"{place} has no spec.job: it is a session cluster, and its jobs are no deployments of their own"
    if len(json.dumps(without_secrets(spec))) > MOST_KEPT_BYTES:
        return f"{place} has a spec of more than {MOST_KEPT_BYTES} bytes: a job's record does not take so much"
    return ""


def is_of(whole: Mapping[str, Any], key: JobKey) -> bool:
    """Whether the deployment has the marks of this very job."""
    annotations = whole["metadata"].get("annotations") or {}
    return (annotations.get(wire.TENANT_ANNOTATION), annotations.get(wire.JOB_ID_ANNOTATION)) == (
        key.tenant,
        key.job_id,
    )


def _whose(annotations: Mapping[str, Any], tenant: str) -> str:
    if annotations.get(wire.TENANT_ANNOTATION) != tenant:
        return "another tenant's job"
    return f"job {printable(str(annotations.get(wire.JOB_ID_ANNOTATION)))[:LONGEST_ID_SHOWN]}"


def told_of(whole: Mapping[str, Any]) -> str:
    """What whoever adopts it should know: that somebody else may write it back. Empty where nobody is known to."""
    keeper = keeper_of(whole["metadata"])
    return f"{keeper} keeps it too, and may write back what is changed here" if keeper else ""


def manifest_as_found(job: Job, whole: Mapping[str, Any], stamp: Stamp) -> dict[str, Any]:
    """What is kept as written by us: the spec as it was found. What looks like a secret is left out, and so stays what
    it is in the deployment. The first change of the spec asks for the job's state to be kept, whatever it said."""
    found: dict[str, Any] = {
        "apiVersion": whole.get("apiVersion"),
        "kind": whole.get("kind"),
        "metadata": {"name": job.deployment_name, "namespace": job.namespace, "labels": labels_of(job)},
        "spec": without_secrets(whole["spec"]),
    }
    mode = found["spec"]["job"].get("upgradeMode")
    keeping = with_job(found, {"upgradeMode": mode if mode in KEEPING_STATE else KEEPING_STATE[0]})
    return stamped(keeping, job, stamp)


def claiming(job: Job, whole: Mapping[str, Any], stamp: Stamp) -> Sequence[diff.Change]:
    """The labels and annotations that make a deployment the job's; nothing else of it changes."""
    wanted = {"metadata": {"labels": labels_of(job), "annotations": annotations_of(job, stamp)}}
    return diff.changes({}, wanted, whole)


def letting_go(whole: Mapping[str, Any]) -> Sequence[diff.Change]:
    """What takes our labels and annotations off again; everybody else's stay."""
    return [diff.Change(path, removed=True) for path in _ours_on(whole["metadata"])]


def _ours_on(metadata: Mapping[str, Any]) -> Iterator[tuple[str, ...]]:
    for kind in ("labels", "annotations"):
        for name, value in (metadata.get(kind) or {}).items():
            if name.startswith(OURS) or (name, value) == (wire.MANAGED_BY_LABEL, wire.MANAGED_BY):
                yield ("metadata", kind, name)


def without_secrets(fields: Mapping[str, Any]) -> dict[str, Any]:
    """The fields without those that look like a secret; of a list with one in it nothing is left."""
    return {
        name: without_secrets(value) if isinstance(value, Mapping) else value
        for name, value in fields.items()
        if isinstance(value, Mapping) or not _tells(str(name), value)
    }


def tells_a_secret(changes: Sequence[diff.Change]) -> bool:
    """Whether one of these changes holds what looks like a secret."""
    return any(_tells(change.path[-1], change.value) for change in changes if not change.removed)


def _tells(name: str, value: Any) -> bool:
    """Whether a value, or any part of one, is to be kept from readers."""
    if isinstance(value, str):
        return is_secret(name, value)
    if isinstance(value, Mapping):
        named = value.get("name")
        is_variable = isinstance(named, str) and isinstance(value.get("value"), str)
        return (is_variable and is_secret(str(named), value["value"])) or any(
            _tells(str(key), each) for key, each in value.items() if not (is_variable and key == "value")
        )
    if isinstance(value, list):
        follows = zip(["", *value], value, strict=False)
        return any(_tells("", each) or _is_value_of(before, each) for before, each in follows)
    return found_in(str(value)) is not None


def _is_value_of(option: Any, value: Any) -> bool:
    """Whether an argument is the secret value of the option before it: `--password x`."""
    if not isinstance(option, str) or not isinstance(value, str) or not option.startswith("-"):
        return False
    return is_secret(option.lstrip("-"), value)
