"""The whole stack as a user starts it, for end-to-end tests: a subprocess, its HTTP API, and the jobs' own output."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import yaml
from pymongo import MongoClient

from local.process import free_port
from local.stack import is_alive, read_stack_file
from tests.support.asking import answered
from tests.support.patience import REQUEST_SECONDS, wait_for

ROOT = Path(__file__).parent.parent.parent
DEPLOYMENTS = "/apis/flink.apache.org/v1beta1/namespaces/default/flinkdeployments"
START_TIMEOUT_SECONDS = 120.0


class RunningStack:
    """A stack that is up."""

    def __init__(self, data: Path, process: subprocess.Popen[bytes]) -> None:
        self.data = data
        self.process = process
        self.file: dict[str, Any] = dict(read_stack_file(data) or {})

    def call(self, method: str, path: str, body: Any = None) -> httpx.Response:
        """What the API answers, once its servers do."""
        return answered(lambda key: self.tried(method, path, body, **{"Idempotency-Key": key}))

    def tried(self, method: str, path: str, body: Any = None, **headers: str) -> httpx.Response:
        """What the API answers to one request, whatever that is."""
        key = Path(self.file["api_key_file"]).read_text().split()[0]
        url = f"{self.file['api_url']}/api/v1/flink{path}"
        sent = {"Authorization": f"Bearer {key}", **headers}
        return httpx.request(method, url, json=body, headers=sent, timeout=90, trust_env=False)

    def kube(self, path: str) -> Any:
        with self.kubernetes() as http:
            return http.get(path).json()

    def kube_post(self, path: str, body: Any) -> None:
        """Makes an object as kubectl would: somebody else's."""
        with self.kubernetes() as http:
            http.post(path, json=body).raise_for_status()

    def kubernetes(self) -> httpx.Client:
        """Straight to the Kubernetes API, past all that is ours."""
        config = yaml.safe_load(Path(self.file["kubeconfig"]).read_text())
        url, token = config["clusters"][0]["cluster"]["server"], config["users"][0]["user"]["token"]
        headers = {"Authorization": f"Bearer {token}"}
        return httpx.Client(base_url=url, headers=headers, timeout=REQUEST_SECONDS, trust_env=False, verify=False)

    def submit(self, job_id: str, *, start_from: str | None = None, **config: Any) -> Any:
        script = ROOT / "examples" / "counting_job.py"
        inlined = {"name": script.name, "content": script.read_text()}
        settings = {"execution.checkpointing.interval": "3s"}
        given = {"script": inlined, "flink_configuration": settings, **config}
        body = {"job_id": job_id, "job_config": given, **({"start_from": start_from} if start_from else {})}
        answer = self.call("POST", "/jobs/submit", body)
        assert answer.status_code == 202, answer.text
        return answer.json()["operation"]

    def job(self, job_id: str) -> dict[str, Any]:
        return dict(self.call("GET", f"/jobs/{job_id}").json())

    def phases(self, job_id: str) -> list[str]:
        return [t["to"] for t in self.call("GET", f"/jobs/{job_id}/transitions").json()["transitions"]]

    def await_phase(self, job_id: str, phase: str) -> dict[str, Any]:
        def is_there() -> Any:
            job = self.job(job_id)
            return job if job.get("status") == phase else None

        found: dict[str, Any] = wait_for(f"{job_id} to be {phase}", is_there)
        return found

    def await_words(self, job_id: str, phase: str, *words: str) -> dict[str, Any]:
        """The job once it is in this phase and its reason has these words: a phase is written at once, and why it is
        so when that was looked into."""

        def is_told() -> Any:
            job = self.job(job_id)
            return job if job.get("status") == phase and all(each in (job["reason"] or "") for each in words) else None

        try:
            found: dict[str, Any] = wait_for(f"{job_id} to be {phase} for {words}", is_told)
        except AssertionError as exc:
            raise AssertionError(f"{exc}: {self.job(job_id)}") from exc
        return found

    def await_operation(self, operation_id: str) -> dict[str, Any]:
        """The operation once it has ended; a failure shows where it is and what is waited for."""
        seen: dict[str, Any] = {}

        def has_ended() -> bool:
            seen.update(self.call("GET", f"/operations/{operation_id}?wait=5").json()["operation"])
            return seen["state"] not in ("ACCEPTED", "RUNNING")

        try:
            wait_for("the operation to end", has_ended)
        except AssertionError as exc:
            raise AssertionError(f"{exc}: {seen}; its job: {self.job(seen['job_id'])}") from exc
        return seen

    def count(self, job_id: str) -> int:
        """The sum of each key's highest count in the job's finished output."""
        highest: dict[str, int] = {}
        for part in (self.data / "state" / "output" / job_id).rglob("part-*"):
            for line in part.read_text(errors="replace").splitlines():
                key, _, count = line.rpartition(",")
                highest[key] = max(highest.get(key, 0), int(count) if count.isdigit() else 0)
        return sum(highest.values())

    def lines_are_whole(self, job_id: str) -> bool:
        """Each key was counted from 1 on, each count once: nothing was lost or counted twice over all that happened."""
        return all(sorted(found) == list(range(1, len(found) + 1)) for found in self.lines(job_id).values())

    def lines(self, job_id: str) -> dict[str, list[int]]:
        """Every count in the job's finished output, by its key."""
        counts: dict[str, list[int]] = {}
        for part in (self.data / "state" / "output" / job_id).rglob("part-*"):
            for line in part.read_text().splitlines():
                key, _, count = line.rpartition(",")
                counts.setdefault(key, []).append(int(count))
        return counts

    def pod(self, job_id: str, component: str) -> dict[str, Any]:
        pods = self.kube(f"/api/v1/namespaces/default/pods?labelSelector=app%3D{job_id},component%3D{component}")
        found: dict[str, Any] = pods["items"][0]
        return found

    def recorded_at(self, job_id: str, path: str) -> str:
        """When MongoDB was told of this savepoint or checkpoint, as Kubernetes writes times."""
        with MongoClient(self.file["mongodb_url"], tz_aware=True, timeoutMS=int(1000 * REQUEST_SECONDS)) as client:
            found = client["headrace"].savepoints.find_one({"path": path, "job_id": job_id})
        assert found is not None, f"{path} is not on record"
        return str(found["at"].strftime("%Y-%m-%dT%H:%M:%SZ"))

    def flower(self, path: str) -> httpx.Response:
        """What Flower answers to who has its login."""
        user, _, password = Path(self.file["flower_login_file"]).read_text().strip().partition(":")
        url = self.file["flower_url"] + path
        return httpx.get(url, auth=(user, password), timeout=REQUEST_SECONDS, trust_env=False).raise_for_status()

    def checkpoints(self, job_id: str) -> dict[str, Any]:
        service = self.kube(f"/api/v1/namespaces/default/services/{job_id}-rest")
        url = service["metadata"].get("annotations", {}).get("local.headrace.io/rest-url")
        if url is None:
            return {}  # its JobManager is not up yet
        flink_job_id = self.job(job_id)["flink_job_id"]
        try:
            content = httpx.get(
                f"{url}/jobs/{flink_job_id}/checkpoints", timeout=REQUEST_SECONDS, trust_env=False
            ).json()
        except httpx.HTTPError:
            return {}
        return dict(content.get("latest") or {})

    def pid(self, process: str) -> int:
        """A process' id, as the stack says it now."""
        content = read_stack_file(self.data) or {}
        processes: dict[str, Any] = dict(content["processes"])  # type: ignore[call-overload]
        return int(processes[process]["pid"])

    def interrupt(self) -> None:
        """Ctrl-C, and until it has ended."""
        self.process.send_signal(signal.SIGINT)
        self.process.wait(90)


