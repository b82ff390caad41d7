"""What tests begin from: a job, an operation, an installation, and a request of each shape that there is."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from headrace.domain.jobs import Job
from headrace.domain.manifest import Platform
from headrace.domain.operations import KindName, Operation, Source, State
from headrace.domain.policy import Policy
from headrace.domain.runtimes.operator import OperatorPlan
from headrace.ports import FlinkRuntime
from headrace.services.runtimes import Installed, Runtimes

NOW = datetime(2026, 1, 1, tzinfo=UTC)
JOB = Job(tenant="t", job_id="j", cluster="c", namespace="n", deployment_name="j", created_at=NOW, updated_at=NOW)
OPERATION = Operation(
    id="o",
    tenant="t",
    job_id="j",
    sequence=1,
    kind=KindName.SUBMIT,
    arguments={"parallelism": 2},
    arguments_hash="",
    idempotency_key="k",
    source=Source(via="http"),
    accepted_at=NOW,
    updated_at=NOW,
    deadline_seconds=1e9,
    state=State.RUNNING,
)

POLICY = Policy(
    hosts=("files.example.com",),
    images=("headrace/flink:*", "f:1.20.3"),
    service_accounts=("flink",),
    secrets=("s3", "registry"),
    config_maps=("common",),
    claims=("flink-state", "models"),
    host_paths=("/srv/flink",),
    annotations=("example.com/*",),
    tolerations=("flink=yes:NoSchedule",),
)
OPEN = replace(
    POLICY,
    **dict.fromkeys(
        (
            *("images", "service_accounts", "secrets", "config_maps", "claims"),
            *("annotations", "tolerations", "priority_classes"),
        ),
        ("*",),
    ),
    host_paths=("/",),
)
"""Whatever a request names is allowed, but for hosts and Flink's options."""

PLATFORM = Platform(
    image="headrace/flink:2.2.1",
    flink_version="v2_2",
    state_location="file:///opt/headrace/state",
    state_volume="pvc:flink-state",
    service_account="flink",
    max_artifact_bytes=1_000_000,
    policy=POLICY,
)


def pod_labels(job_id: str = "orders", component: str = "jobmanager") -> dict[str, str]:
    """What a pod of this job has: the operator's labels, and ours from its template."""
    return {"app": job_id, "component": component, "headrace.io/job": job_id, "headrace.io/tenant": "default"}


ORDERS = Job(
    tenant="default",
    job_id="orders",
    cluster="default",
    namespace="default",
    deployment_name="orders",
    created_at=NOW,
    updated_at=NOW,
)
FILE = {"name": "job.py", "content": "print(1)\n"}
HOST = "https://files.example.com"
SHARED = {"volume": {"host_path": "/srv/flink"}, "location": "file:///srv/flink"}
REQUESTS: dict[str, dict[str, Any]] = {
    "file": {"script": FILE, "args": ["--rate", "5"], "env": {"MODE": "fast"}, "labels": {"team": "a"}},
    "url": {"script": f"{HOST}/jobs/count.py", "sha256": "b" * 64, "parallelism": 4},
    "replicas": {"script": FILE, "resources": {"task_manager": {"replicas": 2, "slots": 2}}},
    "folder": {
        "script": FILE,
        "files": [
            {"name": "shop/prices.py", "content": "VAT = 0.2\n"},
            {"name": "requirements.txt", "content": "attrs==25.4.0\n"},
        ],
        "jar_files": f"{HOST}/kafka.jar,local:///opt/connectors/jdbc.jar",
    },
    "jar": {"type": "JAR", "jar": f"{HOST}/count.jar", "sha256": "c" * 64, "main_class": "com.example.Count"},
    "jar-in-the-image": {
        "type": "JAR",
        "jar": "local:///opt/flink/usrlib/count.jar",
        "args": ["--rate", "5"],
        "jar_files": [{"url": f"{HOST}/kafka.jar", "sha256": "d" * 64}],
    },
    "sql": {"type": "SQL", "sql": "INSERT INTO t SELECT 1;\n", "jar_files": f"{HOST}/kafka.jar"},
    "sql-url": {"type": "SQL", "script": f"{HOST}/jobs/count.sql", "state": {"location": "s3://bucket/flink"}},
    "flink-1-20": {"script": FILE, "flink_version": "v1_20", "image": "headrace/flink:1.20.3", "state": SHARED},
    "jar-1-20": {"type": "JAR", "jar": f"{HOST}/count.jar", "flink_version": "v1_20", "image": "headrace/flink:1.20.3"},
    "sql-1-20": {"type": "SQL", "sql": "INSERT INTO t SELECT 1;\n", "flink_version": "v1_20", "image": "f:1.20.3"},
    "pod": {
        "script": FILE,
        "env": {
            "AWS_SECRET_ACCESS_KEY": {"secretKeyRef": {"name": "s3", "key": "secret"}},
            "DB_PASSWORD": {"sealed": "c2VhbGVk"},
        },
        "env_from": [{"config_map_ref": {"name": "common"}, "prefix": "APP_"}, {"secretRef": {"name": "s3"}}],
        "pod": {
            "volumes": [
                {"name": "models", "mount_path": "/models", "persistent_volume_claim": "models", "readOnly": True}
            ],
            "node_selector": {"disk": "ssd"},
            "tolerations": [{"key": "flink", "operator": "Equal", "value": "yes", "effect": "NoSchedule"}],
            "affinity": {
                "node_affinity": {
                    "required_during_scheduling_ignored_during_execution": {
                        "node_selector_terms": [
                            {"match_expressions": [{"key": "zone", "operator": "In", "values": ["a", "b"]}]}
                        ]
                    }
                }
            },
            "annotations": {"example.com/team": "a"},
            "image_pull_policy": "IfNotPresent",
            "image_pull_secrets": ["registry"],
        },
        "flink_configuration": {"job.autoscaler.enabled": "true", "pipeline.max-parallelism": 128},
    },
}
BUCKET = replace(PLATFORM, state_location="s3://bucket/flink", state_volume="")


def runtimes_of(adapter: FlinkRuntime) -> Runtimes:
    """The runtimes of an installation that has the operator's alone, behind this adapter."""
    return Runtimes({"operator": Installed(adapter, OperatorPlan())})
