"""The local operator's events have the words of the real one's, and never stand in a reconcile's way."""

from __future__ import annotations

import json
import threading
from pathlib import Path
from typing import Any

import pytest

from local.flink_operator import events as operator_events
from local.flink_operator.changes import spec_changed
from local.flink_operator.events import WAITING_AT_MOST, Events
from local.flink_operator.kube import KubeError
from local.flink_operator.statuses import error_words
from tests.support.patience import PATIENCE, WAIT_SECONDS, wait_for

RECORDINGS = Path(__file__).parent.parent.parent / "data" / "recordings"
ORDERS = {
    "apiVersion": "flink.apache.org/v1beta1",
    "kind": "FlinkDeployment",
    "metadata": {"name": "orders", "namespace": "default", "uid": "u"},
}


def recorded(name: str, resource: str) -> list[dict[str, Any]]:
    lines = map(json.loads, (RECORDINGS / f"{name}.jsonl").read_text().splitlines())
    return [line["object"] for line in lines if line["resource"] == resource]


def messages(name: str, reason: str) -> set[str]:
    return {event["message"] for event in recorded(name, "events") if event["reason"] == reason}


@pytest.mark.parametrize(
    ("recording", "reason"),
    [
        ("savepoint-directory-unwritable", "SavepointError"),
        ("script-missing", "Error"),
        ("init-container-fails", "CrashLoopBackOff"),
        ("invalid-parallelism", "ValidationError"),
    ],
)
def test_an_error_is_worded_as_the_operator_words_its_event(recording: str, reason: str) -> None:
    statuses = [each.get("status") or {} for each in recorded(recording, "flinkdeployments")]
    errors = [status["error"] for status in statuses if status.get("error")]
    assert error_words(errors[0]) in messages(recording, reason)


def test_a_change_is_worded_as_the_operator_words_it() -> None:
    before = {"job": {"args": ["x"], "parallelism": 1, "state": "running"}}
    suspended = spec_changed(before, {"job": {**before["job"], "state": "suspended"}})
    assert suspended in messages("life-cycle", "SpecChanged")
    more = {"job": {**before["job"], "args": ["x", "--rate"]}, "restartNonce": 1}
    assert "[job.args.1 : null -> --rate, restartNonce : null -> 1]" in spec_changed(before, more)
    redeployed = {"job": {**before["job"], "savepointRedeployNonce": 7}}
    assert spec_changed(before, redeployed).startswith("SAVEPOINT_REDEPLOY change(s) detected")


@pytest.fixture(autouse=True)
def _all_is_written_at_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """However long the thread that writes stands still."""
    monkeypatch.setattr(operator_events, "FLUSH_SECONDS", WAIT_SECONDS * PATIENCE)


class Kube:
    """Keeps what is written, and fails where told to."""

    def __init__(self, fails_for: str = "") -> None:
        self.written: list[dict[str, Any]] = []
        self._fails_for = fails_for
        self.goes_on = threading.Event()
        self.goes_on.set()

    def count_event(self, event: dict[str, Any]) -> None:
        self.goes_on.wait()
        if event["message"] == self._fails_for:
            raise KubeError("down")
        self.written.append(event)


def test_the_same_event_has_the_same_name() -> None:
    kube = Kube()
    events = Events(kube)  # type: ignore[arg-type]
    for message in ("Starting deployment", "Starting deployment", "another"):
        events.normal(ORDERS, "JobManagerDeployment", "Submit", message)
    events.close()
    names = [event["metadata"]["name"] for event in kube.written]
    assert names[0] == names[1] != names[2]
    first = kube.written[0]
    assert (first["type"], first["reason"], first["source"]) == (
        "Normal",
        "Submit",
        {"component": "JobManagerDeployment"},
    )
    assert (first["involvedObject"]["kind"], first["involvedObject"]["uid"]) == ("FlinkDeployment", "u")


def test_an_event_that_cannot_be_written_is_dropped_and_the_next_one_is_not() -> None:
    kube = Kube(fails_for="lost")
    events = Events(kube)  # type: ignore[arg-type]
    events.warning(ORDERS, "Job", "Error", "lost")
    events.normal(ORDERS, "Job", "JobStatusChanged", "kept")
    events.close()
    assert [event["message"] for event in kube.written] == ["kept"]


def test_a_server_that_hangs_holds_nobody_up() -> None:
    kube = Kube()
    events = Events(kube)  # type: ignore[arg-type]
    kube.goes_on.clear()
    for number in range(3000):
        events.normal(ORDERS, "Job", "JobStatusChanged", str(number))
    kube.goes_on.set()
    wait_for("what was taken to be written", lambda: len(kube.written) >= WAITING_AT_MOST)
    events.close()
    assert 0 < len(kube.written) < 3000
    assert kube.written[0]["message"] == "0"
