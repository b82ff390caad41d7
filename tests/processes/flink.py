"""The operator and Flink as a process: what tests/model/flink.py knows of both, over a real Kubernetes API.

It may be killed and frozen at any moment, as the real operator may; Flink does not stop for that, so what is true of
each job stands in a file before the API is told of it. Must not know of records or operations.
"""

from __future__ import annotations

import argparse
import json
import random
import signal
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx

from headrace.bootstrap import SystemClock
from headrace.domain.state_on_hand import HaMetadata
from local.flink_operator.kube import Kube, KubeError, Resource
from local.flink_operator.snapshots import ENDED, manual
from tests.model.flink import Cluster, Stage, Truth, requirements_told, vertices_told
from tests.model.native import NO_PLAN
from tests.processes.native import RAN, RemoteNative

FINALIZER = "flinkdeployments.flink.apache.org/finalizer"
LOOK_SECONDS = 0.15
OF_ITS_OWN = 0.12
"""How often something of Flink's own happens at a look."""

TROUBLE = 0.15
"""How often that is no checkpoint, but a restart, a lost process, a failure or an end."""

NO_TROUBLE, FAILS_AT_START = 1, 13
"""The chances at which the model's operator fails nothing, and a program that starts."""

CALM, LOST, LEFT, FAILS, TRUTHS, GONE = "calm", "lost-", "left-", "fails-", "truths.json", "gone.jsonl"
"""Files of its folder: nothing goes wrong; of a job, that its JobManager is lost until then, that nobody takes its
snapshots, that its program fails as it starts; and what is kept there."""

TRIGGER = "savepointTriggerNonce"
LOSES_ITS_MANAGER = 6
"""Of Flink's own acts (see Cluster)."""


