"""PYTHON_SCRIPT: what runs a Python file in a Flink application, and how the file gets there. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any
from urllib.parse import urlsplit

from headrace.domain.jobs import Job
from headrace.domain.manifest.parts import MAIN_CONTAINER, Platform
from headrace.domain.templates import JobRequest, ScriptFile

ENTRYPOINT = "/opt/headrace/entrypoint.py"
ARTIFACTS = "/opt/headrace/artifacts"
ARTIFACTS_VOLUME = "headrace-artifacts"


@dataclass(frozen=True)
class Program:
    """What a job type adds to a manifest: `spec.job`'s program and the JobManager's pod."""

    job: Mapping[str, Any]
    pod: Mapping[str, Any]


def program(job: Job, request: JobRequest, platform: Platform) -> Program:
    """The PythonDriver with our entrypoint; Flink's options come before `--`, the user's arguments after the second."""
    script = f"{ARTIFACTS}/{file_name(request)}"
    image = request.image or platform.image
    return Program(
        job={
            "jarURI": "local:///opt/flink/opt/flink-python.jar",
            "entryClass": "org.apache.flink.client.python.PythonDriver",
            "args": [
                *("-pyclientexec", "python3", "-pyexec", "python3", "-py", ENTRYPOINT, "--"),
                *("run", script, "--", *request.args),
            ],
        },
        pod=_pod(job, request, platform, script, image),
    )


def file_name(request: JobRequest) -> str:
    """The script's file name in the pod: the user's where it is a plain .py name, else job.py."""
    if isinstance(request.script, ScriptFile):
        return request.script.name
    name = PurePosixPath(urlsplit(request.script).path).name
    return name if name.endswith(".py") and name.replace("_", "").replace("-", "")[:-3].isalnum() else "job.py"


def files_name(job: Job, script: ScriptFile) -> str:
    """The ConfigMap's name: it changes with the content, so that a redeploy never sees half of another."""
    return f"{job.deployment_name}-files-{script.sha256[:8]}"


def _pod(job: Job, request: JobRequest, platform: Platform, script: str, image: str) -> dict[str, Any]:
    mount = {"name": ARTIFACTS_VOLUME, "mountPath": ARTIFACTS}
    pod: dict[str, Any] = {"containers": [{"name": MAIN_CONTAINER, "volumeMounts": [mount]}]}
    if isinstance(request.script, ScriptFile):
        pod["volumes"] = [{"name": ARTIFACTS_VOLUME, "configMap": {"name": files_name(job, request.script)}}]
        return pod
    pod["volumes"] = [{"name": ARTIFACTS_VOLUME, "emptyDir": {}}]
    pod["initContainers"] = [
        {
            "name": "fetch",
            "image": image,
            "command": ["python3", ENTRYPOINT, "fetch", *_fetch_arguments(request.script, request, platform, script)],
            "volumeMounts": [mount],
        }
    ]
    return pod


def _fetch_arguments(url: str, request: JobRequest, platform: Platform, script: str) -> list[str]:
    return [
        *("--url", url, "--to", script),
        *("--allowed-hosts", ",".join(platform.allowed_hosts)),
        *("--max-bytes", str(platform.max_artifact_bytes)),
        *(("--sha256", request.sha256) if request.sha256 else ()),
        *("--termination-log", "/dev/termination-log"),
    ]
