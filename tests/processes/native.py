"""Kubernetes and Flink below native mode as a part of the player's process: what tests/model/native.py knows of both,
over a real Kubernetes API.

It may be killed at any moment: what is true of each job stands in a file before the API is told of it, and what the API
was not told is told at the next look. Must not know of records or operations.
"""

from __future__ import annotations

import json
import stat
import sys
import time
from collections import defaultdict
from dataclasses import asdict
from pathlib import Path
from typing import Any

import httpx
import yaml

from headrace.adapters.flink_rest import Body, RestAnswer
from headrace.bootstrap import SystemClock
from tests.model.flink import Stage
from tests.model.kubernetes import DEPLOYMENTS, Resource
from tests.model.native import NativeCluster, NativeTruth
from tests.model.promises import Violation

NATIVE_TRUTHS, STAGES, WRONG, RAN = "native-truths.json", "native-stages.jsonl", "wrong.jsonl", "ran.jsonl"
"""Files of the player's folder: what is so, each stage that a job came to, what was started that may not be, and at
what a job of either runtime came to run."""

FOLDERS = {
    DEPLOYMENTS: "/apis/apps/v1/namespaces/default/deployments",
    **{kind: f"/api/v1/namespaces/default/{kind}" for kind in ("pods", "configmaps", "services")},
}
OF_NATIVE = {"labelSelector": "type=flink-native-kubernetes"}
MERGE_PATCH = {"Content-Type": "application/merge-patch+json"}
LOSES_ITS_MANAGER = 6


