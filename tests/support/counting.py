"""The counting examples as jobs of a stack: what is asked of one, and whether each key was counted from 1 on, once."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from headrace.cli.files import source_from
from tests.support.patience import wait_for
from tests.support.stack import ROOT, RunningStack

EXAMPLES = ROOT / "examples"
SETTINGS = {"execution.checkpointing.interval": "2s"}
JAR = "counting-job.jar"


def program_of(name: str, web: str) -> dict[str, Any]:
    """`java`, `python` or `tables`; the jar is served at `web`."""
    if name == "java":
        main = "io.headrace.examples.CountingJob"
        return {"type": "JAR", "jar": f"{web}/{JAR}", "main_class": main, "args": ["--rate", "20"]}
    return source_from(str(EXAMPLES / {"python": "counting_job.py", "tables": "sql/counting.sql"}[name]))


def do(stack: RunningStack, job_id: str, verb: str, **body: Any) -> dict[str, Any]:
    """An operation to its end. What follows it counts on from there."""
    answer = stack.call("POST", f"/jobs/{job_id}/{verb}", body)
    assert answer.status_code == 202, answer.text
    ended = stack.await_operation(answer.json()["operation"]["id"])
    assert ended["state"] == "SUCCEEDED", ended
    return ended


def counts_on(stack: RunningStack, job_id: str) -> None:
    """Until there is more of its output than now."""
    counted = stack.count(job_id)
    wait_for("the count to go on", lambda: stack.count(job_id) > counted)


def file_of(path: str) -> Path:
    """A state's folder on this machine."""
    return Path(re.sub("^file:/*", "/", path))
