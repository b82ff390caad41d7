"""Every event of every recording, against phases and ends that were written by hand (tests/data/phases)."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headrace.domain.deployments import PodTrouble
from headrace.domain.jobs import Observation, Phase
from headrace.domain.pods import PodSeen
from tests.support.replay import DATA, KEY, RECORDINGS, Followed, Replay, events_of, plan_of

OUTAGES = ["", "all", "list", "watch", "pods"]


def as_listed(phases: dict[str, Any]) -> dict[str, list[str]]:
    return {moment: [found] if isinstance(found, str) else list(found) for moment, found in phases.items()}


def ends_as_planned(followed: Followed, asked: dict[str, Any]) -> bool:
    """Whether it ended in the state, at the moment and with the words that are expected."""
    ends = dict(asked["ends"])
    words = ends.pop("reason", "")
    [(state, moment)] = ends.items()
    assert followed.end is not None, f"{asked['kind']} has not ended"
    found = (str(followed.end.state), followed.ended_at, followed.end.reason)
    assert found[:2] == (state, str(moment)), found
    assert words in found[2]
    return bool(found[2])


def test_every_recording_has_its_expected_phases() -> None:
    assert sorted(path.stem for path in (DATA / "phases").glob("*.yaml")) == RECORDINGS


@pytest.mark.parametrize("outage", OUTAGES)
@pytest.mark.parametrize("recording", RECORDINGS)
def test_a_recording_comes_to_its_expected_phases(recording: str, outage: str) -> None:
    replay = Replay(recording, outage).run()
    assert replay.phases == as_listed(replay.plan["phases"])
    assert replay.world.job().restarts == replay.plan.get("restarts", 0)
    for moment, words in replay.plan["says"].items():
        assert words in replay.says[moment]
        assert bool(words) == bool(replay.says[moment]), f"{moment} says {replay.says[moment]}"
    for words in replay.plan.get("never", ()):
        assert [moment for moment, said in replay.says.items() if words in said] == []


@pytest.mark.parametrize("recording", RECORDINGS)
def test_a_job_that_is_on_its_way_for_half_a_minute_says_what_for(recording: str) -> None:
    assert Replay(recording).run().silent == []


@pytest.mark.parametrize("recording", RECORDINGS)
def test_the_operations_of_a_recording_end_in_words(recording: str) -> None:
    replay = Replay(recording).run()
    assert len(replay.followed) == len(replay.plan["operations"])
    assert all(map(ends_as_planned, replay.followed, replay.plan["operations"]))


@pytest.mark.parametrize("recording", RECORDINGS)
def test_an_operation_shows_no_settled_phase_before_its_end_and_none_twice(recording: str) -> None:
    for followed in Replay(recording).run().followed:
        assert followed.settled_while_open == []
        assert len(followed.entered) == len(set(followed.entered))


@settings(max_examples=40)
@given(st.data())
def test_events_that_are_missed_change_no_end(data: st.DataObject) -> None:
    recording = data.draw(st.sampled_from(RECORDINGS))
    plan = plan_of(recording)
    needed = {str(asked["at"]) for asked in plan["operations"]}
    ends = [str(moment) for asked in plan["operations"] for moment in asked["ends"].values()]
    needed |= {moment.removesuffix("+") for moment in ends}  # with a +: by what is seen then, a while later
    replayed = events_of(recording, until=str(plan.get("until", "")))
    events = [e for e in replayed if e.resource == "flinkdeployments"]
    # A STOP deletes because it has seen SUSPENDED: a recorded deletion cannot come of what it has not seen.
    needed |= {e.version for e in events if e.whole.get("status", {}).get("lifecycleState") == "SUSPENDED"}
    versions = [e.version for e in events]
    missed = data.draw(st.sets(st.sampled_from([v for v in versions[1:-1] if v not in needed])))
    replay = Replay(recording, missed=missed).run()
    assert all(map(ends_as_planned, replay.followed, plan["operations"]))
    assert all(followed.settled_while_open == [] for followed in replay.followed)
    assert replay.world.job().phase == list(as_listed(replay.plan["phases"]).values())[-1][-1]
    assert replay.world.job().restarts <= plan.get("restarts", 0), "what was not seen is not counted, and nothing else"


@pytest.mark.parametrize("trouble", [None, PodTrouble("orders-jm", "CrashLoopBackOff", "back-off")])
@pytest.mark.parametrize("version", ["5436", "5437", "5462"])
def test_a_job_that_ran_is_restarting_however_long_its_jobmanager_is_away(
    version: str, trouble: PodTrouble | None
) -> None:
    replay = Replay("jobmanager-unreachable", until=version).run()
    pods = [] if trouble is None else [PodSeen("orders-jm", "jobmanager", "", False, 1, None, [], trouble=trouble)]
    replay.runtime.pods = lambda *_: pods  # type: ignore[method-assign]
    last = [e for e in events_of("jobmanager-unreachable", until=version) if e.resource == "flinkdeployments"][-1]
    for hours in (1, 24, 24 * 365):
        replay.world.clock.advance(hours * 3600)
        replay.runtime.shows(last)
        replay.runtime.forget_history()
        replay.look("later")
        assert replay.world.job().phase is Phase.RESTARTING
        assert replay.world.job().observation is Observation.FRESH
    assert [o for o in replay.world.services.records.operations_of(KEY) if o.is_open] == []
