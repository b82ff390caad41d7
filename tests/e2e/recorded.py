"""The sequence of states that a deployment went through, from a recording of the real operator or from an API."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

RECORDINGS = Path(__file__).parent.parent / "data" / "recordings"
OPTIONAL = ("CREATED", "INITIALIZING")
"""Job states that may be skipped between two looks."""

Seen = tuple[str | None, str | None, str | None, str | None]


def states_of(objects: Iterable[dict[str, Any]]) -> list[Seen]:
    """(lifecycleState, jobManagerDeploymentStatus, jobStatus.state, reconciliationStatus.state), repeats collapsed."""
    found: list[Seen] = []
    for each in objects:
        status = each.get("status") or {}
        job_state = (status.get("jobStatus") or {}).get("state")
        reconciliation = (status.get("reconciliationStatus") or {}).get("state")
        seen = (status.get("lifecycleState"), status.get("jobManagerDeploymentStatus"), job_state, reconciliation)
        if job_state not in OPTIONAL and (not found or found[-1] != seen):
            found.append(seen)
    return found


def recorded(name: str, run: int = 0) -> list[Seen]:
    """The states of a recording's first deployment, or of its run-th."""
    lines = [json.loads(line) for line in (RECORDINGS / f"{name}.jsonl").read_text().splitlines()]
    objects = [line["object"] for line in lines if line["resource"] == "flinkdeployments"]
    uids = list(dict.fromkeys(each["metadata"]["uid"] for each in objects))
    return states_of(each for each in objects if each["metadata"]["uid"] == uids[run])
