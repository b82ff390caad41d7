"""One deployment's life: what its spec asks for is brought about, and what its processes show becomes its status.

Every status follows from processes and the JobManager's REST, never from a script of delays. The sequences are those
of a real operator (tests/data/recordings).
"""

from __future__ import annotations

import copy
import secrets
import shutil
import subprocess
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from loguru import logger

from local.flink_operator import changes, pods, statuses
from local.flink_operator.cluster import Application, Cluster, end_what_is_left, latest_checkpoint
from local.flink_operator.environment import NotThere, command, fill, variables
from local.flink_operator.events import Events
from local.flink_operator.kube import Kube, KubeError
from local.flink_operator.mapping import Container, PodView, pod_view, program
from local.flink_operator.rest import SavepointFailed, effective_state
from local.flink_operator.statuses import EXCEPTIONS, SERIALIZED, Status

FINALIZER = "flinkdeployments.flink.apache.org/finalizer"
LOOK_SECONDS = 0.5
RETRY_SAVEPOINT_SECONDS = 15.0
RETRY_INIT_SECONDS = 10.0
INIT_TIMEOUT_SECONDS = 120.0
EXCEPTIONS_SECONDS = 10.0
SHOWN_LINES = 5
UNREACHABLE_AFTER_SECONDS = 10.0
USRLIB = "/opt/flink/usrlib"
LAST_STATE = "KUBERNETES_OPERATOR_LAST_STATE"
IGNORED_KEYS = ("upgradeMode", "allowNonRestoredState", "initialSavepointPath", "savepointTriggerNonce")


class Invalid(Exception):
    """The spec is one that the operator's validation refuses."""


