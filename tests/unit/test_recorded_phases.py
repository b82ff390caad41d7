"""Every event of every recording, against phases and ends that were written by hand (tests/data/phases)."""

from __future__ import annotations

from typing import Any

import pytest

from tests.unit.replay import DATA, RECORDINGS, Followed, Replay

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
    for moment, words in replay.plan["says"].items():
        assert words in replay.says[moment]


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