def start(data: Path, env: dict[str, str] | None = None, *options: str) -> RunningStack:
    """`./run up` in this data folder, once it is ready."""
    argv = [sys.executable, "-m", "local", "up", "--data", str(data)]
    argv += ["--api-port", str(free_port()), "--flower-port", str(free_port()), *options]
    with (data.parent / "up.log").open("ab") as log:
        process = subprocess.Popen(argv, cwd=ROOT, stdout=log, stderr=log, env={**os.environ, **(env or {})})

    def is_ready() -> bool:
        assert process.poll() is None, (data.parent / "up.log").read_text()[-2000:]
        content = read_stack_file(data) or {}
        return bool(content.get("ready")) and content.get("supervisor_pid") == process.pid

    try:
        wait_for("the stack to be up", is_ready, START_TIMEOUT_SECONDS)
    except BaseException:
        process.terminate()
        process.wait(90)
        raise
    return RunningStack(data, process)


@contextmanager
def running_stack(data: Path, env: dict[str, str] | None = None, *options: str) -> Iterator[RunningStack]:
    """A stack that is stopped at the end, whatever happened."""
    stack = start(data, env, *options)
    try:
        yield stack
    finally:
        if stack.process.poll() is None:
            stack.interrupt()


def processes_of(data: Path) -> list[str]:
    """The command lines of every process that names this data folder."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid() and is_alive(int(entry.name)):
            try:
                line = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            except OSError:
                continue
            if str(data) in line:
                found.append(line)
    return found
