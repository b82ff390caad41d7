"""Our processes as an overlay installs them: its settings and arguments, each with the token of its own account and no
other, and on a real API server its Roles. The servers beside it and the operator are local processes."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import yaml
from pymongo import MongoClient

from headrace.adapters.sealing import new_key
from headrace.client import BASE
from local import private
from local.kube_apiserver import write_kubeconfig
from local.process import Command, LocalProcess, answers, free_port
from local.servers import http_answers
from tests.processes.flink import CALM
from tests.support import servers
from tests.support.asking import answered
from tests.support.controllers import client
from tests.support.kube_apiserver import CRDS_DIRECTORY, KubeServer, running_kube_apiserver
from tests.support.kubectl import DEPLOY, Kubectl, kustomized
from tests.support.patience import PATIENCE, wait_for
from tests.support.rights import await_rights
from tests.support.workers import READY, ROOT

OVERLAY, FLINK = DEPLOY / "overlays" / "production", DEPLOY / "flink" / "flink-jobs"
OURS, JOBS = "headrace", "flink-jobs"
FLINK_RESOURCES = f"/apis/flink.apache.org/v1beta1/namespaces/{JOBS}"
ROLES = f"/apis/rbac.authorization.k8s.io/v1/namespaces/{JOBS}/roles"
MERGE_PATCH = {"Content-Type": "application/merge-patch+json"}
PROCESSES = ("api", "worker", "sync", "beat", "consumer")
QUICK = {
    "HEADRACE_KUBERNETES_TIMEOUT_SECONDS": "5",
    "HEADRACE_SYNC_PERIOD_SECONDS": "1",
    "HEADRACE_RELIST_PERIOD_SECONDS": "20",
    "HEADRACE_REDELIVER_PERIOD_SECONDS": "1",
    "HEADRACE_PRUNE_PERIOD_SECONDS": "2",
    "HEADRACE_FAILURE_GRACE_SECONDS": "30",
}
"""Shorter periods than the overlay's, so that what comes in minutes comes in seconds."""


@dataclass
class Accounts:
    """The accounts of the overlay and their tokens, each bound to an object as a pod's is to the pod: with the object
    gone it opens nothing."""

    http: httpx.Client
    server: KubeServer
    folder: Path
    _bound: dict[str, str] = field(default_factory=dict)
    _count: int = 0

    def kubeconfig(self, account: str) -> Path:
        """Names a file with a token of this account, as a pod has one; the file is renewed by `renew`."""
        path, token = self.folder / f"{account}.kubeconfig", self.folder / f"{account}.token"
        self.renew(account)
        write_kubeconfig(path, self.server.url, "", self.server.ca_path)
        content = yaml.safe_load(path.read_text())
        content["users"][0]["user"] = {"tokenFile": str(token)}
        private.write(path, yaml.safe_dump(content))
        return path

    def renew(self, account: str) -> str:
        """Puts a new token into the file, as the kubelet does; returns what ends the one of before."""
        self._count += 1
        name = f"{account}-{self._count}"
        made = self.http.post(f"/api/v1/namespaces/{OURS}/secrets", json={"metadata": {"name": name}})
        uid = made.raise_for_status().json()["metadata"]["uid"]
        ref = {"kind": "Secret", "apiVersion": "v1", "name": name, "uid": uid}
        asked = {"spec": {"expirationSeconds": 3600, "boundObjectRef": ref}}
        path = f"/api/v1/namespaces/{OURS}/serviceaccounts/{account}/token"
        token = self.http.post(path, json=asked).raise_for_status().json()["status"]["token"]
        part = self.folder / f"{account}.token.part"
        private.write(part, token)
        part.replace(self.folder / f"{account}.token")
        before = self._bound.get(account, "")
        self._bound[account] = name
        return before

    def end(self, bound: str) -> None:
        """The tokens that are bound to this are good no more."""
        self.http.delete(f"/api/v1/namespaces/{OURS}/secrets/{bound}").raise_for_status()

    def token(self, account: str) -> str:
        """The one in its file now."""
        return (self.folder / f"{account}.token").read_text()


