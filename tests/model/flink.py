"""The operator and Flink's side of a FlinkDeployment, step by step as the recordings in tests/data show it.

What is true of a job's state is kept here, by the deployment's uid, and nobody else is told: a JobManager answers what
Flink could answer at that moment, and no more. Must not know of records or operations.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from headrace.domain.deployments import TRIGGER_NONCE, Deployment
from headrace.domain.diff import Change
from headrace.domain.flink_options import options_in
from headrace.domain.snapshots import JOB_LABEL as SNAPSHOT_JOB_LABEL
from headrace.domain.snapshots import TRIGGER_LABEL
from headrace.domain.state_on_hand import LAST_STATE, Checkpoints, ha_config_map
from headrace.domain.vertices import OVERRIDES_KEY, Vertex, Vertices, overrides_of
from headrace.errors import Unavailable
from headrace.ports import Clock, Fence
from headrace.testing import InMemoryJobManager, InMemoryRuntime

UPGRADE_FAILURE = "org.apache.flink.kubernetes.operator.exception.UpgradeFailureException"


class Stage(StrEnum):
    """Where Flink's job is, whatever anybody has seen of it."""

    NEW = "NEW"
    DEPLOYING = "DEPLOYING"
    STARTING = "STARTING"  # its JobManager does not answer yet
    WAITING = "WAITING"  # for TaskManagers: the JobManager answers, and has no execution graph
    RUNNING = "RUNNING"
    RESTARTING = "RESTARTING"
    FAILED = "FAILED"
    FINISHED = "FINISHED"
    FORGOTTEN = "FORGOTTEN"  # it had ended, and its JobManager came back: that has no job, and says not how it ended
    SUSPENDED = "SUSPENDED"


FOLLOWS, OF_ITS_OWN = "a" * 32, "b" * 32
"""The vertices of every job: one has the job's parallelism, the other one of its own."""

OWN, MOST = 7, 128
"""The parallelism of that one, and at which either can run at most."""

HAS_JOB_MASTER = (Stage.WAITING, Stage.RUNNING, Stage.RESTARTING)
"""Where a JobManager knows what resources its job requires."""

ENDED_BY_FLINK = (Stage.RUNNING, Stage.FINISHED, Stage.FAILED)
"""Where a suspend finds, or makes, an end of the job that takes its HA metadata with it."""


@dataclass
class Truth:
    """What is so of one deployment. `latest` is the newest state that exists; `kept` the one that a suspend relies on;
    `completed` and `restored` what its present JobManager knows of; `flink_job` is Flink's job; `saving` the nonce of a
    savepoint that is being taken of a job that runs on. `required` is at what its vertices are to run, which outlives a
    JobManager with the HA metadata (Flink's ExecutionPlanStore), `runs_at` at what they run, and `ran_at` at what the
    one ran that follows the job, with the resourceVersion from which on."""

    stage: Stage = Stage.NEW
    latest: str | None = None
    kept: str | None = None
    completed: str | None = None
    restored: str | None = None
    flink_job: str = ""
    has_manager: bool = False
    has_run: bool = False
    started: int = 0
    saving: int | None = None
    reconciled: dict[str, Any] = field(default_factory=dict)
    is_adaptive: bool = False
    required: dict[str, int] = field(default_factory=dict)
    runs_at: dict[str, int] = field(default_factory=dict)
    ran_at: list[tuple[int, int]] = field(default_factory=list)

    def begins_by(self, spec: Mapping[str, Any]) -> None:
        """Another job is made by this spec: what it requires is what stands there."""
        self.is_adaptive = options_in(spec).get("jobmanager.scheduler") == "adaptive"
        said, of_job = overrides_in(spec), int(spec["job"].get("parallelism") or 1)
        self.required = {FOLLOWS: said.get(FOLLOWS, of_job), OF_ITS_OWN: said.get(OF_ITS_OWN, OWN)}

    def comes_to_run(self, version: int, chance: int = 1) -> None:
        """Its vertices run as it is required; with the adaptive scheduler as far as there are slots."""
        slots = 1 + chance % 3 if self.is_adaptive and chance % 4 == 0 else MOST
        self.runs_at = {vertex: min(count, slots) for vertex, count in self.required.items()}
        self.ran_at.append((version, self.runs_at[FOLLOWS]))

    def ran_since(self, version: int, parallelism: int) -> bool:
        """Whether it ran at that parallelism at some moment from then on."""
        until = [begun for begun, _ in self.ran_at[1:]] + [None]
        spans = zip(self.ran_at, until, strict=True)
        return any(ran == parallelism and (end is None or end >= version) for (_, ran), end in spans)

    @property
    def is_short(self) -> bool:
        """Whether it runs, and its vertices do not as it is required."""
        return self.stage is Stage.RUNNING and self.runs_at != self.required


