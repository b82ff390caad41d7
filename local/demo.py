"""`./run demo`: the whole of Headrace on real Flink, shown step by step, and checked at each.

It acts as three kinds of user do (HTTP, a bare Celery producer, a Kafka record) and believes only what MongoDB,
Flower and the jobs' own output say. Anything that did not happen ends it with the job, its reason and the next step,
or, where no job is at fault, with the process and the log to look at.
"""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx

from headrace.cli.files import template_from
from local.process import dying_with_us, free_port
from local.stack import PYTHON, ROOT, is_alive, read_stack_file

EXAMPLES = ROOT / "examples"
START_TIMEOUT_SECONDS = 120.0
STOP_TIMEOUT_SECONDS = 60.0
PHASE_TIMEOUT_SECONDS = 300.0
"""What fails says so at once: this is for machines that are slow or busy."""

LOOKED_INTO_SECONDS = 30.0
"""How long a job that FAILED is given until its record says why: that is written after its phase where looks take long,
and with the next step."""

JOBS = ("orders", "clicks", "payments")
TEMPLATES = ("counting", "counting-sql", "counting-jar")
"""One of each type of job: a Python script, SQL statements, a jar."""


class DemoFailure(Exception):
    """Something did not happen. The message names the job, its reason and the next step, or a process and its log."""


def run_demo(*, keep: bool, data: Path | None) -> int:
    """Runs the demo in a data folder of its own; returns the exit code."""
    folder = data or Path(tempfile.mkdtemp(prefix="headrace-demo-"))
    demo = Demo(folder, may_outlive=keep)
    begun = time.monotonic()
    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is not signal.SIG_IGN:  # nohup ignores one of them
            signal.signal(number, lambda number, _: sys.exit(128 + number))
    stays = False
    try:
        demo.run()
        say(f"\ndone in {time.monotonic() - begun:.0f} s")
        stays = keep
        return 0
    except DemoFailure as error:
        say(f"\nthe demo failed: {error}")
        stays = keep and demo.is_up
        if demo.is_up and not keep:
            say("./run demo --keep leaves the stack up after a failure too, to be looked into")
        return 1
    except KeyboardInterrupt:
        say("\nstopped by Ctrl-C")
        return 130
    finally:
        if stays:
            say(f"still up, as asked: ./run headrace --data {folder} list looks into it")
            say(f"./run down --data {folder} stops it")
        else:
            demo.close()


