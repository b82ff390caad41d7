"""`./run bench sync`: what the status sync costs with N deployments, in client CPU and in wall time apart.

The API and the MongoDB-wire server are processes of their own; with KUBEBUILDER_ASSETS the API is a real
kube-apiserver. The embedded server scans where a MongoDB would look up, so wall times with it say little.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import yaml

from headrace.adapters.kubernetes import connect as connect_kubernetes
from headrace.adapters.mongo import connect as connect_mongodb
from headrace.bootstrap import Services, SystemClock, wired
from headrace.domain.jobs import JobKey, Phase
from headrace.domain.operations import KindName, Operation, Source, State, Step, operation_id
from headrace.settings import Settings
from headrace.testing import InMemoryJobManager, InMemoryQueue, ReversingSealer
from local.process import free_port
from tests.support import servers
from tests.support.kube_apiserver import running_kube_apiserver

DEPLOYMENTS = "/apis/flink.apache.org/v1beta1/namespaces/default/flinkdeployments"
HTTP = Source(via="http")
ROUNDS, CHANGES = 6, 20
SCRIPT = "print(1)\n" * 300
"""A program of some kB in each job's record: what a sync must not read."""


@dataclass(frozen=True)
class Servers:
    """Where the two servers are."""

    kubeconfig: Path
    mongodb_url: str


@dataclass(frozen=True)
class Cost:
    """What one call took, in seconds."""

    cpu: float
    wall: float

    def __str__(self) -> str:
        return f"{self.cpu:7.3f} s CPU {self.wall:7.3f} s wall"


class Counting:
    """A port that counts its calls."""

    def __init__(self, real: Any, calls: Counter[str]) -> None:
        self._real, self._calls = real, calls

    def __getattr__(self, name: str) -> Any:
        real = getattr(self._real, name)

        def call(*arguments: Any, **named: Any) -> Any:
            self._calls[name] += 1
            return real(*arguments, **named)

        return call


def main(argv: Sequence[str]) -> int:
    """Measures each size in turn; exit code 0."""
    parser = argparse.ArgumentParser(prog="./run bench sync", description=__doc__)
    parser.add_argument("--deployments", type=int, nargs="+", default=[1000, 5000, 10_000])
    parser.add_argument("--memory-of", nargs=2, metavar=("KUBECONFIG", "MONGODB_URL"), help=argparse.SUPPRESS)
    asked = parser.parse_args(argv)
    if asked.memory_of:
        return _memory(Servers(Path(asked.memory_of[0]), asked.memory_of[1]))
    steady, peaks = {}, {}
    for count in asked.deployments:
        with running() as where:
            steady[count], peaks[count] = measured(where, count)
    sizes = sorted(steady)
    if len(sizes) > 1:
        least, most = sizes[0], sizes[-1]
        grown = steady[most] / steady[least]
        say(f"a watch with {CHANGES} changes: {most} deployments against {least}: {grown:.2f} x the CPU")
        say(f"peak memory of a fresh process: {most} against {least}: {peaks[most] - peaks[least]:+.1f} MB")
    return 0


@contextmanager
def running() -> Iterator[Servers]:
    """Both servers, empty."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        mongodb = servers.mongodb(folder)
        stack.enter_context(servers.running(mongodb, folder))
        if os.environ.get("KUBEBUILDER_ASSETS"):
            (folder / "kubernetes").mkdir()
            kubeconfig = stack.enter_context(running_kube_apiserver(folder / "kubernetes")).kubeconfig_path
        else:
            kubeconfig = folder / "kubeconfig"
            argv = [sys.executable, "-m", "local.kubernetes_api", "--port", str(free_port())]
            argv += ["--data-dir", str(folder / "kubernetes"), "--kubeconfig", str(kubeconfig)]
            process = subprocess.Popen(argv, stdout=subprocess.DEVNULL)
            stack.callback(process.terminate)
            servers.wait_for("the Kubernetes API", kubeconfig.exists)
        yield Servers(kubeconfig, mongodb.address)


def services_of(where: Servers, calls: Counter[str] | None = None) -> Services:
    """A fresh process' services."""
    store = connect_mongodb(where.mongodb_url, "headrace", 60)
    runtime = connect_kubernetes(where.kubeconfig, 60)
    return wired(
        Settings(_env_file=None),
        store=Counting(store, calls) if calls is not None else store,
        queue=InMemoryQueue(),
        runtime=Counting(runtime, calls) if calls is not None else runtime,
        job_manager=InMemoryJobManager(),
        clock=SystemClock(),
        sealer=ReversingSealer(),
    )