def overrides_in(spec: Mapping[str, Any]) -> dict[str, int]:
    """The parallelisms by vertex that stand in a spec."""
    return overrides_of(options_in(spec).get(OVERRIDES_KEY))


class Cluster(InMemoryRuntime):
    """A Kubernetes API with an operator: deletion waits for the operator's finalizer, and uids are counted."""

    def __init__(self, clock: Clock) -> None:
        super().__init__()
        self.clock = clock
        self.truths: dict[str, Truth] = {}
        self.born: dict[str, int] = {}
        self.taken: set[str] = set()
        self._counted = 0

    def names(self) -> list[str]:
        """The deployments that are there."""
        return sorted(name for _, name in self._objects)

    def whole(self, name: str) -> dict[str, Any] | None:
        """The live object itself, not a copy; None where there is none."""
        return self._objects.get(("default", name))

    def truth(self, name: str) -> Truth | None:
        """What is so of the deployment that has this name now."""
        whole = self.whole(name)
        return self.truths.setdefault(whole["metadata"]["uid"], Truth()) if whole is not None else None

    def versions_between(self, first: str | None, last: str | None, name: str) -> list[Mapping[str, Any]]:
        """Every version of this name that one write may have taken in: from what was on record before it to what is on
        record after it, both included."""
        until = int(last or 0)
        return [o for v, _, o in self._events if int(first or 0) <= v <= until and o["metadata"]["name"] == name]

    def versions_since(self, resource_version: int, name: str) -> list[Mapping[str, Any]]:
        """Every version that a deployment of this name had since."""
        return [o for v, _, o in self._events if v >= resource_version and o["metadata"]["name"] == name]

    def versions_of(self, name: str) -> list[Mapping[str, Any]]:
        """Every version that a deployment of this name ever had."""
        return self.versions_since(0, name)

    def newest_and_since(self, resource_version: int, name: str) -> list[Mapping[str, Any]]:
        """What a deployment of this name was then, and every version that it had since."""
        before = len(self.versions_of(name)) - len(self.versions_since(resource_version, name))
        return self.versions_of(name)[max(before - 1, 0) :]

    @property
    def now(self) -> int:
        """The newest resourceVersion."""
        return self._version

    def delete(self, namespace: str, name: str, uid: str) -> bool:
        """See ports.FlinkRuntime. What the operator has seen goes when the operator lets it go."""
        whole = self.whole(name)
        if whole is None or whole["metadata"]["uid"] != uid or self.truths.setdefault(uid, Truth()).stage is Stage.NEW:
            return super().delete(namespace, name, uid)
        if "deletionTimestamp" not in whole["metadata"]:
            self.write(name, {"metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z"}}, spec=True)
        return True

    def patch(self, namespace: str, name: str, fence: Fence, changes: Sequence[Change]) -> Deployment | None:
        """See ports.FlinkRuntime."""
        before = self.whole(name)
        after = super().patch(namespace, name, fence, changes)
        self._relied_on(name, before)
        return after

    def _relied_on(self, name: str, before: Mapping[str, Any] | None) -> None:
        """A suspend that takes no savepoint leaves what there was when it was asked for, if nothing newer."""
        live, truth = self.whole(name), self.truth(name)
        if before is not None and live is not None and truth is not None and before["spec"] != live["spec"]:
            truth.kept = truth.latest

    def write(self, name: str, changes: Mapping[str, Any], *, spec: bool = False) -> None:
        """Merges `changes` into the object, one level deep; with `spec` its generation grows."""
        live = self.whole(name)
        assert live is not None
        changed = {**live, "metadata": dict(live["metadata"])}
        for part, fields in changes.items():
            changed[part] = {**(changed.get(part) or {}), **fields}
        if spec:
            changed["metadata"]["generation"] += 1
        self._objects["default", name] = changed
        self._record("MODIFIED", changed)
        self._relied_on(name, live)

    def _record(self, kind: str, whole: dict[str, Any]) -> Deployment:
        recorded = super()._record(kind, whole)
        if kind == "ADDED":
            self.born[whole["metadata"]["uid"]] = self._version
        return recorded

    def vanish(self, name: str) -> None:
        """It is gone, with no word to anybody but the watch."""
        whole = self._objects.pop(("default", name))
        self._record("DELETED", whole)

    def reborn(self, name: str) -> None:
        """Deleted and restored from a backup: the same, under another uid."""
        whole = self.whole(name)
        assert whole is not None
        self._counted += 1
        uid = f"restored-{self._counted}"
        self.truths[uid] = self.truths.pop(whole["metadata"]["uid"], Truth())
        self.vanish(name)
        metadata = {**whole["metadata"], "uid": uid, "generation": whole["metadata"]["generation"]}
        metadata.pop("deletionTimestamp", None)
        self._objects["default", name] = born = {**whole, "metadata": metadata}
        self._record("ADDED", born)

    # The operator and Flink

    def operator_acts(self, name: str, chance: int) -> None:
        """One step of the operator for this deployment; `chance` decides where more than one thing can happen."""
        whole, truth = self.whole(name), self.truth(name)
        if whole is None or truth is None:
            return
        if "deletionTimestamp" in whole["metadata"]:
            self.vanish(name)
        elif not truth.reconciled:
            self._takes_up(name, whole, truth)
        elif (whole.get("status") or {}).get("observedGeneration") != whole["metadata"]["generation"]:
            self._reconciles(name, whole, truth, chance)
        elif truth.saving is not None:
            self._has_saved(name, truth, chance)
        else:
            self._starts(name, truth, chance)
            self._takes_snapshots(name, truth, chance)

    def _takes_up(self, name: str, whole: Mapping[str, Any], truth: Truth) -> None:
        path = whole["spec"]["job"].get("initialSavepointPath")
        truth.latest = truth.kept = truth.restored = path
        truth.stage, truth.reconciled = Stage.DEPLOYING, dict(whole["spec"])
        truth.begins_by(whole["spec"])
        truth.flink_job = self._new_job()
        self._says(
            name, "UPGRADING", "MISSING", None, reconciled="suspended", mode="stateless", upgradeSavepointPath=path
        )

    def _starts(self, name: str, truth: Truth, chance: int) -> None:
        if truth.stage is Stage.DEPLOYING:
            truth.stage = Stage.STARTING
            self._says(name, "DEPLOYED", "DEPLOYING", "RECONCILING", jobId=truth.flink_job)
        elif truth.stage is Stage.STARTING and chance % 13 == 0:  # its program fails before there is a graph
            truth.stage, truth.has_manager, truth.completed = Stage.FAILED, chance % 2 == 0, None
            truth.started += 1
            start, driver = self._start_time(truth), "(application driver)"
            self._says(name, "FAILED", "READY", "FAILED", startTime=start, jobName=driver)
        elif truth.stage is Stage.STARTING:
            truth.stage, truth.has_manager, truth.completed = Stage.WAITING, True, None
            truth.started += 1
            self._leads(name, truth)
            start = self._start_time(truth)
            self._says(name, "DEPLOYED", "READY", "CREATED", startTime=start, jobName="job")
        elif truth.stage in (Stage.WAITING, Stage.RESTARTING):
            truth.stage, truth.has_run = Stage.RUNNING, True
            self._runs(name, truth, chance)
            self._says(name, "STABLE", "READY", "RUNNING")
        elif truth.stage is Stage.RUNNING and self._lifecycle(name) == "DEPLOYED":
            self._says(name, "STABLE", "READY", "RUNNING")  # whether the job has rescaled or not
        elif truth.is_short and chance % 3:
            self._rescales(name, truth, is_seen=chance % 3 == 2)

    def _reconciles(self, name: str, whole: Mapping[str, Any], truth: Truth, chance: int) -> None:
        wanted = whole["spec"]["job"].get("state") or "running"
        was = truth.reconciled["job"].get("state") or "running"
        if wanted == was == "suspended" or whole["spec"] == truth.reconciled:
            self._says(name, None, None, None)
        elif _but_for_the_nonce(whole["spec"]) == _but_for_the_nonce(truth.reconciled):
            self._begins_to_save(name, whole, truth)
        elif wanted == "suspended":
            self._suspends(name, whole, truth, chance)
        elif was == "running" and _is_in_place(truth, whole["spec"]) and chance % 11:
            self._requires(name, whole, truth)
        else:  # also where its JobManager could not be told
            self._upgrades(name, whole, truth, chance)

    def _requires(self, name: str, whole: Mapping[str, Any], truth: Truth) -> None:
        """The JobManager is told, and rescales the job when it can."""
        truth.required |= overrides_in(whole["spec"])
        truth.reconciled = dict(whole["spec"])
        state = "CREATED" if truth.stage is Stage.WAITING else truth.stage.value
        self._says(name, "DEPLOYED", "READY", state)

    def _rescales(self, name: str, truth: Truth, *, is_seen: bool) -> None:
        """There are slots for what is required: its tasks are restarted, from its newest checkpoint."""
        truth.restored, truth.completed = truth.latest, None
        if is_seen:
            truth.stage = Stage.WAITING
            self._says(name, "DEPLOYED", "READY", "CREATED", observe=False)
        else:
            self._runs(name, truth)

    def _runs(self, name: str, truth: Truth, chance: int = 1) -> None:
        """Its vertices come to run."""
        truth.comes_to_run(self.now, chance)

    def _lifecycle(self, name: str) -> str:
        live = self.whole(name)
        return str(((live or {}).get("status") or {}).get("lifecycleState"))

    def _suspends(self, name: str, whole: Mapping[str, Any], truth: Truth, chance: int) -> None:
        path = None
        if truth.stage is Stage.RUNNING:
            if chance % 5 == 0:
                self._fails_to_save(name)
                return
            truth.latest = truth.completed = path = f"s3://b/savepoint-{self._next()}"
        elif truth.stage is Stage.FINISHED:
            path = self._path(whole)
        if truth.stage in ENDED_BY_FLINK:
            self._forgets(name, truth)
        truth.has_manager = truth.stage in (Stage.RUNNING, Stage.FINISHED)
        truth.kept = path or truth.kept
        truth.stage, truth.reconciled = Stage.SUSPENDED, dict(whole["spec"])
        manager = "READY" if truth.has_manager else "MISSING"
        shown = {"upgradeSavepointPath": path} if path else {}  # an older one stays there
        mode = "savepoint" if path else "last-state"
        self._says(name, "SUSPENDED", manager, "FINISHED", reconciled="suspended", mode=mode, **shown)

    def _upgrades(self, name: str, whole: Mapping[str, Any], truth: Truth, chance: int) -> None:
        nonce = "savepointRedeployNonce"
        if whole["spec"]["job"].get(nonce) != truth.reconciled["job"].get(nonce):
            self._redeploys(name, whole, truth)
            return
        rests_with_one = truth.stage is Stage.SUSPENDED and self._left_by(whole) == "savepoint"
        path = self._path(whole) if rests_with_one else None
        if truth.stage is Stage.RUNNING:
            if chance % 5 == 0:
                self._fails_to_save(name)
                return
            truth.latest = path = f"s3://b/savepoint-{self._next()}"
        if path is not None or truth.stage is Stage.FAILED:
            self._forgets(name, truth)
            truth.flink_job = self._new_job()
        truth.stage, truth.reconciled, truth.has_manager = Stage.DEPLOYING, dict(whole["spec"]), False
        truth.begins_by(whole["spec"])
        truth.restored, truth.completed = truth.latest, None
        said = path or (LAST_STATE if truth.latest else None)
        mode = "savepoint" if path else "last-state"
        self._says(
            name, "UPGRADING", "MISSING", "FINISHED", reconciled="suspended", mode=mode, upgradeSavepointPath=said
        )

    def _redeploys(self, name: str, whole: Mapping[str, Any], truth: Truth) -> None:
        """From the path in its spec, and from nothing that it had: STABLE long before it runs."""
        path = whole["spec"]["job"].get("initialSavepointPath")
        self._forgets(name, truth)
        truth.stage, truth.reconciled, truth.has_manager = Stage.STARTING, dict(whole["spec"]), False
        truth.begins_by(whole["spec"])
        truth.latest = truth.kept = truth.restored = path
        truth.completed, truth.flink_job = None, self._new_job()
        self._says(
            name,
            "STABLE",
            "DEPLOYING",
            "RECONCILING",
            mode="savepoint",
            upgradeSavepointPath=path,
            jobId=truth.flink_job,
        )

    def _begins_to_save(self, name: str, whole: Mapping[str, Any], truth: Truth) -> None:
        """Of a job that is not RUNNING it takes none, and says nothing of that."""
        truth.reconciled = dict(whole["spec"])
        is_running = truth.stage is Stage.RUNNING
        truth.saving = whole["spec"]["job"][TRIGGER_NONCE] if is_running else None
        self._says(name, None, None, None, savepointInfo={"triggerId": "a" if is_running else None})

    def _has_saved(self, name: str, truth: Truth, chance: int) -> None:
        """In the status, or by a snapshot of its own where there are such; or Flink has not been able to."""
        nonce, truth.saving = truth.saving, None
        path = self._saved(truth, chance)
        if not self.has_snapshots:
            last = {"location": path, "triggerNonce": nonce, "triggerType": "MANUAL"} if path else None
            self._says(name, None, None, None, savepointInfo={"triggerId": None, "lastSavepoint": last})
            return
        labels = {SNAPSHOT_JOB_LABEL: name, TRIGGER_LABEL: "MANUAL"}
        metadata = {"name": f"{name}-savepoint-manual-{self._next()}", "namespace": "default", "labels": labels}
        self.put_snapshot({"metadata": metadata, "spec": {"savepoint": {}}}, **_snapshot_status(path))
        self._says(name, None, None, None, savepointInfo={"triggerId": None})

    def _takes_snapshots(self, name: str, truth: Truth, chance: int) -> None:
        """The ones that somebody asked for by a resource, of a job that runs."""
        if not self.has_snapshots or truth.stage is not Stage.RUNNING:
            return
        for whole in list(self.snapshots.values()):
            if whole["metadata"]["labels"][SNAPSHOT_JOB_LABEL] == name and "status" not in whole:
                self.put_snapshot(whole, **_snapshot_status(self._saved(truth, chance)))

    def _saved(self, truth: Truth, chance: int) -> str | None:
        """The path of a savepoint that was taken: what the job would go on from by itself is a checkpoint still."""
        if truth.stage is not Stage.RUNNING or chance % 5 == 0:
            return None
        path = f"s3://b/savepoint-{self._next()}"
        self.taken.add(path)
        return path

    def _fails_to_save(self, name: str) -> None:
        said = {"type": UPGRADE_FAILURE, "message": "Savepoint Error", "throwableList": []}
        live = self.whole(name)
        assert live is not None
        self.write(name, {"status": {"error": json.dumps(said)}})

    def flink_acts(self, name: str, chance: int) -> None:
        """Something of Flink's own happens to a job that runs, or that has run."""
        truth, whole = self.truth(name), self.whole(name)
        if truth is None or whole is None or truth.stage not in (Stage.RUNNING, Stage.RESTARTING):
            return
        what = chance % 10
        if truth.stage is Stage.RUNNING and what < 4:
            number = self._next()
            truth.latest = truth.completed = f"s3://b/{truth.flink_job}/chk-{number}"
            self._keeps(name, truth, number)
        elif what < 6:
            truth.stage = Stage.RESTARTING
            self._says(name, "STABLE", "READY", "RESTARTING", observe=False)
        elif what == 6:  # its JobManager is lost; another one leads, and knows of what it restored
            truth.stage, truth.has_manager = Stage.STARTING, False
            truth.restored, truth.completed = truth.latest, None
            self._says(name, "DEPLOYED", "DEPLOYING", "RECONCILING", observe=False)
        elif what == 7:  # TaskManagers are lost and none come: the adaptive scheduler begins anew, without a graph
            truth.stage, truth.restored, truth.completed = Stage.WAITING, truth.latest, None
            self._says(name, "DEPLOYED", "READY", "CREATED", observe=False)
        elif what == 8:
            truth.stage = Stage.FAILED
            self._forgets(name, truth)
            self._says(name, "FAILED", "READY", "FAILED", observe=False)
        elif truth.stage is Stage.RUNNING:
            truth.stage, truth.latest, truth.kept = Stage.FINISHED, None, None
            self._forgets(name, truth)
            self._says(name, "STABLE", "READY", "FINISHED", observe=False)

    def _path(self, whole: Mapping[str, Any]) -> str | None:
        path = ((whole.get("status") or {}).get("jobStatus") or {}).get("upgradeSavepointPath")
        return path if path != LAST_STATE else None

    def _left_by(self, whole: Mapping[str, Any]) -> str:
        reconciled = json.loads(whole["status"]["reconciliationStatus"]["lastReconciledSpec"])
        mode: str = reconciled["spec"]["job"]["upgradeMode"]
        return mode

    # The HA metadata, by which a JobManager finds its job's newest checkpoint

    def _leads(self, name: str, truth: Truth) -> None:
        """A JobMaster makes the ConfigMap, and puts what it restores from a path there."""
        if self.ha_metadata("default", name, truth.flink_job) is None:
            number = (truth.restored or "-").rpartition("-")[2]
            self._keeps(name, truth, int(number) if number.isdigit() else None)

    def _keeps(self, name: str, truth: Truth, number: int | None) -> None:
        data = {f"checkpointID-{number:019d}": "handle"} if number is not None else {}
        self.put_config_map("default", ha_config_map(name, truth.flink_job), {"counter": "1", **data})

    def _forgets(self, name: str, truth: Truth) -> None:
        self.put_config_map("default", ha_config_map(name, truth.flink_job), None)

    def _new_job(self) -> str:
        return f"{self._next():032x}"

    def _start_time(self, truth: Truth) -> str:
        return str(int(self.clock.now().timestamp() * 1000) + truth.started)

    def _next(self) -> int:
        self._counted += 1
        return self._counted

    def _says(
        self,
        name: str,
        lifecycle: str | None,
        manager: str | None,
        flink: str | None,
        *,
        reconciled: str | None = None,
        mode: str | None = None,
        observe: bool = True,
        **job: Any,
    ) -> None:
        live = self.whole(name)
        assert live is not None
        before = live.get("status") or {}
        status: dict[str, Any] = {**before, "jobStatus": {**(before.get("jobStatus") or {}), **job}}
        if lifecycle is not None:
            status |= {"lifecycleState": lifecycle, "jobManagerDeploymentStatus": manager}
            status["jobStatus"]["state"] = flink
        if observe:
            job_spec = {**live["spec"]["job"], "upgradeMode": mode or self._left_by(live)}
            job_spec |= {"state": reconciled} if reconciled else {}
            spec = json.dumps({"spec": {**live["spec"], "job": job_spec}})
            status |= {"observedGeneration": live["metadata"]["generation"], "error": None}
            kept = before.get("reconciliationStatus") or {}
            status["reconciliationStatus"] = {**kept, "state": "DEPLOYED", "lastReconciledSpec": spec}
        if (lifecycle, flink) == ("STABLE", "RUNNING"):
            reconciled = status["reconciliationStatus"]["lastReconciledSpec"]
            status["reconciliationStatus"] = {**status["reconciliationStatus"], "lastStableSpec": reconciled}
        self.write(name, {"status": status})