class Reconciler(threading.Thread):
    """A thread for one deployment (its uid), from its first sight until it is gone."""

    def __init__(
        self, kube: Kube, events: Events, deployment: dict[str, Any], data: Path, is_stopping: threading.Event
    ) -> None:
        self.deployment_name = deployment["metadata"]["name"]
        self._uid = deployment["metadata"]["uid"]
        super().__init__(name=f"deployment-{self.deployment_name}", daemon=True)
        self._kube = kube
        self._events = events
        self._folder = data / f"{self.deployment_name}-{self._uid[:8]}"
        self._is_stopping = is_stopping
        self._cluster: Cluster | None = None
        self._status: Status = {}
        self._not_before = 0.0
        self._silent_since: float | None = None
        self._restore_from: str | None = None
        self._inits = pods.Inits()
        self._launches: dict[Path, pods.Launch] = {}
        self._is_shown = True
        self._told_generation = 0
        self._exceptions_at = 0.0
        self._last_exception = 0

    @property
    def rest_port(self) -> int | None:
        """Where its JobManager has its REST API, while there is one."""
        cluster = self._cluster
        return cluster.rest_port if cluster is not None else None

    def run(self) -> None:
        """Looks again and again; what the API server does not take now is tried at the next look."""
        end_what_is_left(self._folder)
        try:
            while not self._is_stopping.is_set():
                try:
                    if not self._look():
                        return
                except KubeError as error:
                    logger.warning("{}: {}", self.deployment_name, error)
                self._is_stopping.wait(LOOK_SECONDS)
        finally:
            self._stop_cluster()

    def _look(self) -> bool:
        """One look; False where the deployment is gone."""
        live = self._kube.deployment(self.deployment_name)
        if live is None or live["metadata"]["uid"] != self._uid:
            self._clean_up()
            return False
        if live["metadata"].get("deletionTimestamp"):
            self._events.normal(live, "Operator", "Cleanup", "Cleaning up FlinkDeployment")
            self._clean_up()
            others = [f for f in live["metadata"].get("finalizers") or [] if f != FINALIZER]
            self._kube.set_finalizers(self.deployment_name, others)
            return False
        if FINALIZER not in (live["metadata"].get("finalizers") or []):
            self._kube.set_finalizers(self.deployment_name, [*(live["metadata"].get("finalizers") or []), FINALIZER])
        self._status = copy.deepcopy(live.get("status") or {})
        self._reconcile(live)
        return True

    def _reconcile(self, live: dict[str, Any]) -> None:
        before = statuses.reconciled_spec(self._status) if self._status else None
        try:
            _validate(live["spec"])
        except Invalid as error:
            self._refuse(live, str(error), first=before is None)
            if before is not None:
                self._observe(live)
            return
        if before is None:
            self._deploy_first(live)
        elif self._is_behind(live) and time.monotonic() >= self._not_before:
            self._change(live, before)
        else:
            self._observe(live)

    def _is_behind(self, live: dict[str, Any]) -> bool:
        return bool(self._status.get("observedGeneration") != live["metadata"]["generation"])

    def _refuse(self, live: dict[str, Any], message: str, *, first: bool) -> None:
        status = self._status or statuses.new_status()
        if first:
            status = {**status, "lifecycleState": "FAILED"}
        refused = statuses.error(f"{EXCEPTIONS}.ValidationException", message)
        if status.get("error") != refused:
            self._events.warning(live, "Operator", "ValidationError", message)
        self._write(live, statuses.with_error(status, refused))

    # Deploying

    def _deploy_first(self, live: dict[str, Any]) -> None:
        spec = live["spec"]
        restore = spec["job"].get("initialSavepointPath")
        status = statuses.with_reconciled(statuses.new_status(), spec, "UPGRADING", "suspended", first=True)
        status["observedGeneration"] = live["metadata"]["generation"]
        status = statuses.with_job(status, None, upgradeSavepointPath=restore)
        self._write(live, statuses.with_task_managers(status, self.deployment_name, 0))
        if spec["job"].get("state") == "suspended":
            return
        self._deploy(live, restore, first=True)

    def _deploy(self, live: dict[str, Any], restore: str | None, *, first: bool, job_id: str | None = None) -> None:
        """A new cluster for the spec; the job gets a new id unless its last state is what it goes on from."""
        spec = live["spec"]
        if job_id is None:
            self._try(lambda: self._kube.forget_high_availability(self.deployment_name))
        self._events.normal(live, "JobManagerDeployment", "Submit", "Starting deployment")
        self._write(live, statuses.with_job(self._status, self._job_state(), jobId=job_id or secrets.token_hex(16)))
        self._restore_from = restore
        status = statuses.with_reconciled(self._status, spec, "DEPLOYED", "running", first=first)
        status = {**status, "lifecycleState": "DEPLOYED", "jobManagerDeploymentStatus": "DEPLOYING"}
        status = statuses.with_job(status, "RECONCILING")
        status["observedGeneration"] = live["metadata"]["generation"]
        status = statuses.with_task_managers(status, self.deployment_name, task_managers(spec))
        self._write(live, statuses.with_error(status, None))

    def _job_state(self) -> str | None:
        state: str | None = self._status.get("jobStatus", {}).get("state")
        return state

    def _start_cluster(self, live: dict[str, Any]) -> None:
        """The JobManager's pod: ConfigMaps first, then init containers, then the processes."""
        if time.monotonic() < self._not_before:
            return
        self._tell_if_lost(live)
        spec = statuses.reconciled_spec(self._status) or live["spec"]
        view = pod_view(spec, self._folder)
        if not all([fill(volume, self._kube.data_of) for volume in view.filled]):  # noqa: C419 - each is filled
            return
        if not self._init_containers_done(live, view):
            return
        try:
            env = variables(view.main, self._kube.data_of)
        except NotThere as error:
            self._cannot_configure(live, view.main.name, str(error))
            return
        cluster = Cluster(self.deployment_name, self._folder, self._application(spec, view, env))
        self._launch(cluster)
        cluster.start()
        self._cluster = cluster
        self._is_shown = False
        self._show_pods(live, cluster)
        logger.info("{}: started, restoring from {}", self.deployment_name, cluster.application.restore)

    def _cannot_configure(self, live: dict[str, Any], container: str, said: str) -> None:
        """A Secret that is not there keeps the container from starting; the kubelet looks again now and then."""
        self._not_before = time.monotonic() + RETRY_INIT_SECONDS
        reason, message = "CreateContainerConfigError", f"[{container}] {said}"
        self._try(lambda: pods.show_waiting(self._kube, live, self._inits, reason, said))
        self._events.warning(live, "JobManagerDeployment", reason, message)
        failed = statuses.error(f"{EXCEPTIONS}.DeploymentFailedException", message, reason=reason)
        status = {**self._status, "jobManagerDeploymentStatus": "ERROR"}
        self._write(live, statuses.with_error(statuses.with_job(status, "RECONCILING"), failed))

    def _tell_if_lost(self, live: dict[str, Any]) -> None:
        """A JobManager that an operator before this one has left, and that is not there any more."""
        if self._status["jobManagerDeploymentStatus"] in ("READY", "DEPLOYED_NOT_READY"):
            self._events.warning(live, "JobManagerDeployment", "Missing", "Missing JobManager deployment")
            self._events.warning(live, "Job", "RecoverDeployment", "Recovering lost deployment")
            self._show_manager(live, "DEPLOYING")

    def _launch(self, cluster: Cluster) -> None:
        """Remembers where the output of the processes begins that are started next."""
        logs = self._folder / "logs"
        names = ["jobmanager", *(f"taskmanager-1-{n}" for n in range(1, cluster.application.task_managers + 1))]
        for log in (logs / f"{name}.log" for name in names):
            known = self._launches.get(log, pods.Launch())
            self._launches[log] = pods.launch(log, known.last_exit_code)

    def _show_pods(self, live: dict[str, Any], cluster: Cluster) -> None:
        """The pods are how a cluster is looked at: where the API does not take them now, the next look tries again."""

        def show() -> None:
            for pod, container in pods.show(self._kube, live, cluster, self._inits, self._launches):
                self._events.normal(pod, "kubelet", "Started", f"Started container {container}")
            self._is_shown = True

        if not self._is_shown:
            self._try(show)

    def _try(self, change: Callable[[], None]) -> None:
        try:
            change()
        except KubeError as error:
            logger.warning("{}: {}", self.deployment_name, error)

    def _init_containers_done(self, live: dict[str, Any], view: PodView) -> bool:
        self._inits = pods.Inits([container.name for container in view.init])
        for container in view.init:
            ended = self._run_init_container(container)
            self._inits = pods.Inits(self._inits.names, [*self._inits.started, ended])
            if ended.exit_code != 0:
                self._init_failed(live, ended)
                return False
        return True

    def _run_init_container(self, container: Container) -> pods.Started:
        said = Path(container.paths["/dev/termination-log"])
        said.write_text("")
        log = self._folder / "logs" / f"{container.name}.log"
        log.parent.mkdir(parents=True, exist_ok=True)
        start = pods.launch(log).log_start
        with log.open("ab") as output:
            env = variables(container, self._kube.data_of)
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

    def _init_failed(self, live: dict[str, Any], ended: pods.Started) -> None:
        self._not_before = time.monotonic() + RETRY_INIT_SECONDS
        self._try(lambda: self._show_init_failure(live, ended.container))
        kind, message = f"{EXCEPTIONS}.DeploymentFailedException", f"[{ended.container}] CrashLoop - {ended.said}"
        self._events.warning(live, "JobManagerDeployment", "CrashLoopBackOff", message)
        failed = statuses.error(kind, message, reason="CrashLoopBackOff")
        status = {**self._status, "jobManagerDeploymentStatus": "ERROR"}
        self._write(live, statuses.with_error(statuses.with_job(status, "RECONCILING"), failed))

    def _show_init_failure(self, live: dict[str, Any], container: str) -> None:
        pod = pods.show_init_failure(self._kube, live, self._inits)
        metadata = pod["metadata"]
        where = f"{metadata['name']}_{metadata['namespace']}({metadata['uid']})"
        words = f"Back-off restarting failed container {container} in pod {where}"
        self._events.warning(pod, "kubelet", "BackOff", words)

    def _application(self, spec: dict[str, Any], view: PodView, env: dict[str, str]) -> Application:
        job, main = spec["job"], view.main
        configuration = {k: main.mapped(str(v)) for k, v in (spec.get("flinkConfiguration") or {}).items()}
        job_id = self._status["jobStatus"]["jobId"]
        checkpoints = configuration.get("execution.checkpointing.dir", "")
        return Application(
            job_id=job_id,
            jar=Path(main.mapped(job["jarURI"]).removeprefix("local://")),
            jars=sorted(Path(main.paths.get(USRLIB, "/nowhere")).glob("*.jar")),
            entry_class=job.get("entryClass"),
            arguments=[program(main.mapped(argument)) for argument in job.get("args") or []],
            configuration=configuration,
            env=env,
            parallelism=parallelism(spec),
            task_managers=task_managers(spec),
            restore=latest_checkpoint(checkpoints, job_id) or self._restore_from or self._restored_path(),
            kubernetes={
                "kubernetes.cluster-id": self.deployment_name,
                "kubernetes.namespace": self._kube.namespace,
                "kubernetes.config.file": str(self._kube.kubeconfig),
            },
        )

    def _restored_path(self) -> str | None:
        path = self._status["jobStatus"].get("upgradeSavepointPath")
        return path if path and path != LAST_STATE else None

    # Changing

    def _change(self, live: dict[str, Any], before: dict[str, Any]) -> None:
        wanted, was = live["spec"]["job"].get("state", "running"), before["job"].get("state", "running")
        self._tell_change(live, before)
        if was == "running" and wanted == "suspended":
            self._suspend(live)
        elif was == "suspended" and wanted == "running":
            self._resume(live)
        elif wanted == "running" and _differs(live["spec"], before):
            self._upgrade(live)
        else:
            status = statuses.with_reconciled(self._status, live["spec"], "DEPLOYED", wanted, first=False)
            self._write(live, {**status, "observedGeneration": live["metadata"]["generation"]})

    def _tell_change(self, live: dict[str, Any], before: dict[str, Any]) -> None:
        """Once for each generation, however often it has to be tried; of what is no upgrade nothing is told."""
        job = {"state": "running", **live["spec"]["job"]}
        after, generation = {**live["spec"], "job": job}, live["metadata"]["generation"]
        is_told = self._told_generation == generation
        if not is_told and (job["state"] != before["job"].get("state", "running") or _differs(after, before)):
            self._told_generation = generation
            self._events.normal(live, "JobManagerDeployment", "SpecChanged", changes.spec_changed(before, after))

    def _suspend(self, live: dict[str, Any]) -> None:
        taken, path = self._stop_job(live, live["spec"]["job"].get("upgradeMode", "stateless"))
        if not taken:
            return
        manager = "READY" if self._cluster is not None else "MISSING"
        status = statuses.with_reconciled(self._status, live["spec"], "DEPLOYED", "suspended", first=False)
        status = {**status, "lifecycleState": "SUSPENDED", "jobManagerDeploymentStatus": manager}
        if status["reconciliationStatus"].get("lastStableSpec"):
            reconciliation = status["reconciliationStatus"]
            status["reconciliationStatus"] = {**reconciliation, "lastStableSpec": reconciliation["lastReconciledSpec"]}
        status["observedGeneration"] = live["metadata"]["generation"]
        status = statuses.with_job(status, "FINISHED", upgradeSavepointPath=path)
        self._write(live, statuses.with_error(statuses.with_task_managers(status, self.deployment_name, 0), None))

    def _upgrade(self, live: dict[str, Any]) -> None:
        taken, path = self._stop_job(live, live["spec"]["job"].get("upgradeMode", "stateless"))
        if not taken:
            return
        status = statuses.with_reconciled(self._status, live["spec"], "UPGRADING", "suspended", first=False)
        status = {**status, "lifecycleState": "UPGRADING", "observedGeneration": live["metadata"]["generation"]}
        status = statuses.with_job(status, "FINISHED", upgradeSavepointPath=path)
        status = statuses.with_error(statuses.with_task_managers(status, self.deployment_name, 0), None)
        if self._cluster is not None:
            self._write(live, {**status, "jobManagerDeploymentStatus": "READY"})
            status = self._status
        self._end_cluster()
        self._write(live, {**status, "jobManagerDeploymentStatus": "MISSING"})
        self._deploy_again(live, path)

    def _resume(self, live: dict[str, Any]) -> None:
        path = self._restored_path()
        self._end_cluster()
        status = statuses.with_reconciled(self._status, live["spec"], "UPGRADING", "suspended", first=False)
        status = {**status, "lifecycleState": "UPGRADING", "jobManagerDeploymentStatus": "MISSING"}
        self._write(live, {**status, "observedGeneration": live["metadata"]["generation"]})
        self._deploy_again(live, path)

    def _deploy_again(self, live: dict[str, Any], path: str | None) -> None:
        if path is not None:
            self._deploy(live, path, first=False)
            return
        self._write(live, statuses.with_job(self._status, self._job_state(), upgradeSavepointPath=LAST_STATE))
        self._deploy(live, None, first=False, job_id=self._status["jobStatus"].get("jobId"))

    def _stop_job(self, live: dict[str, Any], mode: str) -> tuple[bool, str | None]:
        """Ends the job as the mode asks: whether it ended, and its savepoint. A job that does not run keeps its last
        state instead; a savepoint that fails is tried again later, and the job goes on."""
        self._events.normal(live, "JobManagerDeployment", "Suspended", "Suspending existing deployment.")
        job = self._cluster.rest.job(self._status["jobStatus"].get("jobId", "")) if self._cluster else None
        if mode != "savepoint" or self._cluster is None or job is None or effective_state(job) != "RUNNING":
            if mode == "savepoint" and job is not None and job["state"] == "FINISHED":
                return True, self._restored_path()
            self._end_cluster()
            return True, None
        self._write(live, statuses.with_error(self._status, None))
        folder = (live["spec"].get("flinkConfiguration") or {}).get("execution.checkpointing.savepoint-dir", "")
        try:
            path = self._cluster.rest.stop_with_savepoint(job["jid"], folder)
        except SavepointFailed as failure:
            self._not_before = time.monotonic() + RETRY_SAVEPOINT_SECONDS
            logger.warning("{}: no savepoint: {}", self.deployment_name, failure.root_cause)
            error = statuses.savepoint_error(str(failure))
            self._events.warning(live, "JobManagerDeployment", "SavepointError", statuses.error_words(error))
            self._write(live, statuses.with_error(self._status, error))
            return False, None
        self._cluster.stop_task_managers()
        self._try(lambda: pods.hide_task_managers(self._kube, self.deployment_name))
        self._record_snapshot(path)
        return True, path

    def _record_snapshot(self, path: str) -> None:
        now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        labels = {
            "job-reference.kind": "FlinkDeployment",
            "job-reference.name": self.deployment_name,
            "snapshot.state": "COMPLETED",
            "snapshot.trigger-type": "UPGRADE",
            "snapshot.type": "SAVEPOINT",
        }
        savepoint = {"alreadyExists": True, "disposeOnDelete": False, "formatType": "NATIVE", "path": path}
        body = {
            "apiVersion": "flink.apache.org/v1beta1",
            "kind": "FlinkStateSnapshot",
            "metadata": {
                "name": f"{self.deployment_name}-savepoint-upgrade-{int(time.time() * 1000)}",
                "labels": labels,
            },
            "spec": {
                "backoffLimit": 0,
                "jobReference": {"kind": "FlinkDeployment", "name": self.deployment_name},
                "savepoint": savepoint,
            },
        }
        status = {"failures": 0, "path": path, "resultTimestamp": now, "state": "COMPLETED", "triggerTimestamp": now}
        self._kube.put_snapshot(body, status)

    # Observing

    def _observe(self, live: dict[str, Any]) -> None:
        wanted = (statuses.reconciled_spec(self._status) or {}).get("job", {}).get("state")
        if wanted != "running" or self._status["lifecycleState"] in ("FAILED", "SUSPENDED"):
            return
        if self._cluster is None:
            if self._job_state() not in ("FINISHED", "FAILED", "CANCELED"):
                self._start_cluster(live)
            return
        if self._cluster.job_manager.exit_code is not None:
            self._job_manager_ended(live, self._cluster)
            return
        self._revive_task_managers(self._cluster)
        self._show_pods(live, self._cluster)
        self._observe_job(live, self._cluster)

    def _revive_task_managers(self, cluster: Cluster) -> None:
        for process in cluster.task_managers:
            if process.exit_code is not None:
                self._launches[process.log] = pods.launch(process.log, _as_shown(process.exit_code))
                self._is_shown = False
        cluster.revive_task_managers()

    def _observe_job(self, live: dict[str, Any], cluster: Cluster) -> None:
        job = cluster.rest.job(self._status["jobStatus"]["jobId"])
        if job is not None:
            cluster.was_seen = True
            self._silent_since = None
            self._show_answering(live)
            self._show_job(live, cluster, job)
            return
        if cluster.rest.is_up():
            self._silent_since = None
            if not cluster.was_seen:
                self._show_manager(live, "DEPLOYED_NOT_READY")
            return
        self._silent_since = self._silent_since or time.monotonic()
        is_starting = not cluster.was_seen and self._status["jobManagerDeploymentStatus"] != "DEPLOYED_NOT_READY"
        if is_starting or time.monotonic() - self._silent_since >= UNREACHABLE_AFTER_SECONDS:
            self._show_manager(live, "DEPLOYING")

    def _show_answering(self, live: dict[str, Any]) -> None:
        """No JobManager is READY that was not DEPLOYED_NOT_READY before, however quick it was between two looks."""
        if self._status["jobManagerDeploymentStatus"] not in ("DEPLOYED_NOT_READY", "READY"):
            self._show_manager(live, "DEPLOYED_NOT_READY")

    def _show_manager(self, live: dict[str, Any], manager: str) -> None:
        status = statuses.with_job({**self._status, "jobManagerDeploymentStatus": manager}, "RECONCILING")
        self._write(live, statuses.with_error(status, None))

    def _show_job(self, live: dict[str, Any], cluster: Cluster, job: dict[str, Any]) -> None:
        state = effective_state(job)
        facts = {
            "jobName": job["name"],
            "startTime": str(job["start-time"]),
            "updateTime": str(max(job["last-modification"], job["start-time"])),
        }
        status = statuses.with_job({**self._status, "jobManagerDeploymentStatus": "READY"}, state, **facts)
        if not status["clusterInfo"]:
            config = cluster.rest.config()
            status["clusterInfo"] = {
                "flink-revision": config.get("flink-revision", ""),
                "flink-version": config.get("flink-version", ""),
            }
        if state in ("RUNNING", "FINISHED"):
            status = statuses.stable(status)
        elif state == "FAILED":
            status = {**status, "lifecycleState": "FAILED"}
        before = self._job_state()
        # What keeps a change from being made is told until it is tried again.
        self._write(live, status if self._is_behind(live) else statuses.with_error(status, None))
        self._tell_state(live, before, state)
        self._tell_exceptions(live, cluster, is_new=before != state)

    def _tell_state(self, live: dict[str, Any], before: str | None, state: str) -> None:
        if before not in (None, state):
            self._events.normal(live, "Job", "JobStatusChanged", f"Job status changed from {before} to {state}")

    def _tell_exceptions(self, live: dict[str, Any], cluster: Cluster, *, is_new: bool) -> None:
        """The exceptions since the last look at them: when the state has changed, and every now and then."""
        if not is_new and time.monotonic() - self._exceptions_at < EXCEPTIONS_SECONDS:
            return
        self._exceptions_at = time.monotonic()
        for entry in cluster.rest.exceptions(self._status["jobStatus"]["jobId"]):
            if entry["timestamp"] > self._last_exception:
                self._last_exception = entry["timestamp"]
                self._events.warning(live, "Job", "JobException", _first_lines(entry["stacktrace"]))

    def _job_manager_ended(self, live: dict[str, Any], cluster: Cluster) -> None:
        """A JobManager that was killed is started again and goes on from the job's last checkpoint; one whose program
        failed before there was a job has FAILED."""
        code = cluster.job_manager.exit_code or 0
        if code > 0 and code < 128 and not cluster.was_seen:
            self._program_failed(live, cluster, code)
            return
        logger.warning("{}: the JobManager ended with {}; it is started again", self.deployment_name, code)
        self._launches[cluster.job_manager.log] = pods.launch(cluster.job_manager.log, _as_shown(code))
        if cluster.is_highly_available:
            cluster.restart_job_manager()
            self._is_shown = False
        else:
            self._stop_cluster()
        self._show_manager(live, "DEPLOYING")

    def _program_failed(self, live: dict[str, Any], cluster: Cluster, code: int) -> None:
        causes = cluster.failure()
        self._stop_cluster()
        self._show_answering(live)
        message = causes[0] if causes else f"the JobManager ended with {code}; see its log"
        failure = statuses.error(SERIALIZED, message, [(SERIALIZED, cause) for cause in causes[1:]])
        status = {**self._status, "lifecycleState": "FAILED", "jobManagerDeploymentStatus": "READY"}
        self._try(lambda: pods.show_end(self._kube, live, _as_shown(code)))
        self._try(lambda: pods.hide_task_managers(self._kube, self.deployment_name))
        self._events.warning(live, "Job", "Error", statuses.error_words(failure))
        self._tell_state(live, self._job_state(), "FAILED")
        now = str(int(time.time() * 1000))
        facts = {"jobName": "(application driver)", "startTime": now, "updateTime": now}
        self._write(live, statuses.with_error(statuses.with_job(status, "FAILED", **facts), failure))

    # Ending

    def _stop_cluster(self) -> None:
        if self._cluster is not None:
            self._cluster.stop()
            self._cluster = None

    def _end_cluster(self) -> None:
        """Stops it for good: its pods go with it."""
        self._stop_cluster()
        self._launches.clear()
        self._try(lambda: pods.hide_pods(self._kube, self.deployment_name))

    def _clean_up(self) -> None:
        self._stop_cluster()
        pods.hide(self._kube, self.deployment_name)
        self._kube.forget_high_availability(self.deployment_name)
        shutil.rmtree(self._folder / "tmp", ignore_errors=True)

    def _write(self, live: dict[str, Any], status: Status) -> None:
        if status != live.get("status"):
            self._kube.put_status(live, status)
            live["status"] = copy.deepcopy(status)
        self._status = copy.deepcopy(status)


