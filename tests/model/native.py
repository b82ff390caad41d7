"""Kubernetes and Flink below native mode: Deployments that become JobManagers, and what those answer.

The adapter itself is played, over this API and these JobManagers, so that whatever one act of it asks for can be
struck. What is true of a job's state is kept here, by the Deployment's uid. Must not know of records or operations.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

from headrace.adapters.flink_rest import Body, RestAnswer
from headrace.adapters.native import Launcher
from headrace.adapters.native.launcher import Made
from headrace.domain.diff import at
from headrace.domain.runtimes.native.arguments import options
from headrace.domain.runtimes.native.cluster import (
    as_flink_deployment,
    is_a_record,
    labels_of_cluster,
)
from headrace.domain.runtimes.native.records import REMOVING_ANNOTATION, done_in, wanted_in
from headrace.domain.state_on_hand import ha_config_map
from headrace.errors import Refused, Unavailable
from headrace.ports import Clock
from tests.model.flink import Stage, Truth, is_of_overrides, requirements_told, vertices_told
from tests.model.kubernetes import DEPLOYMENTS, Api, Resource
from tests.model.promises import Violation
from tests.support.native import made

JOB, FROM, KEPT = "job", "from", "kept"
"""What a launcher writes into the configuration of a cluster, and its JobManager reads when it starts."""

REQUIREMENTS = "resource-requirements"
ENDED = (Stage.FAILED, Stage.FINISHED)
FAILED, RESTORED = "!", "restored-"
NO_PLAN = "java.lang.NullPointerException at JobDetailsInfo.<init>"
"""What Flink 2.x says in place of a job whose program failed before there was a graph."""
TOO_EARLY = "Not all required tasks are currently running"


@dataclass
class NativeTruth(Truth):
    """What is so of one native cluster. `triggers` are the savepoints that its present JobManager knows of: a path,
    FAILED and why, or nothing yet; `stopping` is the one that ends the job. `nonce` is the last
    redeploy's; `since` when its JobManager began; `restored_first` the state that its job began from; `started_at` the
    resourceVersion when it did. `required_next` is what another JobManager would find to be required."""

    triggers: dict[str, str] = field(default_factory=dict)
    stopping: str = ""
    nonce: Any = None
    since: int = 0
    required_next: dict[str, int] = field(default_factory=dict)
    started_at: int = 0
    restored_first: str | None = None


class NativeCluster(Api):
    """One namespace with native clusters in it. Its `mood` is what the launchers say in it, and the JobManagers that
    are told what is required."""

    def __init__(self, clock: Clock) -> None:
        super().__init__()
        self.clock = clock
        self.truths: dict[str, NativeTruth] = {}
        self.born: dict[str, int] = {}
        self.taken: set[str] = set()
        self.mood = ""
        self._log: list[tuple[int, Resource, Stage]] = []
        self._counted = 0

    # What is so, for who judges

    @property
    def now(self) -> int:
        """The newest resourceVersion."""
        return self.version

    def truth(self, name: str) -> NativeTruth | None:
        """What is so of the Deployment that has this name now."""
        whole = self.get(DEPLOYMENTS, name)
        return self.truths.setdefault(whole["metadata"]["uid"], NativeTruth()) if whole is not None else None

    def whole(self, name: str) -> dict[str, Any] | None:
        """The Deployment as a FlinkDeployment."""
        whole, truth = self.get(DEPLOYMENTS, name), self.truth(name)
        return _view(whole, truth.stage) if whole is not None and truth is not None else None

    def versions_of(self, name: str) -> list[Mapping[str, Any]]:
        """Every version that a Deployment of this name ever had; one whose job has changed alone counts too."""
        return self.versions_since(0, name)

    def versions_since(self, resource_version: int, name: str) -> list[Mapping[str, Any]]:
        """Every version that it had since."""
        found = [(o, stage) for v, o, stage in self._log if v >= resource_version and o["metadata"]["name"] == name]
        return [_view(whole, stage) for whole, stage in found]

    def versions_between(self, first: str | None, last: str | None, name: str) -> list[Mapping[str, Any]]:
        """Every version that one write may have taken in: from what was on record before it to what is on record
        after it, both included."""
        since, until = int(first or 0), int(last or 0)
        found = [(o, s) for v, o, s in self._log if since <= v <= until and o["metadata"]["name"] == name]
        return [_view(whole, stage) for whole, stage in found]

    def newest_and_since(self, resource_version: int, name: str) -> list[Mapping[str, Any]]:
        """What a Deployment of this name was then, and every version that it had since."""
        before = len(self.versions_of(name)) - len(self.versions_since(resource_version, name))
        return self.versions_of(name)[max(before - 1, 0) :]

    def changed(self, whole: Resource, *, is_new: bool) -> None:
        """See Api."""
        metadata = whole["metadata"]
        if is_new:
            self.born[metadata["uid"]] = self.version
        elif REMOVING_ANNOTATION in (metadata.get("annotations") or {}):
            before = self._log[-1][1]["metadata"] if self._log else {}
            if REMOVING_ANNOTATION not in (before.get("annotations") or {}):
                self.removing(whole)
        self._log.append((self.version, whole, self.truths.setdefault(metadata["uid"], NativeTruth()).stage))

    def _is_at(self, name: str, truth: NativeTruth, stage: Stage) -> None:
        truth.stage = stage
        whole = self.get(DEPLOYMENTS, name)
        if whole is not None and self.truths.get(whole["metadata"]["uid"]) is truth:
            self._log.append((int(whole["metadata"]["resourceVersion"]), whole, stage))

    # Hands

    def vanish(self, name: str) -> None:
        """Somebody deletes the Deployment."""
        self.remove(DEPLOYMENTS, name)

    def reborn(self, name: str) -> None:
        """Deleted and restored from a backup: the same, under another uid; its pods are collected."""
        whole = self.get(DEPLOYMENTS, name)
        assert whole is not None
        self._counted += 1
        uid = f"{RESTORED}{self._counted}"
        self.truths[uid] = copy.deepcopy(self.truths.get(whole["metadata"]["uid"], NativeTruth()))
        if whole["spec"].get("replicas"):
            has_ended = self.truths[uid].stage in (*ENDED, Stage.FORGOTTEN)
            self.truths[uid].stage = Stage.FORGOTTEN if has_ended else Stage.STARTING
        elif self.truths[uid].stage is not Stage.NEW:
            self.truths[uid].stage = Stage.SUSPENDED
        self.truths[uid].has_manager = False
        self.vanish(name)
        restored = {k: v for k, v in copy.deepcopy(whole).items() if k != "status"}
        restored["metadata"]["uid"] = uid
        self.put(DEPLOYMENTS, restored)

    def relabelled(self, name: str, label: str) -> None:
        """Somebody takes a label off."""
        whole = copy.deepcopy(self.get(DEPLOYMENTS, name))
        assert whole is not None
        (whole["metadata"].get("labels") or {}).pop(label, None)
        self.put(DEPLOYMENTS, whole)

    # Kubernetes

    def acts(self, name: str, chance: int) -> None:
        """One step of what Kubernetes and Flink do for this name; `chance` decides where more than one thing can
        happen."""
        if chance % 4:
            self._collects(name)
        whole, truth = self.get(DEPLOYMENTS, name), self.truth(name)
        if whole is None or truth is None or not is_a_record(whole):
            return
        manager = self._pod(name, "jobmanager")
        is_own = manager is not None and _owner(manager) == whole["metadata"]["uid"]
        if whole["spec"].get("replicas") == 0:
            if is_own:
                self._ends(name, truth)
            elif chance % 3 == 0:
                self._without(name, "taskmanager")
        elif manager is None:
            self._starts(name, whole, truth)
        elif is_own:
            self._goes_on(name, truth, chance)

    def _collects(self, name: str) -> None:
        """What is owned by a Deployment that is gone goes, sooner or later."""
        live = self.get(DEPLOYMENTS, name)
        uid = live["metadata"]["uid"] if live is not None else None
        for kind in ("pods", "configmaps", "services", "secrets"):
            for each in list(self.objects[kind].values()):
                labels = each["metadata"].get("labels") or {}
                if labels.get("app", _owner_name(each)) == name and _owner(each) not in (None, uid):
                    self.remove(kind, each["metadata"]["name"])
                    if labels.get("component") == "jobmanager":
                        self.truths[_owner(each) or ""].has_manager = False

    def _ends(self, name: str, truth: NativeTruth) -> None:
        """The JobManager's pod goes; TaskManagers stay until they have waited long enough for another one."""
        truth.has_manager, truth.triggers, truth.stopping = False, {}, ""
        self._is_at(name, truth, Stage.SUSPENDED)
        self._without(name, "jobmanager")
        self._is_ready(name, 0)

    def _starts(self, name: str, whole: Resource, truth: NativeTruth) -> None:
        """A pod for the JobManager, with the configuration that stands there at that moment."""
        config = self.get("configmaps", f"flink-config-{name}")
        if config is None or _owner(config) != whole["metadata"]["uid"]:
            if whole["metadata"]["uid"].startswith(RESTORED):
                return  # the pod waits for a volume that the backup did not have
            raise Violation(f"{name}: a JobManager is to start, and its configuration is not there")
        told = json.loads(config["data"]["config.yaml"])
        if told[JOB] != truth.flink_job:
            self._starts_anew(name, whole, truth, told)
        elif truth.stage is Stage.FORGOTTEN:
            if not told[KEPT]:
                raise Violation(f"{name}: its program runs again from its beginning, and it had ended")
            self._makes_pod(name, whole, "jobmanager")
            return
        elif truth.latest != truth.restored_first and self._ha(name, truth) is None:
            raise Violation(f"{name}: its JobManager comes back, and its HA metadata were removed")
        self._is_at(name, truth, Stage.STARTING)
        self._makes_pod(name, whole, "jobmanager")

    def _starts_anew(self, name: str, whole: Resource, truth: NativeTruth, told: Mapping[str, Any]) -> None:
        """Another job: from what the one before has left, or from what was named for it."""
        if self._pod(name, "taskmanager") is not None:
            raise Violation(f"{name}: another cluster starts, and TaskManagers of the one before are there")
        spec = done_in(whole["metadata"]["annotations"]).spec or {}
        nonce = at(spec, ("job", "savepointRedeployNonce"))
        is_named = not truth.flink_job or nonce != truth.nonce
        named = at(spec, ("job", "initialSavepointPath"))
        ended_with = truth.completed or truth.restored  # what has finished may begin again
        wanted = named if is_named else truth.latest or ended_with
        if told[FROM] != wanted:
            raise Violation(f"{name} starts from {told[FROM]}, and its state is {wanted}")
        self._judge_why(name, truth, spec)
        truth.flink_job, truth.nonce, truth.has_run = told[JOB], nonce, False
        truth.begins_by(spec)
        truth.required_next = {}
        truth.reconciled, truth.started_at = dict(spec), self.version
        truth.latest = truth.restored = truth.restored_first = told[FROM]
        truth.completed = None

    def _goes_on(self, name: str, truth: NativeTruth, chance: int) -> None:
        under_way = [trigger for trigger, said in truth.triggers.items() if not said]
        if truth.stage is Stage.FORGOTTEN and not truth.has_manager:
            truth.has_manager = True
            self._is_ready(name, 1)
        elif truth.stage is Stage.STARTING and chance % 13 == 0 and self._ha(name, truth) is None:
            truth.has_manager, truth.since = True, self._milliseconds()
            self._is_at(name, truth, Stage.FAILED)  # its program fails before there is a graph
            self._is_ready(name, 1)
        elif truth.stage is Stage.STARTING:
            truth.has_manager, truth.since = True, self._milliseconds()
            truth.restored, truth.completed = truth.latest, None
            truth.required |= truth.required_next
            self._leads(name, truth)
            self._is_at(name, truth, Stage.WAITING)
            self._is_ready(name, 1)
        elif truth.stage in (Stage.WAITING, Stage.RESTARTING):
            whole = self.get(DEPLOYMENTS, name)
            assert whole is not None
            self._makes_pod(name, whole, "taskmanager")
            truth.has_run = True
            self._is_at(name, truth, Stage.RUNNING)
            self._runs(name, truth, chance)
        elif truth.is_short and not under_way and chance % 3:
            self._rescales(name, truth, is_seen=chance % 3 == 2)
        elif under_way and truth.stage is Stage.RUNNING:
            self._has_saved(name, truth, under_way[0], chance)

    def _judge_why(self, name: str, truth: NativeTruth, spec: Mapping[str, Any]) -> None:
        """Nobody has asked for another cluster where the overrides alone have changed since the one before began."""
        of_it = [o for v, o, _ in self._log if v >= truth.started_at and o["metadata"]["name"] == name]
        since = [each for each in of_it if is_a_record(each)]
        asked = [truth.reconciled, *(wanted_in(each["metadata"]["annotations"]).spec for each in since), spec]
        if truth.flink_job and all(is_of_overrides(before, after) for before, after in pairwise(asked)):
            raise Violation(f"{name} is started anew, and its parallelism overrides alone have changed")

    def _rescales(self, name: str, truth: NativeTruth, *, is_seen: bool) -> None:
        """There are slots for what is required: its tasks are restarted, from its newest checkpoint."""
        truth.restored, truth.completed = truth.latest, None
        if is_seen:
            self._is_at(name, truth, Stage.WAITING)
        else:
            self._runs(name, truth)

    def _runs(self, name: str, truth: NativeTruth, chance: int = 1) -> None:
        """Its vertices come to run."""
        truth.comes_to_run(self.version, chance)

    def _has_saved(self, name: str, truth: NativeTruth, trigger: str, chance: int) -> None:
        if chance % 5 == 0:
            truth.triggers[trigger] = f"{FAILED}java.io.IOException: disk full"
            truth.stopping = "" if truth.stopping == trigger else truth.stopping
            return
        truth.triggers[trigger] = path = f"s3://b/savepoint-{self._next()}"
        self.taken.add(path)
        if truth.stopping == trigger:
            truth.latest = truth.completed = path
            self._ends_for_good(name, truth, Stage.FINISHED)

    def _ends_for_good(self, name: str, truth: NativeTruth, stage: Stage) -> None:
        """Flink's job is over: its HA metadata go, and its JobManager stays up."""
        self._aborts(truth)
        self._is_at(name, truth, stage)
        self._forgets(name, truth)

    def _aborts(self, truth: NativeTruth) -> None:
        """What was under way comes to nothing."""
        for trigger, said in truth.triggers.items():
            truth.triggers[trigger] = said or f"{FAILED}Checkpoint Coordinator is suspending."
        truth.stopping = ""

    def flink_acts(self, name: str, chance: int) -> None:
        """Something of Flink's own happens to a job that runs, or that has run."""
        truth, what = self.truth(name), chance % 10
        if truth is not None and truth.has_manager and truth.stage in ENDED and what == 6:
            self._is_lost(name, truth, Stage.FORGOTTEN)
        if truth is None or not truth.has_manager or truth.stage not in (Stage.RUNNING, Stage.RESTARTING):
            return
        if truth.stage is Stage.RUNNING and what < 4:
            number = self._next()
            truth.latest = truth.completed = f"s3://b/{truth.flink_job}/chk-{number}"
            self._keeps(name, truth, number)
        elif what < 6:
            self._aborts(truth)
            self._is_at(name, truth, Stage.RESTARTING)
        elif what == 6:  # its JobManager is lost, and with it what it knows of savepoints; another one comes
            self._is_lost(name, truth, Stage.STARTING)
        elif what == 7:  # TaskManagers are lost and none come: the adaptive scheduler begins anew, without a graph
            self._aborts(truth)
            self._without(name, "taskmanager")
            truth.restored, truth.completed = truth.latest, None
            self._is_at(name, truth, Stage.WAITING)
        elif what == 8:
            self._ends_for_good(name, truth, Stage.FAILED)
        elif truth.stage is Stage.RUNNING:
            truth.latest = None
            self._ends_for_good(name, truth, Stage.FINISHED)

    def _is_lost(self, name: str, truth: NativeTruth, stage: Stage) -> None:
        """The JobManager's pod, and with it what it knows of savepoints."""
        truth.has_manager, truth.triggers, truth.stopping = False, {}, ""
        self._is_at(name, truth, stage)
        self._without(name, "jobmanager")
        self._is_ready(name, 0)

    # Pods and HA metadata

    def _pod(self, name: str, component: str) -> Resource | None:
        return self.get("pods", f"{name}-{component}")

    def _makes_pod(self, name: str, whole: Resource, component: str) -> None:
        owner = [{"apiVersion": "apps/v1", "kind": "Deployment", "name": name, "uid": whole["metadata"]["uid"]}]
        labels = {**labels_of_cluster(name), "component": component}
        metadata = {"name": f"{name}-{component}", "namespace": "default", "labels": labels, "ownerReferences": owner}
        container = {"name": "flink-main-container", "image": "flink"}
        self.put("pods", {"metadata": metadata, "spec": {"containers": [container]}})

    def _without(self, name: str, component: str) -> None:
        if self._pod(name, component) is not None:
            self.remove("pods", f"{name}-{component}")

    def _is_ready(self, name: str, count: int) -> None:
        whole = self.get(DEPLOYMENTS, name)
        assert whole is not None
        since = self.clock.now().isoformat()
        available = {"type": "Available", "status": "True" if count else "False", "lastTransitionTime": since}
        status = {"readyReplicas": count} if count else {}
        self.put(DEPLOYMENTS, {**copy.deepcopy(whole), "status": {**status, "conditions": [available]}})

    def _ha(self, name: str, truth: NativeTruth) -> Resource | None:
        return self.get("configmaps", ha_config_map(name, truth.flink_job))

    def _leads(self, name: str, truth: NativeTruth) -> None:
        if self._ha(name, truth) is None:
            number = (truth.restored or "-").rpartition("-")[2]
            self._keeps(name, truth, int(number) if number.isdigit() else None)

    def _keeps(self, name: str, truth: NativeTruth, number: int | None) -> None:
        data = {f"checkpointID-{number:019d}": "handle"} if number is not None else {}
        metadata = {"name": ha_config_map(name, truth.flink_job), "labels": labels_of_cluster(name)}
        self.put("configmaps", {"metadata": metadata, "data": {"counter": "1", **data}})

    def _forgets(self, name: str, truth: NativeTruth) -> None:
        if self._ha(name, truth) is not None:
            self.remove("configmaps", ha_config_map(name, truth.flink_job))

    def _milliseconds(self) -> int:
        return int(self.clock.now().timestamp() * 1000) + self._next()

    def _next(self) -> int:
        self._counted += 1
        return self._counted

    # A JobManager's REST API

    def answering(self, name: str) -> NativeTruth | None:
        """Whose JobManager answers under this name."""
        manager = self._pod(name, "jobmanager")
        truth = self.truths.get(_owner(manager) or "") if manager is not None else None
        return truth if truth is not None and truth.has_manager else None

    def rest(self, method: str, namespace: str, name: str, path: str, body: Body) -> RestAnswer:
        """One request, as clusters.RestSend: whoever has the pod answers."""
        truth = self.answering(name)
        if truth is None:
            raise Unavailable(f"the JobManager of {namespace}/{name} did not answer")
        job, what = path.split("/")[2], path.split("/")[3:]
        is_known = truth.stage is not Stage.FORGOTTEN
        if job == "overview":
            return _answer({"jobs": [_overview(truth)] if is_known else []})
        if job != truth.flink_job or not is_known:
            return _answer({"errors": [f"Job {job} not found"]}, 404)
        if not what:
            return _answer({"errors": [NO_PLAN]}, 500) if _has_no_graph(truth) else _answer(_job(truth))
        if what[0] == REQUIREMENTS:
            return self._required(truth, method, body or {})
        if method == "POST":
            return self._asked(truth, what[0], str((body or {})["triggerId"]))
        said = truth.triggers.get(what[1])
        if said is None:
            return _answer({"errors": ["There is no savepoint operation with triggerId"]}, 404)
        return _answer(_savepoint(said))

    def _asked(self, truth: NativeTruth, what: str, trigger: str) -> RestAnswer:
        if trigger not in truth.triggers:
            is_running = truth.stage is Stage.RUNNING
            truth.triggers[trigger] = "" if is_running else f"{FAILED}{TOO_EARLY}"
            truth.stopping = trigger if what == "stop" and is_running else truth.stopping
        return _answer({"request-id": trigger}, 202)

    def _required(self, truth: NativeTruth, method: str, body: Mapping[str, Any]) -> RestAnswer:
        """What the job's vertices are to run at: kept with the HA metadata first, then told to the job."""
        status, told = requirements_told(truth)
        if method != "PUT" or status != 200:
            return _answer(told, status)
        if self.mood:
            return self._not_applied(truth, body)
        truth.required_next = {}
        truth.required = {vertex: int(each["parallelism"]["upperBound"]) for vertex, each in body.items()}
        return _answer({})

    def _not_applied(self, truth: NativeTruth, body: Mapping[str, Any]) -> RestAnswer:
        """Flink takes one update at a time; and one that is kept may not reach the job, but the next JobManager."""
        if self.mood == "refuses":
            return _answer({"errors": ["Another update to the job resource requirements is in progress."]}, 409)
        truth.required_next = {each: int(told["parallelism"]["upperBound"]) for each, told in body.items()}
        return _answer({"errors": ["Internal server error."]}, 500)