class Remote(Cluster):
    """The model's operator, whose objects stand in an API server and whose truths stand in a file."""

    def __init__(self, kube: Kube, folder: Path) -> None:
        super().__init__(SystemClock())
        self.lock = threading.RLock()
        self._kube = kube
        self._folder = folder
        self._live: dict[str, Resource] = {}
        self._generations: dict[str, int] = {}
        self._untold: tuple[str, Resource, Mapping[str, Any]] | None = None
        self._remember()

    def look(self) -> list[str]:
        """Reads every deployment, and finishes what a process before this one, or this one, could not tell."""
        if self._untold is not None:
            self._tell(*self._untold)
        self._live = {each["metadata"]["name"]: each for each in self._kube.deployments()}
        uids = {live["metadata"]["uid"] for live in self._live.values()}
        self.truths = {uid: truth for uid, truth in self.truths.items() if uid in uids}
        for live in self._live.values():
            self._notice(live)
        self._take_snapshots()
        return sorted(self._live)

    def _notice(self, live: Resource) -> None:
        """What a suspend leaves is what there was when it was asked for (see Cluster)."""
        uid, generation = live["metadata"]["uid"], live["metadata"]["generation"]
        truth = self.truths.setdefault(uid, Truth())
        if self._generations.get(uid) != generation:
            self._generations[uid] = generation
            truth.kept = truth.latest

    def names(self) -> list[str]:
        """See Cluster."""
        return sorted(self._live)

    def whole(self, name: str) -> Resource | None:
        """The deployment as it was at the last look."""
        return self._live.get(name)

    def operator_acts(self, name: str, chance: int) -> None:
        """See Cluster. The finalizer comes first, as the real operator's does."""
        live = self._live[name]
        if FINALIZER not in (live["metadata"].get("finalizers") or []) and "deletionTimestamp" not in live["metadata"]:
            self._kube.set_finalizers(name, [*(live["metadata"].get("finalizers") or []), FINALIZER])
        elif not self._saves_by_nonce(name, live):
            super().operator_acts(name, chance)

    def _starts(self, name: str, truth: Truth, chance: int) -> None:
        """See Cluster. A JobManager is lost once there is a checkpoint to lose, and no other one comes for a while."""
        file = self._folder / f"{LOST}{name}"
        is_lost = file.exists() and float(file.read_text() or 0) > time.time()
        if is_lost and truth.stage is Stage.RUNNING and truth.completed:
            self.flink_acts(name, LOSES_ITS_MANAGER)
        elif not (is_lost and truth.stage is Stage.STARTING and truth.has_run):
            super()._starts(name, truth, chance)

    def _runs(self, name: str, truth: Truth, chance: int = 1) -> None:
        """See Cluster. At what it runs is written down."""
        super()._runs(name, truth, chance)
        with (self._folder / RAN).open("a") as file:
            file.write(json.dumps({"at": time.time(), "name": name, "runs_at": truth.runs_at}) + "\n")

    def write(self, name: str, changes: Mapping[str, Any], *, spec: bool = False) -> None:
        """A status, told to the API once it is on file."""
        assert not spec
        live = self._live[name]
        status = _without_nothing({**(live.get("status") or {}), **changes["status"]})
        self._live[name] = {**live, "status": status}
        self._untold = (name, live, status)
        self._keep()
        self._tell(*self._untold)

    def _tell(self, name: str, live: Resource, status: Mapping[str, Any]) -> None:
        self._kube.put_status(live, status)
        self._untold = None

    def vanish(self, name: str) -> None:
        """Its pods are gone; the finalizer lets go of it. What state it had is written down for who judges."""
        live = self._live.pop(name)
        uid = live["metadata"]["uid"]
        truth = self.truths.setdefault(uid, Truth())
        line = {"name": name, "uid": uid, "latest": truth.latest, "kept": truth.kept, "stage": truth.stage}
        with (self._folder / GONE).open("a") as file:
            file.write(json.dumps(line) + "\n")
        finalizers = [each for each in live["metadata"].get("finalizers") or [] if each != FINALIZER]
        self._kube.set_finalizers(name, finalizers)

    def put_config_map(self, namespace: str, name: str, data: Mapping[str, str] | None) -> None:
        """See InMemoryRuntime."""
        self._kube.delete_core("configmaps", name)
        if data is not None:
            body = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": dict(data)}
            self._kube.put_core("configmaps", body)

    def ha_metadata(self, namespace: str, name: str, flink_job_id: str) -> HaMetadata | None:
        """Whether there are any is all that the model asks."""
        found = self._kube.data_of("configmaps", f"{name}-{flink_job_id}-config-map")
        return HaMetadata(flink_job_id, None) if found is not None else None

    # Savepoints that are asked for, by a resource or by a nonce

    def _take_snapshots(self) -> None:
        for name in self._live:
            for resource in self._kube.snapshots_of(name) if not (self._folder / f"{LEFT}{name}").exists() else ():
                if (resource.get("status") or {}).get("state") not in ENDED:
                    self._takes(name, resource)

    def _takes(self, name: str, resource: Resource) -> None:
        truth = self.truth(name)
        assert truth is not None
        if truth.stage is Stage.RUNNING:
            status: dict[str, Any] = {"state": "COMPLETED", "path": self._saved(truth), "failures": 0}
        else:
            status = {"state": "ABANDONED", "error": "the job is not RUNNING"}
        self._keep()
        self._kube.set_snapshot_status(resource["metadata"]["name"], {**status, "resultTimestamp": _now()})

    def _saves_by_nonce(self, name: str, live: Resource) -> bool:
        truth = self.truth(name)
        assert truth is not None
        wanted, was = dict(live["spec"]["job"]), dict(truth.reconciled.get("job") or {})
        if not was or wanted.get(TRIGGER) == was.get(TRIGGER) or truth.stage is not Stage.RUNNING:
            return False
        if {**live["spec"], "job": {**wanted, TRIGGER: None}} != {**truth.reconciled, "job": {**was, TRIGGER: None}}:
            return False
        truth.reconciled = dict(live["spec"])
        status = {"state": "COMPLETED", "path": self._saved(truth), "failures": 0, "resultTimestamp": _now()}
        self._kube.put_snapshot(manual(name), status)
        self._says(name, None, None, None)
        return True

    def _saved(self, truth: Truth) -> str:
        truth.latest = truth.completed = path = f"s3://b/savepoint-{self._next()}"
        return path

    # The file

    def _keep(self) -> None:
        truths = {uid: asdict(truth) for uid, truth in self.truths.items()}
        part = self._folder / f"{TRUTHS}.part"
        part.write_text(json.dumps({"counted": self._counted, "truths": truths, "untold": self._untold}))
        part.replace(self._folder / TRUTHS)

    def _remember(self) -> None:
        file = self._folder / TRUTHS
        if not file.exists():
            return
        kept = json.loads(file.read_text())
        self._counted = kept["counted"]
        self.truths = {u: Truth(**{**t, "stage": Stage(t["stage"])}) for u, t in kept["truths"].items()}
        self._untold = tuple(kept["untold"]) if kept["untold"] else None


def _without_nothing(status: Mapping[str, Any]) -> dict[str, Any]:
    """The operator's JSON leaves out what is null."""
    return {k: _without_nothing(v) if isinstance(v, dict) else v for k, v in status.items() if v is not None}


def _now() -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())


def operate(
    cluster: Remote, native: RemoteNative, folder: Path, chance: random.Random, stopping: threading.Event
) -> None:
    """Until told to stop. While the file `calm` is there, nothing of Flink's own goes wrong."""
    while not stopping.wait(LOOK_SECONDS):
        try:
            with cluster.lock:
                is_calm = (folder / CALM).exists()
                for name in cluster.look():
                    _happens(cluster, name, chance, is_calm, (folder / f"{FAILS}{name}").exists())
                    cluster._keep()
                for name in native.look():
                    _happens_natively(native, folder, name, chance, is_calm)
                native.keep()
        except (KubeError, httpx.HTTPError) as error:
            print(error, flush=True)