class RemoteNative(NativeCluster):
    """See NativeCluster. Its objects stand in an API server, as they were at the last look."""

    def __init__(self, kubeconfig: Path, folder: Path) -> None:
        super().__init__(SystemClock())
        config = yaml.safe_load(kubeconfig.read_text())
        url, token = config["clusters"][0]["cluster"]["server"], config["users"][0]["user"]["token"]
        headers = {"Authorization": f"Bearer {token}"}
        self._http = httpx.Client(base_url=url, headers=headers, timeout=15, trust_env=False)
        self._folder = folder
        self._names: dict[str, str] = {}
        self._said: set[str] = set()
        self._remember()

    def look(self) -> list[str]:
        """Reads what is there; the names of which something is. Raises httpx.HTTPError."""
        self.objects = defaultdict(dict)
        for kind, path in FOLDERS.items():
            answer = self._http.get(path, params=OF_NATIVE)
            answer.raise_for_status()
            self.objects[kind] = {each["metadata"]["name"]: each for each in answer.json()["items"]}
        live = {each["metadata"]["uid"]: each["metadata"]["name"] for each in self.objects[DEPLOYMENTS].values()}
        for uid in [uid for uid in self._names if uid not in live]:
            self._is_gone(uid)
        self._names |= live
        for uid, name in live.items():
            self._tells_again(name, self.truths.setdefault(uid, NativeTruth()))
        owned = (each for kind in FOLDERS for each in self.objects[kind].values())
        return sorted({str(each["metadata"]["labels"]["app"]) for each in owned})

    def acts(self, name: str, chance: int) -> None:
        """See NativeCluster. What may not be started is written down."""
        try:
            super().acts(name, chance)
        except Violation as violation:
            self._says_wrong(name, str(violation))

    def loses_its_manager(self, name: str) -> None:
        """Its JobManager is lost, once it has a checkpoint to lose."""
        truth = self.truth(name)
        if truth is not None and truth.stage is Stage.RUNNING and truth.completed:
            self.flink_acts(name, LOSES_ITS_MANAGER)

    def put(self, kind: str, whole: Resource) -> Resource:
        """See Api. Of a Deployment its status alone is Kubernetes' to write."""
        self.keep()
        name = whole["metadata"]["name"]
        path = f"{FOLDERS[kind]}/{name}"
        if kind == DEPLOYMENTS:
            count = (whole.get("status") or {}).get("readyReplicas", 0)
            status = {"replicas": count, "readyReplicas": count, "availableReplicas": count}
            answer = self._http.patch(f"{path}/status", content=json.dumps({"status": status}), headers=MERGE_PATCH)
        elif name in self.objects[kind]:
            answer = self._http.put(path, json={**_versioned(kind), **whole})
        else:
            answer = self._http.post(FOLDERS[kind], json={**_versioned(kind), **whole})
        if answer.status_code not in (404, 409):
            answer.raise_for_status()
            self.objects[kind][name] = whole = answer.json()
        return whole

    def remove(self, kind: str, name: str) -> None:
        """See Api."""
        self.keep()
        body = {"apiVersion": "v1", "kind": "DeleteOptions", "gracePeriodSeconds": 0}
        answer = self._http.request("DELETE", f"{FOLDERS[kind]}/{name}", json=body)
        if answer.status_code not in (404, 409):
            answer.raise_for_status()
        self.objects[kind].pop(name, None)

    def _runs(self, name: str, truth: NativeTruth, chance: int = 1) -> None:
        """See NativeCluster. At what it runs is written down."""
        super()._runs(name, truth, chance)
        self._writes(RAN, {"at": time.time(), "name": name, "runs_at": truth.runs_at})

    def _judge_why(self, name: str, truth: NativeTruth, spec: Any) -> None:
        """Not here: what was wanted between two looks is not known."""

    def rest(self, method: str, namespace: str, name: str, path: str, body: Body) -> RestAnswer:
        """See NativeCluster. What is required from now on is on file before that is answered."""
        answer = super().rest(method, namespace, name, path, body)
        if method == "PUT":
            self.keep()
        return answer

    def _makes_pod(self, name: str, whole: Resource, component: str) -> None:
        if self._pod(name, component) is None:
            super()._makes_pod(name, whole, component)

    def _is_at(self, name: str, truth: NativeTruth, stage: Stage) -> None:
        truth.stage = stage
        uid = next((uid for uid, each in self.truths.items() if each is truth), "")
        self.keep()
        self._writes(STAGES, {"at": time.time(), "name": name, "uid": uid, "stage": stage})

    def _tells_again(self, name: str, truth: NativeTruth) -> None:
        """The HA metadata as they are by what is so: a process before this one may have died before it wrote them."""
        if truth.stage in (Stage.FINISHED, Stage.FAILED):
            self._forgets(name, truth)
        elif truth.stage in (Stage.WAITING, Stage.RUNNING, Stage.RESTARTING):
            folder, _, number = (truth.latest or "").rpartition("/chk-")
            has = self._ha(name, truth)
            data = has["data"] if has is not None else {}
            if has is None or (folder.endswith(truth.flink_job) and f"checkpointID-{int(number):019d}" not in data):
                self._keeps(name, truth, int(number) if number.isdigit() else None)

    def _is_gone(self, uid: str) -> None:
        name, truth = self._names.pop(uid), self.truths.get(uid, NativeTruth())
        line = {"name": name, "uid": uid, "latest": truth.latest, "kept": truth.kept, "stage": truth.stage}
        self._writes("gone.jsonl", line)

    def _says_wrong(self, name: str, why: str) -> None:
        if why not in self._said:
            self._said.add(why)
            self._writes(WRONG, {"name": name, "why": why})

    def _writes(self, file: str, line: dict[str, Any]) -> None:
        with (self._folder / file).open("a") as out:
            out.write(json.dumps(line) + "\n")

    # The file

    def keep(self) -> None:
        """What is so, on file."""
        truths = {uid: asdict(truth) for uid, truth in self.truths.items()}
        part = self._folder / f"{NATIVE_TRUTHS}.part"
        part.write_text(json.dumps({"counted": self._counted, "truths": truths, "names": self._names}))
        part.replace(self._folder / NATIVE_TRUTHS)

    def _remember(self) -> None:
        file = self._folder / NATIVE_TRUTHS
        if file.exists():
            kept = json.loads(file.read_text())
            self._counted, self._names = kept["counted"], kept["names"]
            self.truths = {u: NativeTruth(**{**t, "stage": Stage(t["stage"])}) for u, t in kept["truths"].items()}


def _versioned(kind: str) -> dict[str, str]:
    return {"apiVersion": "v1", "kind": {"pods": "Pod", "configmaps": "ConfigMap"}.get(kind, kind)}


def flink_home(folder: Path) -> Path:
    """A Flink distribution whose command line is tests/processes/flink_cli.py, with a Java that is never run."""
    home, writer = folder / "flink-home", Path(__file__).with_name("flink_cli.py")
    for path, text in (
        (home / "bin" / "flink", f'#!/bin/bash\nexec {sys.executable} -S -E {writer} "$@"\n'),
        (home / "bin" / "java", "#!/bin/bash\nexit 1\n"),
        (home / "lib" / "flink-dist-2.2.1.jar", ""),
    ):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return home