class ModelLauncher(Launcher):
    """A command line that says what a cluster is made of, or that cannot, as the cluster's mood is."""

    def __init__(self, cluster: NativeCluster) -> None:
        super().__init__(Path("/opt/flink"), None, 1.0)
        object.__setattr__(self, "cluster", cluster)

    @property
    def release(self) -> tuple[int, ...]:  # type: ignore[override]
        """The release that it plays."""
        return (2, 2, 1)

    def launch(
        self, name: str, namespace: str, spec: Mapping[str, Any], *, job_id: str, start_from: str | None
    ) -> Made:
        """See Launcher."""
        mood: str = self.cluster.mood  # type: ignore[attr-defined]
        if mood == "busy":
            raise Unavailable("bin/flink was not done within 120 s")
        if mood == "refuses":
            raise Refused("bin/flink ended with 1: no such option")
        kept = options(name, namespace, spec, job_id).get("job-result-store.delete-on-commit") == "false"
        return made(name, {"config.yaml": json.dumps({JOB: job_id, FROM: start_from, KEPT: kept})})


MOODS = ("", "busy", "", "refuses")


def _view(whole: Resource, stage: Stage) -> dict[str, Any]:
    """A Deployment as a FlinkDeployment, with what is so of its job."""
    seen = as_flink_deployment(whole, None)
    if is_a_record(whole):
        seen["spec"] = wanted_in(whole["metadata"]["annotations"]).spec
        seen["status"] = {"jobStatus": {"state": stage.value}}
    return seen