@dataclass
class Deployed:
    """An installation by the production overlay; its processes are started by their names."""

    folder: Path
    server: KubeServer
    http: httpx.Client
    kubectl: Kubectl
    accounts: Accounts
    env: Mapping[str, str]
    operator: LocalProcess
    database: Any
    processes: dict[str, LocalProcess] = field(default_factory=dict)
    _api_key: str = ""

    def start(self, *names: str, **more: str) -> None:
        """These processes of the overlay, once they are ready."""
        for name in names:
            argv, env = self._as_installed(name)
            command = Command(name, argv, partial(self._is_ready, name), env=env | more, port=self._served_by(name))
            process = LocalProcess(command, self._log(name), ROOT)
            self.processes[name] = process
            process.start()
        for name in names:
            wait_for(f"{name} to be ready", self.processes[name].is_ready)

    def stop(self, *names: str) -> None:
        for name in names:
            self.processes[name].ask_to_stop()
        for name in names:
            self.processes.pop(name).stop()

    def log(self, name: str) -> str:
        return self._log(name).read_text(errors="replace")

    def _log(self, name: str) -> Path:
        return self.folder / f"{name}.log"

    def _is_ready(self, name: str) -> bool:
        assert self.processes[name].exit_code is None, self.processes[name].log_tail(20)
        if name == "api":
            return http_answers(f"http://127.0.0.1:{self.env['HEADRACE_API_PORT']}/livez")
        return READY in self.log(name) if name in ("worker", "sync") else True

    def _served_by(self, name: str) -> int:
        return int(self.env["HEADRACE_API_PORT"]) if name == "api" else 0

    def _as_installed(self, name: str) -> tuple[list[str], dict[str, str]]:
        """What its pod would be started with, but for the ports, since here they share one address; a kubeconfig only
        where its pod has a token."""
        pod = next(
            each["spec"]["template"]["spec"]
            for each in kustomized(OVERLAY)
            if each["kind"] == "Deployment" and each["metadata"]["name"] == name
        )
        home = self.folder / "home"
        home.mkdir(exist_ok=True)
        ports = {name: str(free_port()) for name in ("HEADRACE_METRICS_PORT", "HEADRACE_GRPC_PORT")}
        env = {**self.env, **ports, "HOME": str(home), "KUBECONFIG": ""}
        if pod["automountServiceAccountToken"]:
            env["HEADRACE_KUBECONFIG"] = str(self.accounts.kubeconfig(pod["serviceAccountName"]))
        return [servers.PYTHON, "-m", *pod["containers"][0]["args"]], env

    # What people and others do

    def call(self, method: str, path: str, body: Any = None) -> httpx.Response:
        """What the API answers to an admin, once its servers do."""
        return answered(lambda key: self.tried(method, path, body, **{"Idempotency-Key": key}))

    def tried(self, method: str, path: str, body: Any = None, **headers: str) -> httpx.Response:
        """What the API answers to one request, whatever that is."""
        url = f"http://127.0.0.1:{self.env['HEADRACE_API_PORT']}{BASE}{path}"
        sent = {"Authorization": f"Bearer {self._api_key}", **headers}
        return httpx.request(method, url, json=body, headers=sent, timeout=90, trust_env=False)

    def asked(self, job_id: str, word: str, **body: Any) -> str:
        """The id of the operation that was accepted."""
        path = f"/jobs/{word}" if word == "submit" else f"/jobs/{job_id}/{word}"
        answer = self.call("POST", path, {"job_id": job_id, **body} if word == "submit" else body)
        assert answer.status_code in (200, 202), answer.text
        found: str = answer.json()["operation"]["id"]
        return found

    def operation(self, operation_id: str) -> dict[str, Any]:
        found: dict[str, Any] = self.call("GET", f"/operations/{operation_id}").json()["operation"]
        return found

    def ended(self, operation_id: str, seconds: float = 60) -> dict[str, Any]:
        """The operation once it has ended."""
        seen: dict[str, Any] = {}

        def has_ended() -> bool:
            seen.update(self.operation(operation_id))
            return seen["state"] not in ("ACCEPTED", "RUNNING")

        try:
            wait_for("the operation to end", has_ended, seconds)
        except AssertionError as exc:
            raise AssertionError(f"{exc}: {seen}; {self.call('GET', '/jobs/' + seen['job_id']).text}") from exc
        return seen

    def done(self, job_id: str, word: str, **body: Any) -> dict[str, Any]:
        """The operation, which has succeeded."""
        ended = self.ended(self.asked(job_id, word, **body))
        assert ended["state"] == "SUCCEEDED", ended
        return ended

    def job(self, job_id: str) -> dict[str, Any]:
        return dict(self.call("GET", f"/jobs/{job_id}").json())

    def live(self, name: str, kind: str = "flinkdeployments") -> dict[str, Any] | None:
        """The object in Kubernetes; None where there is none."""
        answer = self.http.get(f"{FLINK_RESOURCES}/{kind}/{name}")
        return dict(answer.json()) if answer.status_code == 200 else None

    @contextmanager
    def without(self, process: str, resource: str, *verbs: str) -> Iterator[None]:
        """The process' account lacks these rights meanwhile."""
        path = f"{ROLES}/headrace-{process}"
        role = self.http.get(path).raise_for_status().json()
        less = {"rules": [_lessened(each, resource, verbs) for each in role["rules"]]}
        less["rules"] = [each for rules in less["rules"] for each in rules]
        self.http.patch(path, json=less, headers=MERGE_PATCH).raise_for_status()
        wait_for("the right to be gone", lambda: not self.may(process, resource, verbs[0]))
        try:
            yield
        finally:
            self.http.patch(path, json={"rules": role["rules"]}, headers=MERGE_PATCH).raise_for_status()
            wait_for("the right to be back", lambda: self.may(process, resource, verbs[0]))

    def may(self, process: str, resource: str, verb: str) -> bool:
        """What `kubectl auth can-i` says, once the server's own view of the Roles has caught up."""
        kind, _, subresource = resource.partition("/")
        named = f"{kind}.flink.apache.org" if kind.startswith("flink") else kind
        words = [f"--subresource={subresource}"] if subresource else []
        user = f"--as=system:serviceaccount:{OURS}:headrace-{process}"
        return self.kubectl.tried("auth", "can-i", verb, named, *words, user, "-n", JOBS).stdout.strip() == "yes"


