"""From a deployment that has no cluster to its processes, as a kubelet brings up a pod: volumes, init containers, main
containers.

What is not there yet is waited for; what fails is tried again now and then. Either shows in the pod alone: what the
operator makes of it is pod_errors.py's.
"""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

from loguru import logger

from local.flink_operator import pods, specs, statuses
from local.flink_operator.cluster import Application, Cluster, latest_checkpoint
from local.flink_operator.deployment import LocalDeployment
from local.flink_operator.environment import NotThere, command, fill, variables
from local.flink_operator.kube import Forbidden
from local.flink_operator.mapping import Container, Filled, PodView, pod_view, program

RETRY_SECONDS = 10.0
INIT_TIMEOUT_SECONDS = 120.0
USRLIB = "/opt/flink/usrlib"


def start_cluster(deployment: LocalDeployment) -> None:
    """Starts a cluster for the spec that was last reconciled, where all that it needs is there. Raises KubeError."""
    if not deployment.may_start():
        return
    _tell_if_lost(deployment)
    spec = statuses.reconciled_spec(deployment.status) or deployment.spec
    view, data_of = pod_view(spec, deployment.folder), deployment.kube.data_of
    deployment.inits = pods.Inits([container.name for container in view.init])
    if not pod_is_taken(deployment) or not _volumes_filled(deployment, view):
        return
    if not _init_containers_done(deployment, view):
        return
    try:
        env = variables(view.main, data_of)
    except NotThere as missing:
        _cannot_configure(deployment, str(missing))
        return
    _start(deployment, _application(deployment, spec, view, env))


def pod_is_taken(deployment: LocalDeployment) -> bool:
    """Whether the API has the JobManager's pod, or takes it now: without a pod nothing is started. Raises KubeError."""
    try:
        pods.show_pending(deployment.kube, deployment.live, deployment.inits)
    except Forbidden as refusal:
        deployment.refusal = str(refusal)
        deployment.start_again_in(RETRY_SECONDS)
        return False
    deployment.refusal = None
    return True


def _volumes_filled(deployment: LocalDeployment, view: PodView) -> bool:
    """Whether each volume's source is there; a kubelet says at once of which it is not."""
    missing = [volume for volume in view.filled if not fill(volume, deployment.kube.data_of)]
    if missing:
        _cannot_mount(deployment, missing[0])
    return not missing


def _tell_if_lost(deployment: LocalDeployment) -> None:
    """A JobManager that an operator before this one has left, and that is not there any more."""
    if deployment.status["jobManagerDeploymentStatus"] in ("READY", "DEPLOYED_NOT_READY"):
        deployment.warn("JobManagerDeployment", "Missing", "Missing JobManager deployment")
        deployment.warn("Job", "RecoverDeployment", "Recovering lost deployment")
        deployment.show_manager("DEPLOYING")


def _start(deployment: LocalDeployment, application: Application) -> None:
    cluster = Cluster(deployment.name, deployment.folder, application)
    for name in ("jobmanager", *(f"taskmanager-1-{n}" for n in range(1, application.task_managers + 1))):
        deployment.launch(_log(deployment, name))
    cluster.start()
    deployment.cluster = cluster
    deployment.show_pods()
    logger.info("{}: started, restoring from {}", deployment.name, application.restore)


def _application(deployment: LocalDeployment, spec: dict[str, Any], view: PodView, env: dict[str, str]) -> Application:
    """A job that has a checkpoint by now goes on from that, whatever it was to start from."""
    job, main = spec["job"], view.main
    configuration = {k: main.mapped(str(v)) for k, v in (spec.get("flinkConfiguration") or {}).items()}
    job_id = deployment.status["jobStatus"]["jobId"]
    checkpoint = latest_checkpoint(configuration.get("execution.checkpointing.dir", ""), job_id)
    return Application(
        job_id=job_id,
        jar=Path(main.mapped(job["jarURI"]).removeprefix("local://")),
        jars=sorted(Path(main.paths.get(USRLIB, "/nowhere")).glob("*.jar")),
        entry_class=job.get("entryClass"),
        arguments=[program(main.mapped(argument)) for argument in job.get("args") or []],
        configuration=configuration,
        env=env,
        parallelism=specs.parallelism(spec),
        task_managers=specs.task_managers(spec),
        restore=checkpoint or statuses.savepoint_to_restore(deployment.status),
        kubernetes={
            "kubernetes.cluster-id": deployment.name,
            "kubernetes.namespace": deployment.kube.namespace,
            "kubernetes.config.file": str(deployment.kube.kubeconfig),
        },
    )


def _init_containers_done(deployment: LocalDeployment, view: PodView) -> bool:
    """Runs one after the other to its end; False where one fails, which keeps the next from being started."""
    for container in view.init:
        ended = _run(container, _log(deployment, container.name), variables(container, deployment.kube.data_of))
        deployment.inits = pods.Inits(deployment.inits.names, [*deployment.inits.started, ended])
        if ended.exit_code != 0:
            _init_failed(deployment, ended)
            return False
    return True


def _run(container: Container, log: Path, env: dict[str, str]) -> pods.Started:
    said = Path(container.paths["/dev/termination-log"])
    said.write_text("")
    log.parent.mkdir(parents=True, exist_ok=True)
    start = pods.launch(log).log_start
    with log.open("ab") as output:
        done = subprocess.run(
            command(container, env),
            env=env,
            stdout=output,
            stderr=output,
            stdin=subprocess.DEVNULL,
            timeout=INIT_TIMEOUT_SECONDS,
            check=False,
        )
    return pods.Started(container.name, log, start, exit_code=done.returncode, said=said.read_text())


def _log(deployment: LocalDeployment, name: str) -> Path:
    return deployment.folder / "logs" / f"{name}.log"


def _cannot_mount(deployment: LocalDeployment, volume: Filled) -> None:
    """It is looked for again at the next look."""

    def show() -> None:
        pod = deployment.kube.pod(pods.manager_pod(deployment.live))
        source = f'{volume.kind.removesuffix("s")} "{volume.name}"'
        words = f'MountVolume.SetUp failed for volume "{volume.folder.name}" : {source} not found'
        if pod is not None:
            deployment.events.warning(pod, "kubelet", "FailedMount", words)

    deployment.attempt(show)


def _init_failed(deployment: LocalDeployment, ended: pods.Started) -> None:
    def show() -> None:
        pod = pods.show_init_failure(deployment.kube, deployment.live, deployment.inits)
        pods.tell_back_off(deployment.events, pod, ended.container)

    _failed(deployment, show)


def _cannot_configure(deployment: LocalDeployment, said: str) -> None:
    """A Secret that is not there keeps the container from starting."""

    def show() -> None:
        reason = "CreateContainerConfigError"
        pods.show_waiting(deployment.kube, deployment.live, deployment.inits, reason, said)

    _failed(deployment, show)


def _failed(deployment: LocalDeployment, show: Callable[[], None]) -> None:
    """The pod is shown as it is until the next try."""
    deployment.start_again_in(RETRY_SECONDS)
    deployment.attempt(show)