def _owner(whole: Resource) -> str | None:
    owners = whole["metadata"].get("ownerReferences") or []
    return owners[0]["uid"] if owners else None


def _owner_name(whole: Resource) -> str | None:
    owners = whole["metadata"].get("ownerReferences") or []
    return owners[0]["name"] if owners else None


def _has_no_graph(truth: NativeTruth) -> bool:
    """Whether its program failed before it gave Flink a job."""
    return truth.stage is Stage.FAILED and not truth.has_run


def _overview(truth: NativeTruth) -> dict[str, Any]:
    job = _job(truth)
    tasks = {state.lower(): count for vertex in job["vertices"] for state, count in vertex["tasks"].items()}
    return {
        "jid": truth.flink_job,
        "name": "(application driver)" if _has_no_graph(truth) else job["name"],
        "state": job["state"],
        "start-time": job["start-time"],
        "tasks": {"total": sum(tasks.values()), **tasks},
    }


def _job(truth: NativeTruth) -> dict[str, Any]:
    state = "CREATED" if truth.stage is Stage.WAITING else truth.stage.value
    times = {"RUNNING": 1 if truth.has_run else 0}
    return {
        "timestamps": times,
        "jid": truth.flink_job,
        "name": "job",
        "state": state,
        "start-time": truth.since,
        "vertices": vertices_told(truth),
    }


def _savepoint(said: str) -> dict[str, Any]:
    if not said:
        return {"status": {"id": "IN_PROGRESS"}, "operation": None}
    if said.startswith(FAILED):
        trace = f"x\n\tat y\nCaused by: {said.removeprefix(FAILED)}\n"
        return {"status": {"id": "COMPLETED"}, "operation": {"failure-cause": {"class": "x", "stack-trace": trace}}}
    return {"status": {"id": "COMPLETED"}, "operation": {"location": said}}


def _answer(content: Any, status: int = 200) -> RestAnswer:
    return RestAnswer(status, json.dumps(content).encode())