def measured(where: Servers, count: int) -> tuple[float, float]:
    """Says what each thing costs with so many deployments; gives the CPU of a steady watch, and the peak memory."""
    fill(where, count)
    say(f"{count} deployments")
    say(f"  a first full sync                   {cost(lambda: services_of(where).sync.run(1))}")
    services = services_of(where)
    services.sync.run(1)
    relists(where, services, count)
    idle = cost(lambda: services.sync.run(5))
    say(f"  a watch of 5 s, nothing changes     {idle}")
    busy = watches(where, count)
    batched(where, min(count, 200))
    waiting(where, min(count, 1000))
    peak = memory_of(where)
    say(f"  peak memory of a fresh process      {peak:7.1f} MB")
    return busy.cpu, peak


def relists(where: Servers, services: Services, count: int) -> None:
    """Full lists by a process that is up, against the same list without anything done about it: medians of rounds in
    which each is measured once, so that what else the machine does falls on all of them."""
    listed, quiet, changed = [], [], []
    for number in range(ROUNDS):
        listed.append(cost(lambda: sum(len(page.deployments) for page in services.runtime.list_pages("default"))))
        quiet.append(cost(lambda: relist(services)))
        put_statuses(where, range(count // 100), "RESTARTING" if number % 2 == 0 else "RUNNING")
        changed.append(cost(lambda: relist(services)))
    least = median(listed)
    say(f"  a paged list with typed decoding    {least}")
    for what, costs in (("nothing changed", quiet), ("1 % changed", changed)):
        found = median(costs)
        say(f"  a relist, {what:24}  {found}  {found.cpu / least.cpu:5.2f} x the list's CPU")


def relist(services: Services) -> None:
    """A round of the sync that lists, as after a gap in its history."""
    services.sync._listed_at = None
    services.sync.run(1)


def median(costs: Sequence[Cost]) -> Cost:
    """The middle of CPU and of wall time."""
    return Cost(statistics.median(each.cpu for each in costs), statistics.median(each.wall for each in costs))


def watches(where: Servers, count: int) -> Cost:
    """Held watches with as many changes whatever the fleet's size: the cost of a change is what is compared."""
    calls: Counter[str] = Counter()
    services = services_of(where, calls)
    services.sync.run(1)
    costs = []
    for number in range(ROUNDS):
        calls.clear()
        state = "RESTARTING" if number % 2 == 0 else "RUNNING"
        numbers = range(count - CHANGES, count)
        changing = multiprocessing.Process(target=put_statuses, args=(where, numbers, state))
        changing.start()
        costs.append(cost(lambda: services.sync.run(5)))
        changing.join()
        if number == 0:
            say(f"  calls of a watch of 5 s, {CHANGES} changes    {dict(calls)}")
    busy = median(costs)
    say(f"  a watch of 5 s, {CHANGES} changes          {busy}")
    return busy


def batched(where: Servers, count: int) -> None:
    """A watch that resumes after so many events: how often the store is asked."""
    services = services_of(where)
    services.sync.run(1)
    put_statuses(where, range(count), "FAILING")
    calls: Counter[str] = Counter()
    resumed = services_of(where, calls)
    resumed.sync._listed_at = resumed.clock.now()  # it has listed before: now it goes on from its cursor
    resumed.sync.run(1)
    say(f"  {count} events after one another          calls: {dict(calls)}")


def waiting(where: Servers, count: int) -> None:
    """So many operations that wait for Flink, none of them due: what a round asks about them."""
    services = services_of(where)
    for number in range(count):
        document = services.store.document(JobKey("default", f"job-{number:05}"))
        assert document is not None
        operation = waiting_operation(services, document.job.job_id)
        after = replace(document, open_operations=(operation,))
        services.records.write(document, after)
    calls: Counter[str] = Counter()
    resumed = services_of(where, calls)
    resumed.sync._listed_at = resumed.clock.now()
    due = len(services.store.due(services.records.scope, services.clock.now(), count, for_workers=False))
    begun = time.monotonic()
    resumed.sync.run(1)
    took = time.monotonic() - begun
    say(f"  {count} operations wait, {due} of them due, a round takes {took:.1f} s wall; calls: {dict(calls)}")


def waiting_operation(services: Services, job_id: str) -> Operation:
    """A SCALE that waits for Flink, as it is in a document."""
    now, scope = services.clock.now(), services.records.scope
    return Operation(
        id=operation_id("default", job_id),
        tenant="default",
        job_id=job_id,
        sequence=2,
        kind=KindName.SCALE,
        arguments={"parallelism": 2},
        arguments_hash="",
        idempotency_key=job_id,
        source=HTTP,
        accepted_at=now,
        updated_at=now,
        deadline_seconds=900,
        cluster=scope.cluster,
        namespace=scope.namespace,
        state=State.RUNNING,
        step=Step.AWAIT_RUNNING,
        looked_at=now + timedelta(minutes=5),  # none of them is due before the round is over
    )


def memory_of(where: Servers) -> float:
    """The peak memory in MB of a process that syncs everything once and once more."""
    argv = [sys.executable, "-m", "benchmarks.sync", "--memory-of", str(where.kubeconfig), where.mongodb_url]
    return float(subprocess.run(argv, check=True, capture_output=True, text=True, timeout=900).stdout)


def _memory(where: Servers) -> int:
    services_of(where).sync.run(1)
    services_of(where).sync.run(1)
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
    return 0


def cost(call: Callable[[], object]) -> Cost:
    """What the call takes of this process' CPU, and of time."""
    cpu, wall = time.process_time(), time.monotonic()
    call()
    return Cost(time.process_time() - cpu, time.monotonic() - wall)


# What is measured


def fill(where: Servers, count: int) -> None:
    """So many jobs, submitted and RUNNING, as the records and the API have them."""
    services = services_of(where)
    services.accept.operation(KindName.SUBMIT, "job-00000", submit_of(), tenant="default", key="0", source=HTTP)
    services.execute.oldest_open_operation(JobKey("default", "job-00000"))
    first = services.runtime.get_whole("default", "job-00000")
    document = services.store.document(JobKey("default", "job-00000"))
    assert first is not None
    assert document is not None

    def put(number: int) -> None:
        name = f"job-{number:05}"
        text = json.dumps({key: first[key] for key in ("apiVersion", "kind", "spec")}).replace("job-00000", name)
        kept = ("name", "namespace", "labels", "annotations")
        metadata = json.dumps({key: first["metadata"][key] for key in kept}).replace("job-00000", name)
        created = services.runtime.create({**json.loads(text), "metadata": json.loads(metadata)})
        assert created is not None
        job = replace(document.job, job_id=name, deployment_name=name, deployment_uid=created.metadata.uid)
        new = replace(document, job=replace(job, phase=Phase.STARTING), open_operations=(), revision=0, due_at=None)
        services.store.write(new, replace(new, revision=1))

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(put, range(1, count)))
    put_statuses(where, range(count), "RUNNING")


def submit_of() -> dict[str, Any]:
    """The arguments of a SUBMIT."""
    return {"job_config": {"script": {"name": "job.py", "content": SCRIPT}}}


def put_statuses(where: Servers, numbers: range, flink_state: str) -> None:
    """The operator's word on these deployments."""
    config = yaml.safe_load(where.kubeconfig.read_text())
    cluster, user = config["clusters"][0]["cluster"], config["users"][0]["user"]
    headers = {"Authorization": f"Bearer {user['token']}"} if "token" in user else {}
    with httpx.Client(base_url=cluster["server"], headers=headers, verify=False, trust_env=False, timeout=60) as api:

        def put(number: int) -> None:
            path = f"{DEPLOYMENTS}/job-{number:05}"
            live = api.get(path).json()
            status = {"state": flink_state, "jobId": "f" * 32, "startTime": "1795448818262"}
            live["status"] = {
                "observedGeneration": live["metadata"]["generation"],
                "lifecycleState": "STABLE",
                "jobManagerDeploymentStatus": "READY",
                "jobStatus": status,
                "reconciliationStatus": {"lastReconciledSpec": json.dumps({"spec": live["spec"]})},
            }
            api.put(f"{path}/status", json=live).raise_for_status()

        with ThreadPoolExecutor(4) as pool:
            list(pool.map(put, numbers))


def say(line: str) -> None:
    """One line, at once."""
    print(line, flush=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
