"""A new cluster for a deployment's spec, as its status tells of it: first what is asked for, then that it is deployed.

Its processes are started at the look that finds it DEPLOYED and without a cluster (starting.py).
"""

from __future__ import annotations

import secrets

from local.flink_operator import specs, statuses
from local.flink_operator.deployment import LocalDeployment


def deploy_first(deployment: LocalDeployment) -> None:
    """At its first sight. One that is asked for suspended has to be changed before it runs."""
    job = deployment.spec["job"]
    restore = job.get("initialSavepointPath")
    status = statuses.with_reconciled(statuses.new_status(), deployment.live, "UPGRADING", "suspended", first=True)
    status = statuses.with_job(status, None, upgradeSavepointPath=restore)
    deployment.write(statuses.with_task_managers(status, deployment.name, 0))
    if job.get("state") != "suspended":
        _deploy(deployment, restore, first=True)


def deploy_again(deployment: LocalDeployment, savepoint: str | None) -> None:
    """After its last cluster has ended: from this savepoint, else the same job from its last state."""
    if savepoint is not None:
        _deploy(deployment, savepoint)
        return
    deployment.write(statuses.with_facts(deployment.status, upgradeSavepointPath=statuses.LAST_STATE))
    _deploy(deployment, None, job_id=deployment.status["jobStatus"].get("jobId"))


def _deploy(
    deployment: LocalDeployment, restore: str | None, *, job_id: str | None = None, first: bool = False
) -> None:
    """The job gets a new id unless its last state is what it goes on from."""
    if job_id is None:
        deployment.attempt(lambda: deployment.kube.forget_high_availability(deployment.name))
    deployment.tell("JobManagerDeployment", "Submit", "Starting deployment")
    deployment.write(statuses.with_facts(deployment.status, jobId=job_id or secrets.token_hex(16)))
    deployment.restore_from = restore
    status = statuses.with_reconciled(deployment.status, deployment.live, "DEPLOYED", "running", first=first)
    status = statuses.reconciling({**status, "lifecycleState": "DEPLOYED"}, "DEPLOYING")
    status = statuses.with_task_managers(status, deployment.name, specs.task_managers(deployment.spec))
    deployment.write(statuses.with_error(status, None))