def _but_for_the_nonce(spec: Mapping[str, Any]) -> dict[str, Any]:
    return {**spec, "job": {name: value for name, value in spec["job"].items() if name != TRIGGER_NONCE}}


def _is_in_place(truth: Truth, spec: Mapping[str, Any]) -> bool:
    """Whether the operator tells the JobManager of a change of overrides alone, none of them removed. A job that has
    ended, or whose JobManager does not answer, it upgrades."""
    return truth.is_adaptive and truth.stage in HAS_JOB_MASTER and is_of_overrides(truth.reconciled, spec)


def is_of_overrides(before: Mapping[str, Any], after: Mapping[str, Any]) -> bool:
    """Whether a change is one of parallelism overrides at most, none of them removed."""
    is_of_them_alone = _but_for_overrides(before) == _but_for_overrides(after)
    return is_of_them_alone and overrides_in(before).keys() <= overrides_in(after).keys()


def _but_for_overrides(spec: Mapping[str, Any]) -> dict[str, Any]:
    """What weighs in a spec beside them."""
    job = {name: value for name, value in spec["job"].items() if name not in (TRIGGER_NONCE, "upgradeMode")}
    options = {name: value for name, value in options_in(spec).items() if name != OVERRIDES_KEY}
    return {**spec, "job": job, "flinkConfiguration": options}


