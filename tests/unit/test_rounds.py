"""How two sides are compared: what `./run bench` says is what its rounds measured."""

from __future__ import annotations

import json
from argparse import Namespace
from importlib import import_module
from pathlib import Path

import pytest

from benchmarks import latency, operations, rounds
from benchmarks.__main__ import NAMES, main
from benchmarks.rounds import Comparison, Goal, in_turns, percentile

FAST, SLOW = Goal("rate", "bare", least=0.9), Goal("ms", "bare", most=2.0)


def compared(ours: list[float], theirs: list[float], *goals: Goal, figure: str = "rate") -> Comparison:
    sides = {"headrace": [{figure: each} for each in ours], "bare": [{figure: each} for each in theirs]}
    return Comparison("a title", sides, goals, 0.5, 1.5)


def test_a_ratio_is_that_of_the_medians_and_one_bad_round_does_not_move_it() -> None:
    found = compared([80, 1, 90, 85, 1000], [100, 100, 5000, 100, 1], FAST)
    assert found.ratio("rate", "bare") == 0.85
    assert "  headrace / bare: 0.85, wanted at least 0.9: MISSED" in found.lines()


@pytest.mark.parametrize(("ours", "word"), [(2.0, "met"), (2.1, "MISSED")])
def test_a_goal_may_be_an_upper_bound(ours: float, word: str) -> None:
    lines = compared([ours], [1.0], SLOW, figure="ms").lines()
    assert lines[-1] == f"  headrace / bare: {ours:.2f}, wanted at most 2: {word}"


def test_the_table_has_every_round_of_both_sides_and_the_load() -> None:
    told = compared([1, 2], [3, 4]).lines()
    assert told[0] == "a title (load 0.5 before, 1.5 after)"
    assert [line.split() for line in told[3:]] == [
        ["round", "1", "1.00", "3.00"],
        ["round", "2", "2.00", "4.00"],
        ["median", "1.50", "3.50"],
    ]


def test_the_sides_are_measured_in_turns_after_each_has_warmed_up() -> None:
    taken: list[tuple[str, int]] = []

    def side(name: str) -> rounds.Round:
        def measure(number: int) -> dict[str, float]:
            taken.append((name, number))
            return {"rate": float(number)}

        return measure

    found = in_turns("a title", {"headrace": side("h"), "bare": side("b")}, (), 3)
    assert taken == [("h", 0), ("b", 0), ("h", 1), ("b", 1), ("b", 2), ("h", 2), ("h", 3), ("b", 3)]
    assert [each["rate"] for each in found.sides["bare"]] == [1, 2, 3]


@pytest.mark.parametrize(("count", "expected"), [(100, 99), (200, 198), (10, 10), (1, 1)])
def test_the_99th_percentile_is_one_that_was_measured(count: int, expected: int) -> None:
    assert percentile([float(each) for each in range(count, 0, -1)], 0.99) == expected


def test_what_was_measured_is_written_where_that_is_asked_for(tmp_path: Path) -> None:
    file = tmp_path / "found.json"
    found = compared([9.5], [10.0], FAST)
    assert rounds.told(found, Namespace(json=file, rounds=1)) == 0
    content = json.loads(file.read_text())
    assert content["rounds"] == {"headrace": [{"rate": 9.5}], "bare": [{"rate": 10.0}]}
    assert content["ratios"] == [
        {"figure": "rate", "against": "bare", "ratio": 0.95, "wanted": "at least 0.9", "is_met": True}
    ]
    assert content["options"] == {"rounds": 1}


def test_a_rate_counts_what_came_after_the_first_create() -> None:
    assert operations.rate([10.0, 12.0, 10.5, 11.0]) == 1.5


def test_latency_says_the_median_and_what_of_it_is_not_the_apis() -> None:
    assert latency.figures([0.050, 0.060, 0.900]) == {
        latency.WHOLE: pytest.approx(60),
        latency.OWN: pytest.approx(20),
    }


def test_a_benchmark_that_there_is_not_is_answered_with_those_that_there_are(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert [main(["nonsense"]), main([])] == [2, 0]
    said = capsys.readouterr().out
    assert all(name in said for name in NAMES)
    assert all(hasattr(import_module(f"benchmarks.{name}"), "main") for name in NAMES)
