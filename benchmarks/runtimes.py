"""`./run bench runtimes`: one job by the operator and by Flink's native mode in turns, on the laptop's whole stack.

Flink, its JVMs and the API server are the same on both sides. What differs is who brings them up: the local operator,
which stands in for the real one, or Flink's command line in a launcher of ours.
"""

from __future__ import annotations

import os
import statistics
import sys
import tempfile
import time
from argparse import ArgumentParser
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tests.support.counting import EXAMPLES, JAR, counts_on, do, program_of
from tests.support.serving import serving
from tests.support.stack import RunningStack, running_stack

RUNTIMES = ("operator", "native")
SETTINGS = {"execution.checkpointing.interval": "2s", "jobmanager.scheduler": "adaptive"}
CORE = "/api/v1/namespaces/default"
KINDS = (
    "/apis/flink.apache.org/v1beta1/namespaces/default/flinkdeployments",
    "/apis/apps/v1/namespaces/default/deployments",
    *(f"{CORE}/{kind}" for kind in ("services", "configmaps", "pods")),
)

Figures = Mapping[str, float]


def main(argv: Sequence[str]) -> int:
    """Measures and says; exit code 0."""
    parser = ArgumentParser(prog="./run bench runtimes", description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    asked = parser.parse_args(argv)
    served = {f"/{JAR}": (EXAMPLES / "jar" / JAR).read_bytes()}
    with tempfile.TemporaryDirectory() as folder, serving(served) as web, running_stack(Path(folder) / "data") as stack:
        found = measured(stack, web, asked.rounds)
    print("\n".join(lines(found)), flush=True)
    return 0


def measured(stack: RunningStack, web: str, rounds: int) -> Mapping[str, Sequence[Figures]]:
    """The figures of each round, by the runtime. Who is first changes from round to round."""
    taken: dict[str, list[Figures]] = {name: [] for name in RUNTIMES}
    for number in range(1, rounds + 1):
        for name in RUNTIMES if number % 2 else reversed(RUNTIMES):
            taken[name].append(_life(stack, web, f"{name}-{number}", name))
            print(f"round {number} of {rounds}: {name} done", file=sys.stderr, flush=True)
    return taken


def lines(found: Mapping[str, Sequence[Figures]]) -> list[str]:
    """The table that people read: medians."""
    told = [f"medians of {len(found[RUNTIMES[0]])} rounds, load {os.getloadavg()[0]:.1f} at the end"]
    told.append(f"{'':<36}" + "".join(f"{name:>12}" for name in RUNTIMES))
    for figure in found[RUNTIMES[0]][0]:
        medians = [statistics.median(each[figure] for each in found[name]) for name in RUNTIMES]
        told.append(f"{figure:<36}" + "".join(f"{value:>12.1f}" for value in medians))
    return told


def _life(stack: RunningStack, web: str, job_id: str, runtime: str) -> Figures:
    """From its SUBMIT to its STOP."""
    config = {**program_of("java", web), "runtime": runtime, "flink_configuration": SETTINGS}
    begun = time.monotonic()
    answer = stack.call("POST", "/jobs/submit", {"job_id": job_id, "job_config": config})
    assert answer.status_code == 202, answer.text
    stack.await_phase(job_id, "RUNNING")
    figures = {"SUBMIT to RUNNING, s": time.monotonic() - begun, "objects in the namespace": _objects(stack, job_id)}
    counts_on(stack, job_id)
    for figure, verb, arguments in (
        ("SAVEPOINT, s", "savepoint", {}),
        ("SCALE in place from 1 to 2, s", "scale", {"parallelism": 2}),
        ("RESTART, s", "restart", {}),
        ("STOP, s", "stop", {}),
    ):
        figures[figure] = _seconds(stack, job_id, verb, arguments)
        if verb != "stop":
            counts_on(stack, job_id)
    assert stack.lines_are_whole(job_id)
    return figures


def _seconds(stack: RunningStack, job_id: str, verb: str, arguments: Mapping[str, Any]) -> float:
    begun = time.monotonic()
    do(stack, job_id, verb, **arguments)
    return time.monotonic() - begun


def _objects(stack: RunningStack, job_id: str) -> float:
    """Of the job: those with its label, and its FlinkDeployment, which has another."""
    found = [each["metadata"] for kind in KINDS for each in stack.kube(kind)["items"]]
    return float(sum(1 for each in found if job_id in (each["name"], (each.get("labels") or {}).get("app"))))