def _snapshot_status(path: str | None) -> dict[str, Any]:
    return {"state": "COMPLETED", "path": path} if path else {"state": "FAILED", "error": "no savepoint"}


class Managers(InMemoryJobManager):
    """JobManagers that answer what theirs could answer then: nothing, nothing known, or what is so."""

    def __init__(self, cluster: Cluster) -> None:
        super().__init__()
        self._cluster = cluster

    def checkpoints(self, namespace: str, name: str, flink_job_id: str) -> Checkpoints:
        """See ports.JobManager."""
        return answered(self._asked(name, flink_job_id))

    def vertices(self, namespace: str, name: str, flink_job_id: str) -> Vertices:
        """See ports.JobManager."""
        truth = self._asked(name, flink_job_id)
        if truth.stage not in (Stage.RUNNING, Stage.RESTARTING):
            return Vertices({})
        return Vertices({each: Vertex(n, MOST, truth.required[each]) for each, n in truth.runs_at.items()})

    def _asked(self, name: str, flink_job_id: str) -> Truth:
        """The job of which a JobManager is asked; one of another job says nothing of it."""
        truth = self._cluster.truth(name)
        if truth is None or not truth.has_manager or truth.flink_job != flink_job_id:
            raise Unavailable("connection refused")
        return truth