def _as_shown(exit_code: int) -> int:
    """The exit code as a container's: one that a signal ended has 128 and the signal's number."""
    return exit_code if exit_code >= 0 else 128 - exit_code


def _first_lines(stacktrace: str) -> str:
    lines = stacktrace.rstrip().splitlines()
    left_out = [f"... ({len(lines) - SHOWN_LINES} more lines)"] if len(lines) > SHOWN_LINES else []
    return "\n".join([*lines[:SHOWN_LINES], *left_out])


def parallelism(spec: dict[str, Any]) -> int:
    """replicas times slots where replicas are set, else job.parallelism, as in the operator."""
    replicas = (spec.get("taskManager") or {}).get("replicas")
    return int(replicas) * _slots(spec) if replicas else int(spec["job"].get("parallelism") or 1)


def task_managers(spec: dict[str, Any]) -> int:
    """As many as the parallelism needs."""
    return -(-parallelism(spec) // _slots(spec))


def _slots(spec: dict[str, Any]) -> int:
    return int((spec.get("flinkConfiguration") or {}).get("taskmanager.numberOfTaskSlots", "1"))


def _validate(spec: dict[str, Any]) -> None:
    configuration = spec.get("flinkConfiguration") or {}
    replicas = (spec.get("taskManager") or {}).get("replicas")
    if replicas is not None and replicas < 1:
        raise Invalid("TaskManager replicas must be larger than 0")
    if replicas is None and (spec["job"].get("parallelism") or 0) < 1:
        raise Invalid("Job parallelism must be larger than 0")
    savepoints = "execution.checkpointing.savepoint-dir"
    if spec["job"].get("upgradeMode") == "savepoint" and not configuration.get(savepoints):
        raise Invalid(f"Job could not be upgraded with savepoint while config key[{savepoints}] is not set")


def _differs(wanted: dict[str, Any], before: dict[str, Any]) -> bool:
    return _weighed(wanted) != _weighed(before)


def _weighed(spec: dict[str, Any]) -> dict[str, Any]:
    """What an upgrade is for: not every change is one."""
    ignored = ("kubernetes.operator.", "job.autoscaler.", "parallelism.default")
    configuration = {k: v for k, v in (spec.get("flinkConfiguration") or {}).items() if not k.startswith(ignored)}
    job = {key: value for key, value in spec["job"].items() if key not in (*IGNORED_KEYS, "state")}
    return {**spec, "job": job, "flinkConfiguration": configuration}
