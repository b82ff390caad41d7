"""What a job runs, and how its files get into the pods: from a ConfigMap, or fetched by an init container. Pure.

Jars for the class path go into usrlib of every pod, where Flink looks for them on JobManager and TaskManagers alike.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any
from urllib.parse import urlsplit

from headrace.domain.diff import at
from headrace.domain.job_requests import JobRequest
from headrace.domain.jobs import Job
from headrace.domain.manifest.parts import Platform, as_typed
from headrace.domain.sources import Artifact

ENTRYPOINT = "/opt/headrace/entrypoint.py"
FILES = "/opt/headrace/files"
FILES_VOLUME = "headrace-files"
ARTIFACTS = "/opt/headrace/artifacts"
ARTIFACTS_VOLUME = "headrace-artifacts"
JARS = "/opt/headrace/jars"
JARS_VOLUME = "headrace-jars"
USRLIB = "/opt/flink/usrlib"
_COUNTED = re.compile(r"[0-9]{3}-")


@dataclass(frozen=True)
class Fetched:
    """One file that an init container brings. `name` is what its messages call it; `to` a path in the pod."""

    name: str
    url: str
    to: str
    sha256: str | None = None


@dataclass(frozen=True)
class Program:
    """What a job type adds to a manifest: `spec.job`'s program, what has to be fetched for it, its own options and
    variables."""

    job: Mapping[str, Any]
    fetched: Sequence[Fetched] = ()
    configuration: Mapping[str, str] = field(default_factory=dict)
    env: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Source:
    """A script or jar: where it is in the pod, and what has to be fetched for that."""

    path: str
    fetched: tuple[Fetched, ...] = ()


def source_of(name: str, url: str, sha256: str | None, file_name: str, *, copied: bool = False) -> Source:
    """What a URL names: fetched to the artifacts, or where it is in the image, unless it is to be `copied` from there
    or has a hash to be checked."""
    parts = urlsplit(url)
    if parts.scheme == "local" and sha256 is None and not copied:
        return Source(parts.path)
    to = f"{ARTIFACTS}/{file_name}"
    return Source(to, (Fetched(name, url, to, sha256),))


def file_name(url: str, ending: str, otherwise: str) -> str:
    """The name that a fetched file gets: the URL's own where it is plain, so that tracebacks speak of it."""
    name = PurePosixPath(urlsplit(url).path).name
    stem = name.removesuffix(ending)
    return name if name.endswith(ending) and stem.replace("_", "").replace("-", "").isalnum() else otherwise


def jars_of(request: JobRequest) -> list[Fetched]:
    """The jars for the class path, each under a name of its own."""
    return [
        Fetched("JAR_FILES", jar.url, f"{JARS}/{place:02d}-{_jar_name(jar)}", jar.sha256)
        for place, jar in enumerate(request.jar_files)
    ]


def _jar_name(jar: Artifact) -> str:
    return PurePosixPath(urlsplit(jar.url).path).name[-100:]


def files_name(job: Job, request: JobRequest) -> str:
    """The ConfigMap's name: it changes with the content, so that a redeploy never sees half of another."""
    text = "\n".join(f"{file.name} {file.sha256}" for file in request.source_files())
    return f"{job.deployment_name}-files-{hashlib.sha256(text.encode()).hexdigest()[:16]}"


def config_map_of(manifest: Mapping[str, Any], request: JobRequest) -> tuple[str, dict[str, str]] | None:
    """The ConfigMap that a rendered manifest mounts: its name, and its keys with their texts; None where there is none.
    The manifest says both, whichever release has rendered it."""
    volumes = at(manifest, ("spec", "jobManager", "podTemplate", "spec", "volumes")) or ()
    mounted = next((each["configMap"] for each in volumes if each["name"] == FILES_VOLUME), None)
    if mounted is None:
        return None
    texts = {file.name: file.content for file in request.source_files()}
    return mounted["name"], {item["key"]: texts[item["path"]] for item in mounted["items"] if item["path"] in texts}


def _key(place: int, name: str) -> str:
    """No key of one kind is ever one of the other: what begins as a counted one does is counted."""
    is_plain = "/" not in name and not _COUNTED.match(name)
    return name if is_plain else f"{place:03d}-{PurePosixPath(name).name}"


def job_manager_pod(job: Job, request: JobRequest, platform: Platform, program: Program) -> dict[str, Any]:
    """What the JobManager's pod has beyond the shared one: volumes, their mounts and init containers."""
    pod = _pod_with(request, platform, [*program.fetched, *jars_of(request)])
    files = request.source_files()
    if files:
        items = [{"key": _key(place, file.name), "path": file.name} for place, file in enumerate(files)]
        source = {"configMap": {"name": files_name(job, request), "items": items}}
        pod["volumes"].append({"name": FILES_VOLUME, **source})
        pod["mounts"].append({"name": FILES_VOLUME, "mountPath": FILES})
    return pod


def task_manager_pod(request: JobRequest, platform: Platform) -> dict[str, Any]:
    """What a TaskManager's pod has beyond the shared one: the jars of the class path."""
    return _pod_with(request, platform, jars_of(request))


def _pod_with(request: JobRequest, platform: Platform, fetched: Sequence[Fetched]) -> dict[str, Any]:
    places = [
        (ARTIFACTS_VOLUME, ARTIFACTS, ARTIFACTS),
        (JARS_VOLUME, JARS, USRLIB),
    ]
    used = [place for place in places if any(each.to.startswith(f"{place[1]}/") for each in fetched)]
    filled = [{"name": volume, "mountPath": at} for volume, at, _ in used]
    return {
        "volumes": [{"name": volume, "emptyDir": {}} for volume, _, _ in used],
        "mounts": [{"name": volume, "mountPath": seen} for volume, _, seen in used],
        "initContainers": [_fetcher(request, platform, fetched, filled)] if fetched else [],
    }


def _fetcher(
    request: JobRequest, platform: Platform, fetched: Sequence[Fetched], mounts: list[dict[str, Any]]
) -> dict[str, Any]:
    artifacts = [("--artifact", each.name, each.url, each.to, each.sha256 or "-") for each in fetched]
    bounds = ["--allowed-hosts", ",".join(platform.policy.hosts), "--max-bytes", str(platform.max_artifact_bytes)]
    bounds += ["--termination-log", "/dev/termination-log"]
    words = ["python3", ENTRYPOINT, "fetch", *bounds, *(word for each in artifacts for word in each)]
    container: dict[str, Any] = {
        "name": "fetch",
        "image": request.image or platform.image,
        "command": [as_typed(word) for word in words],
        "volumeMounts": mounts,
    }
    if request.pod.image_pull_policy:
        container["imagePullPolicy"] = request.pod.image_pull_policy
    return container
