"""The status function over every event that a real operator gave (tests/data/recordings)."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec
import pytest

from headrace.domain.deployments import Deployment, Gone, Seen
from headrace.domain.jobs import Job, Phase
from headrace.domain.status import observe

RECORDINGS = sorted((Path(__file__).parents[2] / "data" / "recordings").glob("*.jsonl"))
BEGIN = datetime(2026, 1, 1, tzinfo=UTC)


def replay(recording: Path) -> list[Phase]:
    """The phases, repeats left out, of a job that nobody but the recording acts on."""
    job = Job(
        tenant="t", job_id="j", cluster="c", namespace="n", deployment_name="j", created_at=BEGIN, updated_at=BEGIN
    )
    phases: list[Phase] = []
    for line in recording.read_text().splitlines():
        event = json.loads(line)
        if event["resource"] != "flinkdeployments":
            continue
        what = Gone() if event["type"] == "DELETED" else msgspec.convert(event["object"], Deployment)
        seen = Seen(what, BEGIN + timedelta(seconds=event["t"]))
        observed = observe(seen, job, None, grace_seconds=30)
        assert observed == observe(seen, job, None, grace_seconds=30)
        job = observed
        phases += [job.phase] if phases[-1:] != [job.phase] else []
    return phases


@pytest.mark.parametrize("recording", RECORDINGS, ids=lambda path: path.stem)
def test_every_event_gives_one_phase_and_the_same_one_again(recording: Path) -> None:
    assert replay(recording)


def test_a_running_job_whose_jobmanager_cannot_be_reached_is_restarting() -> None:
    phases = replay(next(path for path in RECORDINGS if path.stem == "jobmanager-unreachable"))
    running = phases.index(Phase.RUNNING)
    assert phases[running : running + 3] == [Phase.RUNNING, Phase.RESTARTING, Phase.RUNNING]
    assert Phase.FAILED not in phases