def _lessened(rule: dict[str, Any], resource: str, verbs: tuple[str, ...]) -> list[dict[str, Any]]:
    if resource not in rule["resources"]:
        return [rule]
    others = [each for each in rule["resources"] if each != resource]
    left = [each for each in rule["verbs"] if each not in verbs]
    lessened = [{**rule, "resources": [resource], "verbs": left}] if left else []
    return [*([{**rule, "resources": others}] if others else []), *lessened]


@contextmanager
def deployed(folder: Path, crds: Path | None = CRDS_DIRECTORY, **more: str) -> Iterator[Deployed]:
    """The overlay on a cluster of its own, servers and operator running; none of our processes yet. `more` is set for
    each of these."""
    with ExitStack() as stack:
        server = stack.enter_context(running_kube_apiserver(folder, crds))
        http = stack.enter_context(client(server))
        kubectl = Kubectl(server.kubeconfig_path, folder / "kubectl")
        for each in (FLINK, OVERLAY):
            kubectl.applied(each)
        await_rights(http)
        started = {name: make(folder / name) for name, make in SERVERS.items()}
        for name, command in started.items():
            stack.enter_context(servers.running(command, folder / name))
        flink, rest_port = folder / "flink", free_port()
        flink.mkdir()
        (flink / CALM).touch()
        argv = [servers.PYTHON, "-m", "tests.processes.flink", "--kubeconfig", str(server.kubeconfig_path)]
        argv += ["--namespace", JOBS, "--folder", str(flink), "--rest-port", str(rest_port)]
        command = Command("operator", argv, partial(answers, rest_port), port=rest_port)
        operator = stack.enter_context(servers.running(command, folder, ROOT))
        api_key = new_key()
        for name, content in (("api-keys", api_key), ("sealing-keys", new_key())):
            private.write(folder / name, f"{content}\n")
        env = {
            **_settings_of_the_overlay(),
            **QUICK,
            "HEADRACE_MONGODB_URL": started["mongodb"].address,
            "HEADRACE_REDIS_URL": started["redis"].address,
            "HEADRACE_KAFKA_BOOTSTRAP_SERVERS": started["kafka"].address,
            "HEADRACE_FLINK_REST_URL": f"http://127.0.0.1:{rest_port}/{{namespace}}/{{name}}",
            "HEADRACE_API_HOST": "127.0.0.1",
            "HEADRACE_API_PORT": str(free_port()),
            "HEADRACE_API_KEYS_FILE": str(folder / "api-keys"),
            "HEADRACE_SEALING_KEYS_FILE": str(folder / "sealing-keys"),
            "PYTHONPATH": str(ROOT),
            **more,
        }
        _migrate(env)
        mongodb = stack.enter_context(MongoClient(started["mongodb"].address, tz_aware=True, timeoutMS=10_000))
        database = mongodb[env["HEADRACE_MONGODB_DATABASE"]]
        (folder / "accounts").mkdir()
        accounts = Accounts(http, server, folder / "accounts")
        made = Deployed(folder, server, http, kubectl, accounts, env, operator, database, _api_key=api_key)
        try:
            yield made
        finally:
            made.stop(*made.processes)


SERVERS: Mapping[str, Callable[[Path], Command]] = {
    "mongodb": servers.mongodb,
    "redis": servers.redis,
    "kafka": servers.laptop_kafka,
}


def _settings_of_the_overlay() -> dict[str, str]:
    found = [each for each in kustomized(OVERLAY) if each["kind"] == "ConfigMap"]
    (settings,) = [each for each in found if each["metadata"]["name"].startswith("headrace-settings")]
    return dict(settings["data"])


def _migrate(env: Mapping[str, str]) -> None:
    argv = [servers.PYTHON, "-m", "headrace.migrate"]
    subprocess.run(argv, env=dict(env), cwd=ROOT, check=True, capture_output=True, timeout=60 * PATIENCE)