def _happens(cluster: Remote, name: str, chance: random.Random, is_calm: bool, fails: bool) -> None:
    cluster.operator_acts(name, FAILS_AT_START if fails else NO_TROUBLE if is_calm else chance.randrange(10_000))
    if not is_calm and cluster.whole(name) is not None and chance.random() < OF_ITS_OWN:
        cluster.flink_acts(name, chance.randrange(4, 10) if chance.random() < TROUBLE else 0)


def _happens_natively(native: RemoteNative, folder: Path, name: str, chance: random.Random, is_calm: bool) -> None:
    """As with the operator; a JobManager that is lost stays away for a while."""
    truth, fails = native.truth(name), (folder / f"{FAILS}{name}").exists()
    file = folder / f"{LOST}{name}"
    is_lost = file.exists() and float(file.read_text() or 0) > time.time()
    if is_lost:
        native.loses_its_manager(name)
    if not (is_lost and truth is not None and truth.stage is Stage.STARTING and truth.has_run):
        native.acts(name, FAILS_AT_START if fails else NO_TROUBLE if is_calm else chance.randrange(10_000))
    if not is_calm and chance.random() < OF_ITS_OWN:
        native.flink_acts(name, chance.randrange(4, 10) if chance.random() < TROUBLE else 0)


def serve(cluster: Remote, native: RemoteNative, port: int) -> ThreadingHTTPServer:
    """The REST API of every JobManager, at /{namespace}/{name}: what theirs could answer at that moment."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self._answered("GET", None)

        def do_POST(self) -> None:
            self._answered("POST", self._said())

        def do_PUT(self) -> None:
            self._answered("PUT", self._said())

        def _said(self) -> Any:
            return json.loads(self.rfile.read(int(self.headers.get("Content-Length") or 0)) or b"{}")

        def _answered(self, method: str, said: Any) -> None:
            _, _, name, *rest = self.path.split("/")
            with cluster.lock:
                answer = _of_both(cluster, native, method, name, rest, said)
            if answer is None:
                self.close_connection = True
                return  # nobody listens there
            status, content = answer
            body = json.dumps(content).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Nobody reads it."""

    server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server


def _of_both(
    cluster: Remote, native: RemoteNative, method: str, name: str, rest: Sequence[str], said: Any
) -> tuple[int, Any] | None:
    """What whoever listens under this name answers."""
    theirs, ours = cluster.truth(name), native.answering(name)
    if ours is None or (theirs is not None and theirs.has_manager):
        return _answer(theirs, rest) if method == "GET" else None
    if rest == ["overview"] or rest[2:] in (["checkpoints"], ["exceptions"]):
        return _answer(ours, rest)
    answer = native.rest(method, "default", name, "/" + "/".join(rest), said)
    return answer.status, json.loads(answer.body)


def _answer(truth: Truth | None, rest: Sequence[str]) -> tuple[int, Any] | None:
    if truth is None or not truth.has_manager:
        return None
    never_ran = truth.stage is Stage.FAILED and not truth.has_run
    if rest == ["overview"]:
        return 200, {"taskmanagers": 1, "slots-total": 8}
    state = "CREATED" if truth.stage is Stage.WAITING else "FAILED" if never_ran else str(truth.stage)
    if rest == ["jobs", "overview"]:
        return 200, {"jobs": [{"jid": truth.flink_job, "state": state, "tasks": {"total": 0}}]}
    if len(rest) < 2 or rest[1] != truth.flink_job or truth.stage is Stage.FORGOTTEN:
        return 404, {"errors": ["not found"]}
    if rest[2:] == ["checkpoints"]:
        return (404, {"errors": ["no execution graph"]}) if never_ran else (200, {"latest": _latest(truth)})
    if rest[2:] == ["exceptions"]:
        return 200, {"exceptionHistory": {"entries": []}}
    if rest[2:] == ["resource-requirements"]:
        return requirements_told(truth)
    if never_ran:
        return 500, {"errors": [NO_PLAN]}
    times = {"RUNNING": 1 if truth.has_run else 0}
    return 200, {"jid": truth.flink_job, "state": state, "timestamps": times, "vertices": vertices_told(truth)}


def _latest(truth: Truth) -> dict[str, Any]:
    if truth.stage is Stage.WAITING:
        return {}
    told = {"completed": truth.completed, "restored": truth.restored}
    return {kind: _checkpoint(path) for kind, path in told.items() if path is not None}


def _checkpoint(path: str) -> dict[str, Any]:
    number = path.rpartition("-")[2]
    return {"id": int(number) if number.isdigit() else 0, "external_path": path}


def main() -> None:
    """Until SIGTERM."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kubeconfig", type=Path, required=True)
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--rest-port", type=int, required=True)
    parser.add_argument("--namespace", default="default")
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    stopping = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopping.set())
    asked.folder.mkdir(parents=True, exist_ok=True)
    cluster = Remote(Kube(asked.kubeconfig, asked.namespace), asked.folder)
    native = RemoteNative(asked.kubeconfig, asked.folder)
    server = serve(cluster, native, asked.rest_port)
    operate(cluster, native, asked.folder, random.Random(asked.seed), stopping)
    server.shutdown()


if __name__ == "__main__":
    main()