def vertices_told(truth: Truth) -> list[dict[str, Any]]:
    """The vertices of a job by its JobManager's REST API: none before there is an execution graph."""
    if truth.stage is Stage.WAITING:
        return []
    runs = truth.stage is Stage.RUNNING
    return [
        {"id": vertex, "parallelism": n, "maxParallelism": MOST, "tasks": {"RUNNING": n} if runs else {}}
        for vertex, n in truth.runs_at.items()
    ]


def requirements_told(truth: Truth) -> tuple[int, dict[str, Any]]:
    """Its answer to what resources the job requires."""
    if truth.stage not in HAS_JOB_MASTER:
        return 404, {"errors": [f"Job {truth.flink_job} not found"]}
    if not truth.is_adaptive:
        return 500, {"errors": ["The scheduler does not support it"]}
    return 200, {vertex: {"parallelism": {"lowerBound": 1, "upperBound": n}} for vertex, n in truth.required.items()}


def answered(truth: Truth) -> Checkpoints:
    """What the job's JobManager says of its checkpoints, where it says anything."""
    if truth.stage is Stage.WAITING:
        return Checkpoints(has_graph=False)
    if truth.stage is Stage.FORGOTTEN:
        raise Unavailable("answered 404: job not found")
    if truth.stage is Stage.FAILED and not truth.has_run:
        return Checkpoints(has_run=False)
    number = (truth.completed or truth.restored or "-").rpartition("-")[2]
    return Checkpoints(truth.completed, truth.restored, int(number) if number.isdigit() else None)
