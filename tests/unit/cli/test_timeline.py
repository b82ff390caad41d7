"""The time line: its width is exact, the order is kept, what lasts is seen, and no clock breaks it."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from headrace.cli import timeline
from headrace.cli.timeline import SEVERAL, Span
from headrace.domain.jobs import Phase

NOW = datetime(2026, 11, 27, 12, tzinfo=UTC)
PHASES = [phase.value for phase in Phase]
JOB = {"status": "RUNNING", "created_at": NOW - timedelta(hours=10), "phase_since": None}


def spans_of(*lasting: tuple[str, float]) -> list[Span]:
    """Spans of so many seconds each, the last until now."""
    begin, found = NOW - timedelta(seconds=sum(seconds for _, seconds in lasting)), []
    for phase, seconds in lasting:
        found.append(Span(phase, begin, begin + timedelta(seconds=seconds)))
        begin += timedelta(seconds=seconds)
    return found


def changes(*phases: str, every: float = 60.0, first: int = 1) -> list[dict[str, Any]]:
    """Transitions through these, the last a period ago."""
    begin = NOW - timedelta(seconds=every * (len(phases) - 1))
    return [
        {
            "number": first + at,
            "from": before,
            "to": after,
            "at": (begin + timedelta(seconds=every * at)).isoformat(),
            "gap": False,
        }
        for at, (before, after) in enumerate(pairwise(phases))
    ]


def drawn(found: list[Span], width: int, line: str = timeline.ASCII_LINE) -> list[str]:
    return timeline.drawn(found, width, NOW, line=line, paint=lambda text, _: text)


durations = st.one_of(st.just(0.0), st.floats(0.000_001, 100.0), st.floats(0.0, 1e8))
lives = st.lists(st.tuples(st.sampled_from(PHASES), durations), min_size=1, max_size=150)


@given(lives, st.integers(1, 200))
@example([("RUNNING", 0.0)] * 9, 4)
@example([("RUNNING", 1.0)] * 8 + [("FAILED", 0.0)], 8)
@example([("RUNNING", 1.0), ("FAILED", 0.0)], 1)
def test_a_line_is_of_its_width_in_order_and_shows_what_lasts(life: list[tuple[str, float]], width: int) -> None:
    found = spans_of(*life)
    shown = timeline.parts(found, width)
    assert sum(part.cells for part in shown) == width
    assert all(part.cells >= 1 for part in shown)
    assert len(timeline.drawn(found, width, NOW, line="━", paint=lambda text, _: text)[0]) == width
    phases = [part.phase for part in shown if part.phase != SEVERAL]
    left = iter([span.phase for span in found])
    assert all(phase in left for phase in phases), "in the order in which they came"
    if len(found) <= width:
        assert [part.phase for part in shown] == [span.phase for span in found]
    cell = sum(round(span.seconds * 1_000_000) for span in found) / width
    lasting = [span.phase for span in found[:-1] if cell and round(span.seconds * 1_000_000) >= cell]
    seen = iter(phases)
    assert all(phase in seen for phase in lasting), "what lasts for a cell has one"


@given(lives, st.integers(2, 200))
def test_the_present_phase_is_the_last_one_shown(life: list[tuple[str, float]], width: int) -> None:
    found = spans_of(*life, ("SCALING", 1.0))
    assert timeline.parts(found, width)[-1].phase == "SCALING"


@given(st.lists(st.tuples(st.integers(-100_000, 100_000), st.booleans()), max_size=60), st.integers(-5000, 5000))
def test_times_in_any_order_give_spans_in_the_order_of_the_changes(times: list[tuple[int, bool]], ahead: int) -> None:
    now = NOW + timedelta(seconds=ahead)
    rows = changes(*(PHASES[at % len(PHASES)] for at in range(len(times) + 1)))
    for row, (offset, is_known) in zip(rows, times, strict=True):
        row["at"] = (NOW + timedelta(seconds=offset)).isoformat() if is_known else "soon"
    found = timeline.spans(JOB, rows, now)
    if rows:
        assert [span.phase for span in found] == [rows[0]["from"], *(row["to"] for row in rows)]
    assert all(span.begin <= span.end for span in found)
    assert all(before.end == after.begin for before, after in pairwise(found))
    assert all(len(line) <= 40 for line in drawn(found, 40))


def test_each_phase_has_a_letter_of_its_own() -> None:
    assert sorted(timeline.LETTERS) == sorted(PHASES)
    assert len(set(timeline.LETTERS.values())) == len(PHASES)
    assert not {timeline.UNKNOWN, timeline.SEVERAL} & set(timeline.LETTERS.values())


def test_a_line_can_be_read_without_colours_and_without_blocks() -> None:
    found = spans_of(("STARTING", 600), ("RUNNING", 7200), ("RESTARTING", 60), ("RUNNING", 1200))
    line, axis, legend = drawn(found, 60)
    assert re.fullmatch("s-+R-+rR-+", line)
    assert len(line) == 60
    assert axis == "151m ago" + "now".rjust(52)
    assert legend == "s STARTING 10m   R RUNNING 140m in 2   r RESTARTING 60s"
    assert drawn(found, 60, "━")[0] == line.replace("-", "━")


def test_a_legend_stands_in_as_many_lines_as_it_needs() -> None:
    found = spans_of(*((phase, 60.0) for phase in PHASES))
    for width in (1, 3, 12, 40, 79):
        lines = drawn(found, width)
        assert all(len(line) <= width for line in lines)
        if width >= 40:
            assert all(phase in "".join(lines) for phase in PHASES)


@pytest.mark.parametrize("count", [0, 1])
def test_a_job_of_no_change_or_one_has_a_line(count: int) -> None:
    rows = changes("REQUESTED", "RUNNING")[:count]
    line = drawn(timeline.spans(JOB, rows, NOW), 20)[0]
    assert len(line) == 20
    assert line[0] == ("q" if count else "R")
    assert drawn(timeline.spans({"status": "NEWER"}, [], NOW), 20)[0] == "?" + "-" * 19
    assert drawn([], 20) == []


def test_ten_thousand_changes_are_a_line_that_says_that_several_share_a_cell() -> None:
    rows = changes("REQUESTED", *("RUNNING", "RESTARTING") * 5000, every=10)
    found = timeline.spans(JOB, rows, NOW)
    line, _, legend = drawn(found, 79)
    assert len(line) == 79
    assert SEVERAL * 10 in line
    assert line[-1] == "r"
    assert "RUNNING" in legend
    assert " in 5000" in legend
    assert "* several" in legend


def test_a_long_stay_is_seen_between_thousands_of_short_ones() -> None:
    short = [("RUNNING", 1.0), ("RESTARTING", 1.0)] * 1000
    line = drawn(spans_of(*short, ("SUSPENDED", 2000.0), *short), 60)[0]
    assert re.fullmatch(r"\*+P-+\*+r", line), line
    assert 18 <= line.count("-") + 1 <= 22


def test_the_time_before_the_first_change_is_shown_where_it_is_known() -> None:
    rows = changes("REQUESTED", "SUBMITTING", "RUNNING")
    assert [span.phase for span in timeline.spans(JOB, rows, NOW)] == ["REQUESTED", "SUBMITTING", "RUNNING"]
    later = changes("SCALING", "RUNNING", first=1001)
    assert [span.phase for span in timeline.spans(JOB, later, NOW)] == ["RUNNING"]
    assert timeline.notes(later) == ["1000 earlier changes are not shown"]


def test_a_run_that_is_accepted_and_has_not_begun_ends_the_line() -> None:
    rows = changes("RUNNING", "FINISHED", first=7, every=60)
    accepted = {"status": "REQUESTED", "phase_since": (NOW - timedelta(seconds=20)).isoformat()}
    found = timeline.spans({**JOB, **accepted}, rows, NOW)
    assert [(span.phase, span.seconds) for span in found] == [("FINISHED", 40.0), ("REQUESTED", 20.0)]
    stale = {"status": "RUNNING", "phase_since": (NOW - timedelta(hours=2)).isoformat()}
    assert [span.phase for span in timeline.spans({**JOB, **stale}, rows, NOW)] == ["FINISHED"]


def test_what_a_line_cannot_show_is_said() -> None:
    rows = changes("REQUESTED", "SUBMITTING", "STARTING", "RUNNING")
    assert timeline.notes(rows) == []
    rows[1]["gap"], rows[2]["at"] = True, "2026-01-01T00:00:00Z"
    assert timeline.notes(rows) == [
        "before 1 of these changes others may have been missed (gap)",
        "1 of these times lie before the one above them: clocks differ",
    ]
