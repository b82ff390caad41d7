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


def at(
    state: str, generation: int = 1, start: str = "1", lifecycle: str = "STABLE", flink_job_id: str = "f"
) -> Deployment:
    """What the operator shows of a job."""
    flink = {"jobId": flink_job_id, "state": state, "startTime": start}
    status = {"observedGeneration": generation, "lifecycleState": lifecycle, "jobStatus": flink}
    whole = {"metadata": {"generation": generation}, "spec": {"job": {"state": "running"}}, "status": status}
    return msgspec.convert(whole, Deployment)


RAN = at("RUNNING")


@pytest.mark.parametrize(
    ("shown", "restarts"),
    [
        ([RAN, at("RESTARTING"), at("CREATED"), RAN], 1),
        ([RAN, at("FAILING"), at("RESTARTING"), RAN, at("RESTARTING")], 2),
        ([RAN, at("RUNNING", start="2"), at("RUNNING", start="2")], 1),  # its JobManager came back between two sights
        ([RAN, at("RECONCILING"), RAN], 0),  # the JobManager did not answer, and that is all
        ([RAN, at("RESTARTING"), at("RECONCILING"), at("RESTARTING")], 1),
        ([RAN, at("RECONCILING"), at("RUNNING", start="2")], 1),
        ([RAN, at("RESTARTING", 2, lifecycle="DEPLOYED"), at("RUNNING", 2)], 0),  # rescaled in place, as was asked
        ([RAN, at("RUNNING", 2, lifecycle="UPGRADING"), at("CREATED", 2, start="2"), at("RUNNING", 2, start="2")], 0),
        ([RAN, at("RUNNING", 2), at("RESTARTING", 2)], 1),
        (
            [RAN, at("CREATED", start="2", flink_job_id="g"), at("RUNNING", start="2", flink_job_id="g")],
            0,
        ),  # redeployed
        ([at("CREATED"), at("RESTARTING"), at("CREATED"), at("RESTARTING")], 2),  # it never came to run
    ],
)
def test_a_restart_is_what_flink_did_by_itself_and_was_seen(shown: list[Deployment], restarts: int) -> None:
    job = Job(
        tenant="t", job_id="j", cluster="c", namespace="n", deployment_name="j", created_at=BEGIN, updated_at=BEGIN
    )
    for number, what in enumerate(shown):
        seen = Seen(what, BEGIN + timedelta(seconds=number))
        job = observe(seen, job, None, grace_seconds=30)
        assert observe(seen, job, None, grace_seconds=30) == job, "a sight counts once"
    assert job.restarts == restarts
