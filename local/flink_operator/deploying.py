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
    status = statuses.with_reconciled(statuses.new_status(), deployment.live, "UPGRADING", "suspended", first=True)
    status = statuses.with_job(status, None, upgradeSavepointPath=job.get("initialSavepointPath"))
    deployment.write(statuses.with_task_managers(status, deployment.name, 0))
    if job.get("state") != "suspended":
        deploy_again(deployment)


def deploy_again(deployment: LocalDeployment) -> None:
    """After its last cluster has ended, as that was left: from the savepoint in its status, from the same job's last
    state, or from nothing. A first one starts from what its spec says."""
    if statuses.is_first(deployment.status):
        _deploy(deployment, first=True)
        return
    mode = statuses.left_by(deployment.status)
    if mode == "last-state":
        _deploy(deployment, job_id=deployment.status["jobStatus"].get("jobId"), path=statuses.LAST_STATE)
        return
    if mode == "stateless":
        deployment.write(statuses.with_facts(deployment.status, upgradeSavepointPath=None))
    _deploy(deployment)


def deploy_from(deployment: LocalDeployment, path: str) -> None:
    """After its last cluster has ended, from the savepoint that the spec names: STABLE at once, long before it runs."""
    facts = statuses.with_facts(deployment.status, upgradeSavepointPath=path, jobId=secrets.token_hex(16))
    deployment.write(facts)
    _deploy(deployment, job_id=facts["jobStatus"]["jobId"], mode="savepoint", lifecycle="STABLE")


def _deploy(
    deployment: LocalDeployment,
    *,
    job_id: str | None = None,
    path: str | None = None,
    mode: str | None = None,
    lifecycle: str = "DEPLOYED",
    first: bool = False,
) -> None:
    """The job gets a new id unless its last state is what it goes on from."""
    if statuses.left_by(deployment.status) != "last-state" or mode is not None:
        deployment.attempt(lambda: deployment.kube.forget_high_availability(deployment.name))
    deployment.tell("JobManagerDeployment", "Submit", "Starting deployment")
    deployment.write(statuses.with_facts(deployment.status, jobId=job_id or secrets.token_hex(16)))
    status = statuses.with_reconciled(deployment.status, deployment.live, "DEPLOYED", "running", mode=mode, first=first)
    status = statuses.reconciling({**status, "lifecycleState": lifecycle}, "DEPLOYING")
    if path is not None:
        status = statuses.with_facts(status, upgradeSavepointPath=path)
    if lifecycle == "STABLE":
        status = statuses.stable(status)
    status = statuses.with_task_managers(status, deployment.name, specs.task_managers(deployment.spec))
    deployment.write(statuses.with_error(status, None))