class Demo:
    """One run of the demo against a stack of its own, which dies with it unless it `may_outlive` it."""

    def __init__(self, folder: Path, *, may_outlive: bool) -> None:
        self._folder = folder
        self._dies_with_us = not may_outlive
        self._supervisor: subprocess.Popen[bytes] | None = None
        self._stack: dict[str, Any] = {}
        self._jars = ""

    def run(self) -> None:
        """Every step in its order. Raises DemoFailure."""
        self._start_stack()
        with serving(EXAMPLES / "jar") as self._jars:
            self._register_templates()
            self._submit_three_ways()
            self._go_on()

    def _go_on(self) -> None:
        """From three jobs that run to their ends. A pod that is started anew fetches its jar anew."""
        self._show_records()
        counts = self._counts()
        self._scale(JOBS[0], 2)
        self._await_growth(counts)
        for job_id in JOBS:
            self._stop(job_id)
        self._show_ends()

    @property
    def is_up(self) -> bool:
        """Whether its stack came up and is there still."""
        return bool(self._stack.get("ready")) and self._supervisor is not None and self._supervisor.poll() is None

    def close(self) -> None:
        """Stops the stack and everything that it started, and no stack of somebody else's. A second Ctrl-C waits."""
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        if self._supervisor is not None and self._supervisor.poll() is None:
            self._supervisor.terminate()
            try:
                self._supervisor.wait(STOP_TIMEOUT_SECONDS)
            except subprocess.TimeoutExpired:
                say(f"the stack (pid {self._supervisor.pid}) did not stop in {STOP_TIMEOUT_SECONDS:.0f} s; kill it")

    def _start_stack(self) -> None:
        say(f"1. the stack, with its data in {self._folder}")
        ports = ["--api-port", str(free_port()), "--flower-port", str(free_port())]
        argv = [PYTHON, "-m", "local", "up", "--data", str(self._folder), *ports]
        if self._dies_with_us:
            argv = dying_with_us(argv, signal.SIGTERM)
        self._folder.mkdir(parents=True, exist_ok=True)
        # One that may outlive us has a file: our own output may be a pipe, whose reader waits for its end.
        with nullcontext() if self._dies_with_us else self._up_log.open("wb") as output:
            self._supervisor = subprocess.Popen(argv, cwd=ROOT, start_new_session=True, stdout=output, stderr=output)
        deadline = time.monotonic() + START_TIMEOUT_SECONDS
        while True:
            self._stack = read_stack_file(self._folder) or {}
            if self._stack.get("ready") and self._stack.get("supervisor_pid") == self._supervisor.pid:
                return
            if self._supervisor.poll() is not None:
                self._show_up_log()
                raise DemoFailure("the stack did not come up; what is at fault is named above")
            if time.monotonic() > deadline:
                raise DemoFailure(f"the stack was not up after {START_TIMEOUT_SECONDS:.0f} s; see {self._folder}/logs")
            time.sleep(0.2)

    @property
    def _up_log(self) -> Path:
        """What a stack says that may outlive us."""
        return self._folder / "up.log"

    def _show_up_log(self) -> None:
        if not self._dies_with_us:
            say(self._up_log.read_text(errors="replace"))

    def _register_templates(self) -> None:
        for name in TEMPLATES:
            body = template_from(EXAMPLES / "templates" / f"{name}.yaml", EXAMPLES)
            if body["type"] == "JAR":
                body["jar"] = f"{self._jars}/counting-job.jar"
            self._call("POST", "/api/v1/flink/templates", body)
        say(f"2. three templates are registered, from examples/templates: {', '.join(TEMPLATES)}")

    def _submit_three_ways(self) -> None:
        first, second, third = JOBS
        answer = self._call("POST", "/api/v1/flink/jobs/submit", {"template_id": TEMPLATES[0], "job_id": first})
        say(f"3. {first}, a Python script, submitted by HTTP: operation {answer['operation']['id']}")
        self._await_running(first, way_in="worker")
        broker = ("--broker", self._stack["redis_url"])
        self._example("redis", "submit_by_celery.py", *broker, "--template-id", TEMPLATES[1], "--job-id", second)
        say(f"4. {second}, SQL statements, submitted by a bare Celery send_task")
        servers = ("--bootstrap-servers", self._stack["kafka_bootstrap_servers"])
        self._example("kafka", "submit_by_kafka.py", *servers, "--template-id", TEMPLATES[2], "--job-id", third)
        say(f"5. {third}, a jar that its pods fetch, submitted by a Kafka record")
        self._await_running(second, way_in="worker")
        self._await_running(third, way_in="consumer")

    def _show_records(self) -> None:
        say("6. the jobs, as MongoDB has them")
        for job in sorted(self._records()["jobs"], key=lambda job: str(job["job_id"])):
            say(f"     {job['job_id']:<10} {job['phase']:<10} run {job['run']}  Flink job {job['flink_job_id']}")
        tasks = self._flower_tasks()
        say("7. the tasks, as Flower has them")
        for name, states in sorted(tasks.items()):
            say(f"     {name:<21} {', '.join(f'{state} {count}' for state, count in sorted(states.items()))}")
        if not tasks.get("flink.submit"):
            raise self._fault_of("flower", "Flower knows of no flink.submit task")

    def _flower_tasks(self) -> dict[str, dict[str, int]]:
        user, _, password = Path(self._stack["flower_login_file"]).read_text().strip().partition(":")
        answer = self._request("flower", "GET", f"{self._stack['flower_url']}/api/tasks", auth=(user, password))
        found: dict[str, dict[str, int]] = {}
        for task in answer.json().values():
            if not task["name"]:
                continue  # sent, and not yet received by any worker
            states = found.setdefault(task["name"], {})
            states[task["state"]] = states.get(task["state"], 0) + 1
        return found

    def _scale(self, job_id: str, parallelism: int) -> None:
        answer = self._call("POST", f"/api/v1/flink/jobs/{job_id}/scale", {"parallelism": parallelism})
        say(f"9. {job_id} is scaled from 1 to {parallelism}")
        self._await_operation(job_id, answer["operation"])

    def _stop(self, job_id: str) -> None:
        answer = self._call("POST", f"/api/v1/flink/jobs/{job_id}/stop", {})
        say(f"10. {job_id} is stopped with a savepoint")
        self._await_operation(job_id, answer["operation"])

    def _show_ends(self) -> None:
        records = self._records()
        say("11. what was kept, and what each job went through")
        for job in sorted(records["jobs"], key=lambda job: str(job["job_id"])):
            path = str(job["savepoint_path"] or "")
            metadata = Path(re.sub(r"^file:/*", "/", path)) / "_metadata"
            history = [t for t in records["transitions"] if t["job_id"] == job["job_id"]]
            phases = [history[0]["from"], *(t["to"] for t in sorted(history, key=lambda t: str(t["at"])))]
            say(f"     {job['job_id']:<10} {path}\n{'':16}{' > '.join(phases)}")
            if job["phase"] != "CANCELLED":
                raise self._failure_of(job["job_id"], "is stopped, and its phase is not CANCELLED")
            if not metadata.is_file():
                raise DemoFailure(f"job {job['job_id']}: there is no savepoint in {path!r}")

    def _counts(self) -> dict[str, int]:
        say("8. each job's output")
        counts = {job_id: self._await_count(job_id, above=0) for job_id in JOBS}
        for job_id, count in counts.items():
            say(f"     {job_id:<10} has counted {count}")
        return counts

    def _await_growth(self, before: dict[str, int]) -> None:
        for job_id, count in before.items():
            grown = self._await_count(job_id, above=count)
            say(f"     {job_id:<10} has gone on from {count} to {grown}")

    def _await_count(self, job_id: str, above: int) -> int:
        count = 0

        def has_grown() -> bool:
            nonlocal count
            count = self._count(job_id)
            return count > above

        what = f"the output of {job_id} in {self._output_of(job_id)} to grow beyond {above}"
        self._wait(has_grown, what, lambda: str(count), partial(self._failure_of, job_id))
        return count

    def _output_of(self, job_id: str) -> Path:
        return self._folder / "state" / "output" / job_id

    def _count(self, job_id: str) -> int:
        """The sum of the highest count of each key in the job's output."""
        highest: dict[str, int] = {}
        for part in self._output_of(job_id).rglob("part-*"):
            for line in part.read_text(errors="replace").splitlines():
                key, _, count = line.rpartition(",")
                if count.isdigit():
                    highest[key] = max(highest.get(key, 0), int(count))
        return sum(highest.values())

    def _await_running(self, job_id: str, way_in: str) -> None:
        job: dict[str, Any] | None = None

        def is_there() -> bool:
            nonlocal job
            jobs = {found["job_id"]: found for found in self._records()["jobs"]}
            for failed in (name for name in JOBS if name in jobs and jobs[name]["phase"] in ("FAILED", "REJECTED")):
                raise self._failure_of(failed)  # whichever it is: nobody waits for another one to run first
            job = jobs.get(job_id)
            return bool(job and job["phase"] == "RUNNING")

        failure = partial(self._failure_of, job_id, way_in=way_in)
        self._wait(is_there, f"{job_id} to be RUNNING", lambda: state_of(job), failure)

    def _await_operation(self, job_id: str, operation: dict[str, Any]) -> None:
        def has_ended() -> bool:
            operation.update(self._call("GET", f"/api/v1/flink/operations/{operation['id']}")["operation"])
            return operation["state"] not in ("ACCEPTED", "RUNNING")

        def failure(what: str) -> DemoFailure:
            begun = operation["state"] != "ACCEPTED"
            return self._failure_of(job_id, what) if begun else self._fault_of("worker", what)

        kind = operation["kind"]
        progress = f"the {kind} of {job_id} to end", lambda: f"{operation['state']} {operation['step']}"
        self._wait(has_ended, *progress, failure)
        if operation["state"] != "SUCCEEDED":
            raise self._failure_of(job_id, f"its {kind} ended {operation['state']}: {operation['reason']}")

    def _wait(
        self,
        is_there: Callable[[], bool],
        what: str,
        progress: Callable[[], str],
        failure: Callable[[str], DemoFailure],
    ) -> None:
        begun = time.monotonic()
        shown = 0.0
        while not is_there():
            waited = time.monotonic() - begun
            if self._supervisor is not None and self._supervisor.poll() is not None:
                self._show_up_log()
                raise DemoFailure("the stack went down; the process that failed and its log are named above")
            if waited > PHASE_TIMEOUT_SECONDS:
                raise failure(f"waited {waited:.0f} s for {what}; last seen: {progress()}")
            if waited - shown >= 5:
                shown = waited
                say(f"     … {waited:3.0f} s, waiting for {what}; now: {progress()}")
            time.sleep(0.5)

    def _failure_of(self, job_id: str, what: str = "", way_in: str = "worker") -> DemoFailure:
        """What the job's record says of it, then what did not happen; a process only where the record blames no job."""
        job = self._looked_into(job_id)
        process = process_at_fault(job, way_in)
        words = failure_words(job_id, job, what)
        return self._fault_of(process, words) if process else DemoFailure(words)

    def _looked_into(self, job_id: str) -> dict[str, Any] | None:
        """The job's record, once it says what to do of a failure; as it is where that does not come."""
        job, begun = self._job(job_id), time.monotonic()
        while job and job["phase"] == "FAILED" and not job["next_step"]:
            waited, is_up = time.monotonic() - begun, self._supervisor is None or self._supervisor.poll() is None
            if not is_up or waited > LOOKED_INTO_SECONDS:
                break
            say(f"     … {waited:3.0f} s, waiting for why {job_id} FAILED")
            time.sleep(2)
            job = self._job(job_id)
        return job

    def _fault_of(self, process: str, what: str) -> DemoFailure:
        entry = self._stack.get("processes", {}).get(process, {})
        state = "up" if is_alive(entry.get("pid")) else "down"
        log = self._folder / "logs" / f"{process}.log"
        return DemoFailure(f"{what}\nlook at {process} ({state}), whose log is {log}")

    def _job(self, job_id: str) -> dict[str, Any] | None:
        return next((job for job in self._records()["jobs"] if job["job_id"] == job_id), None)

    def _records(self) -> dict[str, Any]:
        output = self._example("mongodb", "read_jobs.py", "--mongodb", self._stack["mongodb_url"])
        records: dict[str, Any] = json.loads(output)
        return records

    def _example(self, server: str, name: str, *arguments: str) -> str:
        argv = [PYTHON, str(ROOT / "examples" / name), *arguments]
        try:
            done = subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, timeout=60, check=True)
        except subprocess.TimeoutExpired:
            raise self._fault_of(server, f"examples/{name} had no answer from {server} in 60 s") from None
        except subprocess.CalledProcessError as error:
            raise self._fault_of(server, f"examples/{name} failed: {error.stderr.strip()[-400:]}") from None
        return done.stdout

    def _call(self, method: str, path: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
        key = Path(self._stack["api_key_file"]).read_text().split()[0]
        headers = {"Authorization": f"Bearer {key}"}
        answer = self._request("api", method, self._stack["api_url"] + path, json=body, headers=headers)
        content: dict[str, Any] = answer.json()
        return content

    def _request(self, process: str, method: str, url: str, **sent: Any) -> httpx.Response:
        """Its answer, which is a success. A refusal (4xx) is what was asked for at fault, and no process."""
        asked = f"{method} {urlsplit(url).path}"
        try:
            answer = httpx.request(method, url, timeout=30, trust_env=False, **sent)
        except httpx.HTTPError as error:
            raise self._fault_of(process, f"{process} did not answer to {asked}: {error!r}") from None
        words = f"{asked} was answered {answer.status_code}: {answer.text[:400]}"
        if answer.is_client_error:
            raise DemoFailure(words)
        if not answer.is_success:
            raise self._fault_of(process, words)
        return answer


def state_of(job: Mapping[str, Any] | None) -> str:
    """A job's phase and its reason, in one line."""
    if not job:
        return "no record yet"
    return f"{job['phase']}: {job['reason']}" if job["reason"] else str(job["phase"])


def process_at_fault(job: Mapping[str, Any] | None, way_in: str) -> str | None:
    """Who should have moved the job on; None where its record has a reason of its own, seen just now."""
    if not job:
        return way_in
    if job["phase"] == "REQUESTED":
        return "worker"
    if job["observation"] not in ("FRESH", "NOT_FOUND"):
        return "sync"
    return None if job["reason"] or job["phase"] == "RUNNING" else "flink-operator"


def failure_words(job_id: str, job: Mapping[str, Any] | None, what: str) -> str:
    """The job, its reason and the next step, and only then what did not happen."""
    lines = [f"job {job_id}: {state_of(job)}" if not job else f"job {job_id} is {state_of(job)}"]
    if job and job["next_step"]:
        lines.append(f"next step: {job['next_step']}")
    return "\n".join(filter(None, [*lines, what]))


@contextmanager
def serving(folder: Path) -> Iterator[str]:
    """The address of a web server of these files, as a company's artifact server would be."""

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, format: str, *args: object) -> None:
            """Says nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(folder))) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()


def say(line: str) -> None:
    """A line for the person who watches."""
    print(line, flush=True)
